"""The encoder against scikit-learn, NumPy and the book's numbers, and tables that do not fit it."""

import dataclasses
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from jaxdl.data import TableEncoder, load, read_csv_table

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
nan = np.nan


def table_of(seed, num_rows):
    """Two columns of numbers and two of text, of which a quarter is missing."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(50, 20, (2, num_rows))
    texts = rng.choice(["grass", "gravel", "Ödland", "paved"], (2, num_rows))
    numbers[rng.random(numbers.shape) < 0.25] = nan
    texts[rng.random(texts.shape) < 0.25] = ""
    return {"street": texts[0], "area": numbers[0], "alley": texts[1], "age": numbers[1]}


def test_the_books_table(tmp_path):
    """D2L 2.2, from the file to the features."""
    (tmp_path / "tiny.csv").write_text(
        "NumRooms,RoofType,Price\nNA,NA,127500\n2,NA,106000\n4,Slate,178100\nNA,NA,140000\n"
    )
    inputs = read_csv_table(tmp_path / "tiny.csv")
    assert inputs.pop("Price").tolist() == [127500, 106000, 178100, 140000]
    encoder = TableEncoder.fit(inputs, scaling=None)
    features = encoder(inputs)
    assert features.dtype == np.float32
    assert dict(zip(encoder.feature_names, features.T.tolist(), strict=True)) == {
        "NumRooms": [3, 2, 4, 3],
        "RoofType_Slate": [0, 0, 1, 0],
        "RoofType_nan": [1, 1, 0, 1],
    }


@pytest.mark.parametrize("scaling", ["z_score", "min_max", None])
def test_features_are_scikit_learns(scaling):
    """Fitted to one table, applied to another, whose numbers leave the range of the first."""
    train, test = table_of(0, 60), table_of(1, 30)
    encoder = TableEncoder.fit(train, scaling=scaling)
    names = [
        f"{column}_{end}" for column in ("street", "alley") for end in ("grass", "gravel", "paved", "Ödland", "nan")
    ]
    assert encoder.feature_names == ("area", "age", *names)

    def numbers(table):
        return np.stack([table["area"], table["age"]], axis=1)

    def texts(table):
        return np.stack([table["street"], table["alley"]], axis=1).astype(object)

    # Scaled first and then imputed: scikit-learn's scalers skip NaN, and their statistics are those of what is there.
    scaler = {"z_score": StandardScaler(), "min_max": MinMaxScaler(), None: None}[scaling]
    imputer, one_hot = SimpleImputer(), OneHotEncoder(sparse_output=False)
    scaled = numbers(train) if scaler is None else scaler.fit_transform(numbers(train))
    imputer.fit(scaled)
    one_hot.fit(np.concatenate([texts(train), [["", ""]]]))
    for table in (train, test):
        columns = imputer.transform(numbers(table) if scaler is None else scaler.transform(numbers(table)))
        if scaling == "z_score":  # scikit-learn divides by the deviation over rows, we by that over rows - 1
            present = (~np.isnan(numbers(train))).sum(axis=0)
            columns = columns * np.sqrt((present - 1) / present)
        codes = one_hot.transform(texts(table)).reshape(-1, 2, 5)[:, :, [1, 2, 3, 4, 0]]  # "" last
        expected = np.concatenate([columns, codes.reshape(-1, 10)], axis=1)
        np.testing.assert_allclose(encoder(table), expected, rtol=1e-6, atol=1e-6)


def test_interpolation():
    values = np.array([nan, 1, nan, nan, 4, nan])
    encoder = TableEncoder.fit({"x": values}, imputation="interpolate", scaling=None)
    assert encoder({"x": values})[:, 0].tolist() == [1, 1, 2, 3, 4, 4]
    assert encoder({"x": np.array([10, nan, 30])})[:, 0].tolist() == [10, 20, 30]  # neighbours of this table
    assert encoder({"x": np.array([nan, nan])})[:, 0].tolist() == [2.5, 2.5]  # the mean of the fit
    assert TableEncoder.fit({"x": values}, imputation="interpolate")({"x": values})[2, 0] == pytest.approx(
        (2 - 2.5) / np.std([1, 4], ddof=1), rel=1e-6
    )


@pytest.mark.skipif(
    not (REAL / "kaggle_house/train.csv").is_file(),
    reason="needs the house prices: set JAXDL_TEST_DATA to a folder that has them in kaggle_house/",
)
def test_the_features_of_house_prices():
    """D2L 5.7: 79 columns become 331 features, or 330 if the text "None" counts as missing."""
    train, test = (load("kaggle_house", split, directory=REAL, download=False) for split in ("train", "test"))
    table = {name: np.concatenate([train[name], test[name]]) for name in test if name != "Id"}
    encoder = TableEncoder.fit(table)
    features = encoder(table)
    assert features.shape == (2919, 331)
    assert len(encoder.numeric) == 36
    np.testing.assert_allclose(features[:, :36].mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_array_equal(features[:, 36:].sum(axis=1), 43)  # one of each column of text
    table["MasVnrType"] = np.where(table["MasVnrType"] == "None", "", table["MasVnrType"])
    assert TableEncoder.fit(table)(table).shape == (2919, 330)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 9),
    factor=st.sampled_from([0.001, 3.0, 1e6]),
    offset=st.sampled_from([-7.0, 0.0, 1e4]),
    scaling=st.sampled_from(["z_score", "min_max"]),
    imputation=st.sampled_from(["mean", "interpolate"]),
)
def test_units_do_not_matter(seed, factor, offset, scaling, imputation):
    column = {"area": table_of(seed, 12)["area"]}
    other = {"area": factor * column["area"] + offset}
    features = [TableEncoder.fit(t, scaling=scaling, imputation=imputation)(t) for t in (column, other)]
    np.testing.assert_allclose(*features, rtol=1e-6, atol=1e-6)  # float32; offset / factor costs float64 up to 1e7


def test_rows_are_encoded_one_by_one():
    """Nothing of the other rows of a table is in a row of its features."""
    encoder, table = TableEncoder.fit(table_of(0, 30)), table_of(1, 20)
    part = {name: values[5:8] for name, values in table.items()}
    np.testing.assert_array_equal(encoder(part), encoder(table)[5:8])
    assert encoder({name: values[:0] for name, values in table.items()}).shape == (0, 12)


def test_what_the_fit_did_not_see():
    encoder = TableEncoder.fit({"roof": np.array(["slate", "tin"]), "rooms": np.array([2, 4])})
    table = {"rooms": np.array([3, 5]), "roof": np.array(["straw", "tin"]), "price": np.array(["?", "?"])}
    expected = [[0, 0, 0, 0], [np.sqrt(2), 0, 1, 0]]  # straw is nothing; the price is not used
    np.testing.assert_allclose(encoder(table), expected, rtol=1e-6)
    assert encoder(table | {"roof": np.array([nan, nan])})[:, 1:].tolist() == [[0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize("scaling", ["z_score", "min_max"])
@pytest.mark.parametrize("values", [[0.1] * 10, [7.0], [-5, nan, -5]])
def test_constant_columns_become_zero(scaling, values):
    """0.1 ten times has a standard deviation of 1e-17, by rounding."""
    table = {"x": np.array(values)}
    encoder = TableEncoder.fit(table, scaling=scaling)
    assert not encoder(table).any()
    assert encoder({"x": np.array([values[0] + 1])}) == pytest.approx(1)  # in the unit of the column


def test_types_of_columns():
    """Integers, booleans and float16 are numbers; fixed-width, variable-width and object strings are text."""
    words = ["b", "", "a"]
    tables = [
        {"n": np.array([0, 1, 1], number), "t": np.array(words, text)}
        for number in (np.int64, np.uint8, bool, np.float16)
        for text in (np.str_, np.dtypes.StringDType(), object)
    ]
    encoders = {TableEncoder.fit(table) for table in tables}  # equal, and hashable
    (encoder,) = encoders
    assert encoder.text[0].categories == ("a", "b")
    assert pickle.loads(pickle.dumps(encoder)) == encoder
    assert len({encoder(table).tobytes() for table in tables}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        encoder.numeric = ()


def test_a_column_of_text_without_any():
    encoder = TableEncoder.fit({"t": np.array(["", ""])})
    assert encoder.feature_names == ("t_nan",)
    assert encoder({"t": np.array(["x", ""])}).tolist() == [[0], [1]]


FITTED = {"n": np.array([1.0, 2.0]), "t": np.array(["a", "b"])}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"n": np.array(["1", "2"])}, "table: expected numbers in column 'n', got <U1"),
        ({"n": np.array([1j, 2])}, "table: expected numbers in column 'n', got complex128"),
        ({"n": np.array([1.0, None])}, "table: expected numbers in column 'n', got object"),
        ({"n": np.array([1.0, -np.inf])}, "table: expected numbers within 3.4e.38 or NaN in column 'n', got -inf"),
        ({"n": np.array([1e39, 1.0])}, "got 1e.39"),
        ({"t": np.array([1, 2])}, "table: expected text in column 't', got int64"),
        ({"t": np.array([1.0, nan])}, "table: expected text in column 't', got float64"),
        ({"t": np.array(["a"])}, "table: expected one or more columns .* of one length"),
        ({"n": np.array([[1.0], [2.0]])}, "table: expected one or more columns .* of one length"),
        ({"n": np.array(1.0)}, "table: expected one or more columns .* of one length"),
        ({"t": None}, "table: expected the columns of the fit, got none called 't'"),
        ({"t": None, "n": None, "x": FITTED["n"]}, "got none called 'n', 't'"),
        ({"t": None, "n": None}, "table: expected one or more columns"),
    ],
)
def test_tables_that_do_not_fit(changes, match):
    table = {name: values for name, values in (FITTED | changes).items() if values is not None}
    with pytest.raises(ValueError, match=match):
        TableEncoder.fit(FITTED)(table)


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        ({}, {}, "table: expected one or more columns"),
        ({"n": np.array([nan, nan])}, {}, "table: expected at least one number in column 'n' to fit to, got none"),
        ({"n": np.array([])}, {}, "table: expected at least one number in column 'n'"),
        ({"n": np.array([1, np.inf])}, {}, "got inf"),
        ({"n": np.array([1.0, "a"], object)}, {}, "table: expected numbers in column 'n', got object"),
        (FITTED, {"imputation": "median"}, "imputation: expected 'mean' or 'interpolate', got 'median'"),
        (FITTED, {"scaling": "robust"}, "scaling: expected 'z_score', 'min_max' or None, got 'robust'"),
    ],
)
def test_fits_that_cannot_be(table, options, match):
    with pytest.raises(ValueError, match=match):
        TableEncoder.fit(table, **options)


def test_the_deviation_of_tiny_differences_does_not_underflow():
    table = {"a": np.array([0.0, 1e-170])}
    np.testing.assert_allclose(TableEncoder.fit(table)(table)[:, 0], [-(0.5**0.5), 0.5**0.5], rtol=1e-6)
