"""The tables that `load` knows, in the formats in which they are published.

Features stay in the units in which they were measured: scale them by what the training examples show.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.tables import read_csv_table

AIRFOIL_COLUMNS = (
    "frequency",  # Hz
    "angle_of_attack",  # degrees
    "chord_length",  # m
    "free_stream_velocity",  # m/s
    "displacement_thickness",  # m, of the suction side
    "sound_pressure_level",  # dB
)


def read_breast_cancer(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """scikit-learn's breast cancer data (Wisconsin, diagnostic): 30 measurements of cell nuclei; 0 malignant, 1 benign.

    Returns:
      `x`, float32 `[examples, 30]`, and `label`, int32 `[examples]`.
    """
    del files  # the data ships with scikit-learn
    x, label = _embedded("breast_cancer", split)
    return {"x": x.astype(np.float32), "label": label.astype(np.int32)}


def read_wine(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """scikit-learn's wine data: 13 chemical measurements of wines from three cultivars of grape.

    Returns:
      `x`, float32 `[examples, 13]`, and `label`, int32 `[examples]`, 0 to 2.
    """
    del files
    x, label = _embedded("wine", split)
    return {"x": x.astype(np.float32), "label": label.astype(np.int32)}


def read_diabetes(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """scikit-learn's diabetes data (Efron et al., 2004, "Least Angle Regression"), not scaled.

    The features are age in years, sex (1 or 2), body mass index in kg/m^2, mean blood pressure in mmHg and six blood
    serum measurements; the target is a measure of the disease's progression after a year, 25 to 346. (scikit-learn's
    default scales the features by all examples, those of the test included.)

    Returns:
      `x`, float32 `[examples, 10]`, and `y`, float32 `[examples, 1]`.
    """
    del files
    x, y = _embedded("diabetes", split, scaled=False)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)[:, None]}


def read_airfoil(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """NASA's airfoil self-noise (Brooks, Pope and Marcolini, 1989): the data of D2L 12.5 to 12.11.

    Returns:
      `x`, float32 `[examples, 5]`, and `y`, float32 `[examples, 1]`, the columns of `AIRFOIL_COLUMNS`.

    Raises:
      DataError: if the file is not of six columns of numbers.
    """
    del split
    (file,) = files
    table = read_csv_table(file, delimiter="\t", column_names=AIRFOIL_COLUMNS)
    for name, values in table.items():
        if values.dtype.kind != "f" or np.isnan(values).any():
            raise DataError(file, f"column {name}", "numbers, none missing", "text or a missing number")
    columns = np.stack(list(table.values()), axis=1).astype(np.float32)
    return {"x": columns[:, :-1], "y": columns[:, -1:]}


def read_kaggle_house(split: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """House sales in Ames, Iowa (De Cock, 2011), as in Kaggle's competition "House Prices" and D2L 5.7.

    Returns:
      The columns by name: `Id`, 79 features and, of "train", `SalePrice` in dollars.

    Raises:
      DataError: if the file is malformed or lacks the numbers of `Id` or `SalePrice`.
    """
    (file,) = files
    table = read_csv_table(file)
    for name in ("Id", "SalePrice") if split == "train" else ("Id",):
        if name not in table or table[name].dtype.kind != "f" or np.isnan(table[name]).any():
            raise DataError(file, f"column {name}", "a number in each row", "something else")
    return table


def _embedded(name: str, split: str, **options: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of a table of scikit-learn's, whose rows may be in an order that means something.

    One fixed permutation (of NumPy's legacy generator, whose stream is frozen, seed 0) puts four fifths, rounded down,
    into "train" and the others into "test".
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(f"the data set {name!r} needs scikit-learn: pip install -e '.[examples]'") from error
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
    order, num_train = np.random.RandomState(0).permutation(len(y)), len(y) * 4 // 5
    order = order[:num_train] if split == "train" else order[num_train:]
    return x[order], y[order]
