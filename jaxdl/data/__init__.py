"""Where batches come from.

`load("mnist", "train[:80%]")` gives a data set as a dict of NumPy arrays: downloaded once and verified, or from
scikit-learn (`"digits"`, `"diabetes"` ...), which needs no network; `linear_regression` and its like generate data with
known answers. `read_csv_table(path)` reads a table into columns, `TableEncoder.fit(table)` turns columns into features:
imputed, scaled, one-hot. `DeviceData(arrays, batch_size, train=True)` puts the arrays on the device and gathers
shuffled batches there; `HostData` does the same in NumPy, for arrays too large for the device; `pipeline` adds
augmentation and worker processes, on Grain. All three give the same batches: `batches(epoch, start)` depends on nothing
but the seed and its arguments, so a run resumes anywhere, and in evaluation every example comes exactly once, with
"mask" telling it from padding.

Text is `load("pydoc")["text"]`, characters. `clean_text` and `tokenize` make tokens of it, a `Vocab` numbers them, and
`sequential_partition`, `random_partition` or `overlapping_windows` cut the numbers into batches for a language model.
`BytePairEncoder`, `WordPiece` and `UnigramTokenizer` cut words into pieces. Pairs of sentences become arrays by
`encode_pairs`; `number_words` generates such pairs, `LengthBuckets` batches sequences of similar length.

The readers of files that are not trusted, `read_text`, `read_sentence_pairs`, `read_csv_table`, `read_idx` and
`extract_archive`, raise `DataError` whatever is in them.
"""

from jaxdl.data.archives import extract_archive
from jaxdl.data.byte_pair import BytePairEncoder
from jaxdl.data.datasets import data_dir, list_datasets, load
from jaxdl.data.device_data import DeviceData
from jaxdl.data.errors import DataError, DatasetUnavailable
from jaxdl.data.folds import k_fold
from jaxdl.data.grain_pipeline import pipeline
from jaxdl.data.host_data import HostData
from jaxdl.data.idx import read_idx
from jaxdl.data.images import resize
from jaxdl.data.length_buckets import LengthBuckets
from jaxdl.data.number_words import english_number, french_number, number_words
from jaxdl.data.regression import high_dimensional_regression, linear_regression, polynomial_regression
from jaxdl.data.sequence_partition import overlapping_windows, random_partition, sequential_partition
from jaxdl.data.sequences import noisy_sine
from jaxdl.data.splits import parse_split
from jaxdl.data.table_encoder import TableEncoder
from jaxdl.data.tables import read_csv_table
from jaxdl.data.text import clean_text, ngram_counts, tokenize
from jaxdl.data.text_files import read_sentence_pairs, read_text
from jaxdl.data.translation_pairs import clean_sentence, decode_sentence, encode_pairs, encode_sentences, sentence_vocab
from jaxdl.data.unigram_tokenizer import UnigramTokenizer
from jaxdl.data.vocab import Vocab
from jaxdl.data.word_piece import WordPiece, longest_match

__all__ = [
    "BytePairEncoder",
    "DataError",
    "DatasetUnavailable",
    "DeviceData",
    "HostData",
    "LengthBuckets",
    "TableEncoder",
    "UnigramTokenizer",
    "Vocab",
    "WordPiece",
    "clean_sentence",
    "clean_text",
    "data_dir",
    "decode_sentence",
    "encode_pairs",
    "encode_sentences",
    "english_number",
    "extract_archive",
    "french_number",
    "high_dimensional_regression",
    "k_fold",
    "linear_regression",
    "list_datasets",
    "load",
    "longest_match",
    "ngram_counts",
    "noisy_sine",
    "number_words",
    "overlapping_windows",
    "parse_split",
    "pipeline",
    "polynomial_regression",
    "random_partition",
    "read_csv_table",
    "read_idx",
    "read_sentence_pairs",
    "read_text",
    "resize",
    "sentence_vocab",
    "sequential_partition",
    "tokenize",
]
