"""Where batches come from.

`load("mnist", "train[:80%]")` gives a data set as a dict of NumPy arrays: downloaded once and verified, or from
scikit-learn (`"digits"`, `"diabetes"` ...), which needs no network; `linear_regression` and its like generate data with
known answers. `read_csv_table(path)` reads a table into columns, `TableEncoder.fit(table)` turns columns into features:
imputed, scaled, one-hot. `DeviceData(arrays, batch_size, train=True)` puts the arrays on the device and gathers
shuffled batches there; `HostData` does the same in NumPy, for arrays too large for the device; `pipeline` adds
augmentation and worker processes, on Grain. All three give the same batches: `batches(epoch, start)` depends on nothing
but the seed and its arguments, so a run resumes anywhere, and in evaluation every example comes exactly once, with
"mask" telling it from padding. The readers of files that are not trusted, `read_csv_table`, `read_idx` and
`extract_archive`, raise `DataError` whatever is in them.
"""

from jaxdl.data.archives import extract_archive
from jaxdl.data.datasets import data_dir, list_datasets, load
from jaxdl.data.device_data import DeviceData
from jaxdl.data.errors import DataError, DatasetUnavailable
from jaxdl.data.folds import k_fold
from jaxdl.data.grain_pipeline import pipeline
from jaxdl.data.host_data import HostData
from jaxdl.data.idx import read_idx
from jaxdl.data.images import resize
from jaxdl.data.regression import high_dimensional_regression, linear_regression, polynomial_regression
from jaxdl.data.splits import parse_split
from jaxdl.data.table_encoder import TableEncoder
from jaxdl.data.tables import read_csv_table

__all__ = [
    "DataError",
    "DatasetUnavailable",
    "DeviceData",
    "HostData",
    "TableEncoder",
    "data_dir",
    "extract_archive",
    "high_dimensional_regression",
    "k_fold",
    "linear_regression",
    "list_datasets",
    "load",
    "parse_split",
    "pipeline",
    "polynomial_regression",
    "read_csv_table",
    "read_idx",
    "resize",
]
