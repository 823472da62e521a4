"""Text as tokens (D2L 9.2, 9.3 and 15.6): how often they occur, and characters, words and pieces side by side.

    python examples/ch09_tokenizers.py
    python examples/ch09_tokenizers.py --data time_machine

It trains on nine tenths of a text, cleaned to letters and blanks, and measures on the last tenth (of `pydoc`: on every
tenth paragraph). On an AMD EPYC it takes 5 s of processor time and finds, with Python 3.11:

| held-out text          | pydoc: size | tokens a word | unknown | time_machine: size | tokens a word | unknown |
|------------------------|-------------|---------------|---------|--------------------|---------------|---------|
| characters             | 29          | 5.86          | 0       | 29                 | 5.14          | 0       |
| byte pair encoding     | 2,000       | 1.18          | 0       | 2,000              | 1.36          | 0       |
| WordPiece              | 2,000       | 1.22          | 0       | 2,000              | 1.40          | 0       |
| unigram                | 2,000       | 1.15          | 0       | 2,000              | 1.39          | 0       |
| words                  | 2,000       | 1             | 5.0 %   | 2,000              | 1             | 13.3 %  |
| words, all of training | 3,016       | 1             | 3.1 %   | 4,319              | 1             | 8.4 %   |

Words occur as rank^-1.07 (time_machine: -1.04), pairs of words as rank^-0.63 (-0.69): Zipf's law.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from jaxdl import experiment, plotting
from jaxdl.data import BytePairEncoder, UnigramTokenizer, Vocab, WordPiece, clean_text, load, ngram_counts, tokenize

SPLITS = {
    "pydoc": ("train", "test"),
    "time_machine": ("train[:90%]", "train[90%:]"),
    "tiny_shakespeare": ("train[:90%]", "train[90%:]"),
}
Pieces = BytePairEncoder | UnigramTokenizer | WordPiece
NGRAMS = {"words": 1, "pairs of words": 2, "triples of words": 3}


@dataclass(frozen=True)
class Config:
    """Counts tokens and trains tokenizers."""

    data: Literal["pydoc", "time_machine", "tiny_shakespeare"] = "pydoc"
    """The text; the default ships with Python."""
    vocab_size: int = 2000
    """Tokens of the largest vocabulary of pieces."""
    folder: Path | None = None
    """Where the pictures go; default: a new run's folder."""

    def __post_init__(self) -> None:
        if self.vocab_size < 64:
            raise ValueError(f"vocab_size: expected at least 64, got {self.vocab_size}")


def frequencies(words: Sequence[str], folder: Path, figures: dict[str, float]) -> None:
    """9.2 and 9.3: frequent words and n-grams, and how fast the frequencies fall."""
    curves, top = {}, {}
    for name, n in NGRAMS.items():
        counts = ngram_counts(words, n).most_common()
        curves[name] = np.array([count for _, count in counts])
        top[name] = [f"{' '.join(ngram)} {count}" for ngram, count in counts[:8]]
        figures[f"zipf/{n}"] = zipf_exponent(curves[name])
    print("9.2  The most frequent")
    print("  " + "".join(f"{name:<24}" for name in top))
    for row in zip(*top.values(), strict=True):
        print("  " + "".join(f"{cell:<24}" for cell in row))
    exponents = ", ".join(f"a = {figures[f'zipf/{n}']:.2f} for {name}" for name, n in NGRAMS.items())
    print(f"     From rank 10 to 1,000 they occur as rank^-a: {exponents}\n")

    picture = plotting.figure(5.5, 3.8)
    axes = picture.subplots()
    for name, curve in curves.items():
        axes.loglog(np.arange(1, len(curve) + 1), curve, label=f"{name}, a = {figures[f'zipf/{NGRAMS[name]}']:.2f}")
    axes.set(xlabel="rank", ylabel="occurrences", title="Zipf's law: occurrences fall as rank$^{-a}$")
    axes.grid(alpha=0.3)
    axes.legend(title="a fitted to ranks 10 to 1,000")
    picture.savefig(folder / "zipf.png", dpi=120)


def zipf_exponent(counts: np.ndarray, first: int = 10, last: int = 1000) -> float:
    """Minus the slope of log count over log rank, by least squares over the ranks from `first` to `last`."""
    rank = np.arange(first, min(last, len(counts)) + 1)
    slope, _ = np.polyfit(np.log(rank), np.log(counts[rank - 1]), 1)
    return -float(slope)


