"""WordPiece (Schuster and Nakajima, 2012, "Japanese and Korean Voice Search"): the tokens of BERT."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from jaxdl.data.json_files import read_json, texts, write_json
from jaxdl.data.pair_merges import Pair, PairCounts, check_words
from jaxdl.data.vocab import PAD, UNK, Vocab


def longest_match(word: str, pieces: Collection[str], prefix: str = "") -> list[str] | None:
    """Cuts a word greedily: each time the longest piece that the rest begins with.

    Args:
      word: any text.
      pieces: what there is to cut into.
      prefix: what a piece begins with that does not begin the word.

    Returns:
      The pieces, or None if there is a rest that none of them begins.

    >>> longest_match("tallest_", {"tall", "e", "s", "t", "_"})
    ['tall', 'e', 's', 't', '_']
    """
    found, start = [], 0
    while start < len(word):
        lead = prefix if start else ""
        for end in range(len(word), start, -1):
            if (piece := lead + word[start:end]) in pieces:
                break
        else:
            return None
        found.append(piece)
        start = end
    return found


@dataclass(frozen=True)
class WordPiece:
    """Cuts words greedily into the longest pieces of a vocabulary; a word that cannot be cut is `<unk>` as a whole.

    Attributes:
      vocab: the pieces; those that go on within a word begin with `prefix`. Its first so many tokens are a smaller one.
      prefix: "##" by custom.
      max_word_length: longer words are `<unk>`, as in BERT.

    Raises:
      ValueError: if the prefix is empty or `max_word_length` below 1.

    >>> pieces = WordPiece(Vocab(("<pad>", "<unk>", "play", "##ing", "##s")))
    >>> pieces.segment("playing"), pieces.segment("played")
    (['play', '##ing'], ['<unk>'])
    """

    vocab: Vocab
    prefix: str = "##"
    max_word_length: int = 100
    _pieces: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if not self.prefix:
            raise ValueError("prefix: expected a text, got ''")
        if self.max_word_length < 1:
            raise ValueError(f"max_word_length: expected at least 1, got {self.max_word_length}")
        object.__setattr__(self, "_pieces", frozenset(self.vocab.tokens[2:]))  # no text is <pad> or <unk>

    @classmethod
    def train(cls, frequencies: Mapping[str, int], vocab_size: int, *, prefix: str = "##") -> "WordPiece":
        """Finds pieces, beginning with characters: each time the pair of neighbours is merged that raises the
        likelihood of the corpus the most, its pieces taken for independent.

        (The score n_ab / (n_a n_b) that is often given for it is that of one occurrence: it merges rare characters
        first. Equals are decided by the order in which pairs came up.)

        Args:
          frequencies: how often each word occurs, such as `Counter(tokenize(text, "word"))`.
          vocab_size: tokens at most, `<pad>` and `<unk>` included; fewer if no pair is left.
          prefix: of pieces within a word.

        Raises:
          ValueError: if there is no word, a word has whitespace in it, a frequency is not a positive integer, or the
            characters alone are more than `vocab_size`.
        """
        check_words(frequencies)
        words = [[word[0], *(prefix + character for character in word[1:])] for word in frequencies]
        counts = PairCounts(words, frequencies.values())
        pieces = dict.fromkeys([PAD, UNK, *sorted(counts.symbols)])
        if len(pieces) > vocab_size:
            raise ValueError(f"vocab_size: expected at least {len(pieces)}, for the characters alone, got {vocab_size}")
        while len(pieces) < vocab_size and counts.pairs:
            pair = _most_likely(counts)
            merged = pair[0] + pair[1].removeprefix(prefix)
            counts.merge(pair, merged)
            pieces[merged] = None
        return cls(Vocab(tuple(pieces)), prefix)

    def segment(self, word: str) -> list[str]:
        """The pieces of a word, or `["<unk>"]`.

        Raises:
          ValueError: if the word is empty or has whitespace in it.
        """
        check_words({word: 1})
        pieces = longest_match(word, self._pieces, self.prefix) if len(word) <= self.max_word_length else None
        return pieces or [UNK]

    def encode(self, text: str) -> np.ndarray:
        """Numbers the pieces of a text's words, which stand between whitespace.

        Returns:
          int32 `[pieces]`.
        """
        words = text.split()
        ids = {word: self.vocab.encode(self.segment(word)) for word in dict.fromkeys(words)}
        return np.concatenate([np.zeros(0, np.int32), *(ids[word] for word in words)])

    def decode(self, ids: Any) -> str:
        """The text of numbers, its words one blank apart; `<pad>` is skipped.

        Args:
          ids: integers `[pieces]`.

        Raises:
          ValueError: as `Vocab.decode`.
        """
        pieces = [piece for piece in self.vocab.decode(ids) if piece != PAD]
        return "".join(
            piece.removeprefix(self.prefix) if piece.startswith(self.prefix) else f" {piece}" for piece in pieces
        ).removeprefix(" ")

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it as JSON; the file appears complete or not at all."""
        fields = {"prefix": self.prefix, "max_word_length": self.max_word_length, "tokens": self.vocab.tokens}
        write_json(path, {"type": "WordPiece", **fields})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "WordPiece":
        """Reads what `save` wrote.

        Raises:
          DataError: if the file is not such a tokenizer.
          OSError: if it cannot be opened.
        """

        def make(fields: Mapping[str, Any]) -> "WordPiece":
            if fields["type"] != cls.__name__:
                raise ValueError(f"type {fields['type']!r}")
            (prefix,) = texts([fields["prefix"]])
            if not isinstance(fields["max_word_length"], int):
                raise ValueError(f"max_word_length {fields['max_word_length']!r}")
            return cls(Vocab(tuple(texts(fields["tokens"]))), prefix, fields["max_word_length"])

        return read_json(path, make, "a WordPiece tokenizer")


def _most_likely(counts: PairCounts) -> Pair:
    """The pair whose merge raises the likelihood of the symbols, `prod_s (n_s / n)^n_s`, the most."""
    pairs = list(counts.pairs)
    together = np.array(list(counts.pairs.values()), np.float64)
    left, right = (np.array([counts.symbols[pair[side]] for pair in pairs], np.float64) for side in (0, 1))
    total = sum(counts.symbols.values())
    twice = np.array([pair[0] == pair[1] for pair in pairs])  # each merge takes two of one symbol
    gain = _n_log_n(together) - _n_log_n(total - together)
    gain += np.where(twice, _n_log_n(left - 2 * together), _n_log_n(left - together) + _n_log_n(right - together))
    gain -= np.where(twice, _n_log_n(left), _n_log_n(left) + _n_log_n(right))
    return pairs[int(np.argmax(gain))]


def _n_log_n(n: np.ndarray) -> np.ndarray:
    return n * np.log(np.maximum(n, 1))  # 0 at 0; in a run such as "aaa" pairs overlap, and n can come out negative
