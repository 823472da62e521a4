"""From the columns of a table to the features of a model: imputation, scaling and one-hot codes (D2L 2.2, 5.7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Imputation = Literal["mean", "interpolate"]
Scaling = Literal["z_score", "min_max"]


class NumericColumn(NamedTuple):
    """What a fit knows of a column of numbers: a missing one becomes `mean`, and x becomes `(x - shift) / scale`."""

    name: str
    mean: float
    shift: float
    scale: float


class TextColumn(NamedTuple):
    """What a fit knows of a column of text: its categories, in the order of their code points."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class TableEncoder:
    """A function from tables to features, with the statistics of the one table that it was fitted to.

    Fitted to training data and called on both, it lets nothing of the test data into the training. Columns of numbers
    come first, one feature each; then columns of text, one feature for each category and one for "missing", of which
    one is 1 and the others are 0. A category that the fit did not see is all zeros. Columns that the fit did not see
    are not used.

    Attributes:
      numeric: the columns of numbers.
      text: the columns of text.
      imputation: what a missing number becomes; see `fit`.

    >>> nan = np.nan  # the table of D2L 2.2
    >>> houses = {"NumRooms": np.array([nan, 2, 4, nan]), "RoofType": np.array(["", "", "Slate", ""])}
    >>> encoder = TableEncoder.fit(houses, scaling=None)
    >>> encoder.feature_names
    ('NumRooms', 'RoofType_Slate', 'RoofType_nan')
    >>> encoder(houses)
    array([[3., 0., 1.],
           [2., 0., 1.],
           [4., 1., 0.],
           [3., 0., 1.]], dtype=float32)
    """

    numeric: tuple[NumericColumn, ...]
    text: tuple[TextColumn, ...]
    imputation: Imputation

    @classmethod
    def fit(
        cls, table: Mapping[str, np.ndarray], *, imputation: Imputation = "mean", scaling: Scaling | None = "z_score"
    ) -> "TableEncoder":
        """Fits an encoder to a table.

        Args:
          table: columns `[rows]` by name, as from `read_csv_table`: numbers with NaN where one is missing, or text with
            "" there.
          imputation: "mean" puts the mean of the fitted column for a missing number; "interpolate" draws a line
            between its neighbours in the table that is encoded, goes on with the nearest number at both ends, and puts
            the mean of the fitted column where the table has no number at all.
          scaling: "z_score" gives mean 0 and standard deviation 1 (of the sample, with rows - 1 in the denominator as
            in pandas and the book; scikit-learn has rows), "min_max" the range [0, 1], None the numbers as they are.
            The statistics are those of the numbers that are there, so under "z_score" a missing one becomes 0. A
            constant column becomes 0. Other tables may leave the range.

        Raises:
          ValueError: if the table has no column, columns of different lengths, a number that is infinite or beyond
            float32, a type that is neither numbers nor text, or a column of numbers without a number; or if an option
            is unknown.
        """
        if imputation not in ("mean", "interpolate"):
            raise ValueError(f"imputation: expected 'mean' or 'interpolate', got {imputation!r}")
        if scaling not in ("z_score", "min_max", None):
            raise ValueError(f"scaling: expected 'z_score', 'min_max' or None, got {scaling!r}")
        _check_columns(table)
        numeric, text = [], []
        for name, values in table.items():
            if _is_text(values):
                text.append(TextColumn(name, tuple(str(value) for value in np.unique(values) if value)))
            else:
                numeric.append(_fit_numbers(name, _numbers(name, values), scaling))
        return cls(tuple(numeric), tuple(text), imputation)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of each feature: `NAME` for numbers, `NAME_CATEGORY` and `NAME_nan` for text, as pandas names them."""
        categories = ((column.name, category) for column in self.text for category in (*column.categories, "nan"))
        return (*(column.name for column in self.numeric), *(f"{name}_{category}" for name, category in categories))

    def __call__(self, table: Mapping[str, np.ndarray]) -> np.ndarray:
        """Encodes a table with the columns of the fitted one, and perhaps others.

        Args:
          table: columns `[rows]`; rows may be 0. A column of NaN alone is also a column of text without any, as a CSV
            file cannot tell.

        Returns:
          float32 `[rows, features]`.

        Raises:
          ValueError: if a column is missing or has numbers instead of text or text instead of numbers, and as `fit`.
        """
        _check_columns(table)
        if lacking := [column.name for column in (*self.numeric, *self.text) if column.name not in table]:
            raise ValueError(f"table: expected the columns of the fit, got none called {', '.join(map(repr, lacking))}")
        features = [self._encode_numbers(column, _numbers(column.name, table[column.name])) for column in self.numeric]
        for column in self.text:
            values = _texts(column.name, table[column.name])
            features += [values == category for category in (*column.categories, "")]
        return np.stack(features, axis=1, dtype=np.float32, casting="unsafe")

    def _encode_numbers(self, column: NumericColumn, numbers: np.ndarray) -> np.ndarray:
        absent, rows = np.isnan(numbers), np.arange(len(numbers))
        if self.imputation == "interpolate" and not absent.all():
            numbers = np.interp(rows, rows[~absent], numbers[~absent])
        else:
            numbers = np.where(absent, column.mean, numbers)
        return (numbers - column.shift) / column.scale


def _fit_numbers(name: str, numbers: np.ndarray, scaling: Scaling | None) -> NumericColumn:
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        raise ValueError(f"table: expected at least one number in column {name!r} to fit to, got none; leave it out")
    low, high, mean = numbers.min(), numbers.max(), numbers.mean()
    if scaling is None:
        shift, scale = 0.0, 1.0
    elif low == high:  # rounding may give the mean and the standard deviation other values than low and 0
        mean, shift, scale = low, low, 1.0
    else:
        shift, scale = (mean, _deviation(numbers)) if scaling == "z_score" else (low, high - low)
    return NumericColumn(name, float(mean), float(shift), float(scale))


def _deviation(numbers: np.ndarray) -> float:
    spread = np.ptp(numbers)  # divided out: the squares of small differences underflow
    return (numbers / spread).std(ddof=1) * spread


def _check_columns(table: Mapping[str, np.ndarray]) -> None:
    shapes = {name: np.shape(values) for name, values in table.items()}
    if not shapes or any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"table: expected one or more columns [rows] of one length, got shapes {shapes}")


def _is_text(values: np.ndarray) -> bool:
    values = np.asarray(values)
    return values.dtype.kind in "UT" or (values.dtype.kind == "O" and all(isinstance(value, str) for value in values))


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"table: expected numbers in column {name!r}, got {values.dtype}")
    numbers, largest = values.astype(np.float64), np.finfo(np.float32).max
    if (wrong := numbers[np.abs(numbers) > largest]).size:
        raise ValueError(f"table: expected numbers within {largest:.1e} or NaN in column {name!r}, got {wrong[0]}")
    return numbers


def _texts(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind == "f" and np.isnan(values).all():
        return np.full(len(values), "")
    if not _is_text(values):
        raise ValueError(f"table: expected text in column {name!r}, got {values.dtype}")
    return values