def compare(train: str, test: str, vocab_size: int, folder: Path, figures: dict[str, float]) -> None:
    """15.6: characters, pieces and words on held-out text, at one size of the vocabulary and as it grows."""
    seen, held_out = (Counter(tokenize(text, "word")) for text in (train, test))
    byte_pair = BytePairEncoder.train(seen, vocab_size)  # with some merges more than fill the vocabulary
    byte_pair = smaller_byte_pair(byte_pair, vocab_size)
    word_piece = WordPiece.train(seen, vocab_size)
    unigram = UnigramTokenizer.train(seen, vocab_size, start_of_word="_")
    characters = Vocab.from_corpus(train)
    words = Vocab.from_corpus(seen)
    sizes = sorted({round(size) for size in np.geomspace(64, vocab_size, 8)})
    curves = {
        "BPE": [tokens_per_word(smaller_byte_pair(byte_pair, size), held_out) for size in sizes],
        "WordPiece": [tokens_per_word(smaller_word_piece(word_piece, size), held_out) for size in sizes],
    }
    unknown = [unknown_share(Vocab(words.tokens[:size]), held_out) for size in sizes]
    characters_per_word = (len(test) + 1) / held_out.total()

    print("15.6 Held-out text           vocabulary   tokens a word   unknown words")
    rows = {
        "characters": (len(characters), characters_per_word, 0.0),
        "BPE": (vocab_size, curves["BPE"][-1], unknown_share(byte_pair, held_out)),
        "WordPiece": (len(word_piece.vocab), curves["WordPiece"][-1], unknown_share(word_piece, held_out)),
        "unigram": (len(unigram.vocab), tokens_per_word(unigram, held_out), unknown_share(unigram, held_out)),
        "words": (vocab_size, 1.0, unknown[-1]),
        "words, all of training": (len(words), 1.0, unknown_share(words, held_out)),
    }
    for name, (size, tokens, share) in rows.items():
        print(f"  {name:<26}{size:>8,}{tokens:>16.2f}{100 * share:>14.1f} %")
        figures |= {f"{name}/vocabulary": size, f"{name}/tokens_per_word": tokens, f"{name}/unknown": share}
    unseen = sorted(
        (word for word in held_out if word not in seen), key=lambda word: (-held_out[word], -len(word), word)
    )
    print("\n     Never seen in training   BPE (</w>: the end)   WordPiece (##: within)   unigram (_: the start)")
    for word in unseen[:6]:
        cells = [" ".join(tokenizer.segment(word)) for tokenizer in (byte_pair, word_piece, unigram)]
        print(f"     {word:<25}{cells[0]:<22}{cells[1]:<25}{cells[2]}")

    picture = plotting.figure(9, 3.6)
    left, right = picture.subplots(1, 2)
    series = curves | {"characters": [characters_per_word] * len(sizes), "words": [1.0] * len(sizes)}
    title, xlabel = "Held-out text: tokens a word", "size of the vocabulary"
    plotting.lines(sizes, series, xlabel=xlabel, ylabel="tokens a word", xscale="log", title=title, axes=left)
    left.set_ylim(bottom=0)
    series = {"": 100 * np.array(unknown)}
    title = "Held-out words that a vocabulary of words lacks"
    plotting.lines(sizes, series, xlabel=xlabel, ylabel="unknown words (%)", xscale="log", title=title, axes=right)
    right.set_ylim(bottom=0)
    picture.savefig(folder / "vocabularies.png", dpi=120)


def smaller_byte_pair(encoder: BytePairEncoder, size: int) -> BytePairEncoder:
    """The encoder with a vocabulary of `size`: its first merges."""
    num_merges = len(encoder.merges) - (len(encoder.vocab) - size)
    return BytePairEncoder(encoder.alphabet, encoder.merges[: max(num_merges, 0)], encoder.end_of_word)


def smaller_word_piece(tokenizer: WordPiece, size: int) -> WordPiece:
    """The tokenizer with a vocabulary of `size`: its first pieces."""
    return WordPiece(Vocab(tokenizer.vocab.tokens[:size]), tokenizer.prefix)


def tokens_per_word(tokenizer: Pieces, words: Counter[str]) -> float:
    """The mean number of pieces."""
    return sum(count * len(tokenizer.segment(word)) for word, count in words.items()) / words.total()


def unknown_share(vocab: Vocab | Pieces, words: Counter[str]) -> float:
    """Of words, how many are `<unk>` or have a piece that is."""
    ids = {word: vocab.encode([word]) if isinstance(vocab, Vocab) else vocab.encode(word) for word in words}
    return sum(count for word, count in words.items() if 1 in ids[word]) / words.total()


def main(config: Config) -> dict[str, float]:
    """Counts, trains, prints and draws; returns the figures."""
    folder = config.folder or experiment.run_folder("ch09_tokenizers")
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (clean_text("".join(load(config.data, split)["text"])) for split in SPLITS[config.data])
    figures: dict[str, float] = {}
    frequencies(tokenize(train, "word"), folder, figures)
    compare(train, test, config.vocab_size, folder, figures)
    print(f"\npictures: {folder / 'zipf.png'}, {folder / 'vocabularies.png'}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
