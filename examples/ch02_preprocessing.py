"""From a CSV file with gaps to arrays (D2L 2.2): by pandas, and by this library's own table encoder.

    python examples/ch02_preprocessing.py
    python examples/ch02_preprocessing.py --csv houses.csv --target Price

The default writes the book's table of four houses into the run's folder. pandas is the tool to look around in a table;
`jaxdl.data.TableEncoder` does the same three steps (one-hot codes, means for missing numbers, arrays) and remembers the
means and categories of the training table, so that a test table is encoded by them. Takes 2 s.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxdl import experiment
from jaxdl.data import TableEncoder, read_csv_table

HOUSES = """NumRooms,RoofType,Price
NA,NA,127500
2,NA,106000
4,Slate,178100
NA,NA,140000
"""


@dataclass(frozen=True)
class Config:
    """Prepares a table."""

    csv: Path | None = None
    """A CSV file with a header; default: the book's four houses."""
    target: str = "Price"
    """The column to predict."""


def with_pandas(path: Path, target: str) -> tuple[pd.DataFrame, Any]:
    """Inputs and targets: a column for each category and for "missing", and means where numbers are missing."""
    table = pd.read_csv(path)
    inputs, targets = table.drop(columns=target), table[target]
    inputs = pd.get_dummies(inputs, dummy_na=True)  # RoofType becomes RoofType_Slate and RoofType_nan
    return inputs.fillna(inputs.mean()), targets


def with_table_encoder(path: Path, target: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The same features as one array, and their names."""
    table = read_csv_table(path)
    del table[target]
    encoder = TableEncoder.fit(table, scaling=None)
    return encoder(table), encoder.feature_names


def main(config: Config) -> dict[str, float]:
    """Prints each step, and returns the means of the features."""
    path = config.csv or experiment.run_folder("ch02_preprocessing") / "house_tiny.csv"
    if config.csv is None:
        path.write_text(HOUSES)
    print(f"{path}:\n{pd.read_csv(path).head()}\n")
    if config.target not in pd.read_csv(path, nrows=0).columns:
        raise SystemExit(f"error: {path} has no column {config.target!r}; choose one with --target")

    inputs, targets = with_pandas(path, config.target)
    print(f"inputs, categories as columns, missing numbers as means:\n{inputs.head()}\n")
    x, y = jnp.asarray(inputs.to_numpy(dtype=float)), jnp.asarray(targets.to_numpy(dtype=float))
    print(f"arrays: x {x.dtype}{list(x.shape)}, y {y.dtype}{list(y.shape)}\n{x[:4]}\n{y[:4]}")

    encoded, names = with_table_encoder(path, config.target)
    order = [names.index(column) for column in inputs.columns]
    np.testing.assert_allclose(encoded[:, order], x, rtol=1e-6)
    print(f"\nTableEncoder gives the same {len(names)} features: {', '.join(names)}")
    if config.csv is None:
        check_the_books_table(x, y)
    return {name: float(mean) for name, mean in zip(inputs.columns, x.mean(0), strict=True)}


def check_the_books_table(x: jax.Array, y: jax.Array) -> None:
    """NumRooms, RoofType_Slate, RoofType_nan, and Price."""
    np.testing.assert_array_equal(x.T, [[3, 2, 4, 3], [0, 0, 1, 0], [1, 1, 0, 1]])
    np.testing.assert_array_equal(y, [127500, 106000, 178100, 140000])


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
