"""Byte pair encoding (Sennrich, Haddow and Birch, 2016, "Neural Machine Translation of Rare Words with Subword Units";
D2L 15.6): words as pieces, found by merging the most frequent pair of neighbours again and again.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from typing import Any

import numpy as np

from jaxdl.data.json_files import read_json, texts, write_json
from jaxdl.data.pair_merges import Pair, PairCounts, check_words
from jaxdl.data.vocab import PAD, UNK, Vocab


@dataclass(frozen=True)
class BytePairEncoder:
    """Cuts words into the pieces that its merges make of their characters.

    A word is its characters and a mark of its end; of the merges that apply somewhere in it, the one found first in
    training is done, at its leftmost place, until none applies. (The book cuts greedily instead, the longest piece
    first: `longest_match` does.) A piece is text, in spite of the name, not bytes: an unseen character is `<unk>`.

    Attributes:
      alphabet: the characters.
      merges: pairs of pieces, in the order in which training found them. The first so many of them are the encoder of a
        smaller vocabulary.
      end_of_word: the mark; it may not occur in a word.
      vocab: `<pad>`, `<unk>`, the mark, the alphabet, and a piece for each merge.

    Raises:
      ValueError: if the alphabet is not of distinct characters, or a merge is not of pieces that come before it.

    >>> encoder = BytePairEncoder.train({"low": 5, "lower": 2, "newer": 6, "wider": 3}, 4)
    >>> encoder.segment("lower"), encoder.segment("new")
    (['lo', 'wer</w>'], ['n', 'e', 'w', '</w>'])
    """

    alphabet: tuple[str, ...]
    merges: tuple[Pair, ...]
    end_of_word: str = "</w>"
    vocab: Vocab = field(init=False, repr=False, compare=False)
    _ranks: dict[Pair, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if not self.end_of_word or self.end_of_word.split() != [self.end_of_word]:
            raise ValueError(f"end_of_word: expected a text without whitespace, got {self.end_of_word!r}")
        if wrong := [character for character in self.alphabet if len(character) != 1]:
            raise ValueError(f"alphabet: expected single characters, got {wrong[0]!r}")
        pieces = dict.fromkeys([self.end_of_word, *self.alphabet])
        if len(pieces) != len(self.alphabet) + 1:
            raise ValueError(f"alphabet: expected distinct characters, none of them {self.end_of_word!r}")
        ranks: dict[Pair, int] = {}
        for rank, (left, right) in enumerate(self.merges):
            if left not in pieces or right not in pieces or (left, right) in ranks or left + right in _SPECIAL:
                raise ValueError(f"merges: expected a new pair of known pieces as merge {rank}, got {(left, right)}")
            ranks[left, right] = rank
            pieces[left + right] = None
        object.__setattr__(self, "alphabet", tuple(self.alphabet))
        object.__setattr__(self, "merges", tuple(ranks))
        object.__setattr__(self, "_ranks", ranks)
        object.__setattr__(self, "vocab", Vocab((PAD, UNK, *pieces)))

    @classmethod
    def train(
        cls,
        frequencies: Mapping[str, int],
        num_merges: int,
        *,
        end_of_word: str = "</w>",
        min_frequency: int = 1,
    ) -> "BytePairEncoder":
        """Finds merges: each time the most frequent pair of neighbours, among equals the one that occurs first.

        Args:
          frequencies: how often each word occurs, such as `Counter(tokenize(text, "word"))`.
          num_merges: at most so many; fewer if no pair is left.
          end_of_word: the mark.
          min_frequency: rarer pairs are not merged.

        Raises:
          ValueError: if there is no word, a word has whitespace or the mark in it, a frequency is not a positive
            integer, or a number is out of range.
        """
        check_words(frequencies)
        if num_merges < 0 or min_frequency < 1:
            raise ValueError(
                f"num_merges, min_frequency: expected at least 0 and 1, got {num_merges} and {min_frequency}"
            )
        words = [_symbols(word, end_of_word) for word in frequencies]
        alphabet = sorted({symbol for symbols in words for symbol in symbols[:-1]})
        counts = PairCounts(words, frequencies.values())
        merges: dict[Pair, None] = {}  # in order; one that comes up again is done again, not listed again

        def priority(pair: Pair) -> tuple[int, int, int, Pair]:
            return (-counts.pairs[pair], *counts.first_place(pair), pair)

        # A pair whose count fell, or whose first place is gone, still stands in the heap as it was: it is put back.
        heap = [priority(pair) for pair in counts.pairs]
        heapq.heapify(heap)
        while heap and len(merges) < num_merges:
            entry = heapq.heappop(heap)
            pair = entry[-1]
            if counts.pairs[pair] < min_frequency or "".join(pair) in _SPECIAL:
                continue
            if entry != priority(pair):
                heapq.heappush(heap, priority(pair))
                continue
            merges[pair] = None
            for grown in counts.merge(pair, "".join(pair)):
                heapq.heappush(heap, priority(grown))
        return cls(tuple(alphabet), tuple(merges), end_of_word)

    def segment(self, word: str) -> list[str]:
        """The pieces of a word; together they are the word and the mark of its end.

        Raises:
          ValueError: if the word is empty, or has whitespace or the mark in it.
        """
        check_words({word: 1})
        symbols = _symbols(word, self.end_of_word)
        while True:
            pairs = enumerate(pairwise(symbols))
            applicable = [(self._ranks[pair], i) for i, pair in pairs if pair in self._ranks]
            if not applicable:
                return symbols
            _, i = min(applicable)
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]

    def encode(self, text: str) -> np.ndarray:
        """Numbers the pieces of a text's words, which stand between whitespace.

        Returns:
          int32 `[pieces]`.

        Raises:
          ValueError: if a word has the mark in it.
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
            piece.removesuffix(self.end_of_word) + " " if piece.endswith(self.end_of_word) else piece
            for piece in pieces
        ).removesuffix(" ")

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it as JSON; the file appears complete or not at all."""
        fields = {"end_of_word": self.end_of_word, "alphabet": self.alphabet, "merges": self.merges}
        write_json(path, {"type": "BytePairEncoder", **fields})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "BytePairEncoder":
        """Reads what `save` wrote.

        Raises:
          DataError: if the file is not such an encoder.
          OSError: if it cannot be opened.
        """

        def make(fields: Mapping[str, Any]) -> "BytePairEncoder":
            if fields["type"] != cls.__name__:
                raise ValueError(f"type {fields['type']!r}")
            (end_of_word,) = texts([fields["end_of_word"]])
            return cls(tuple(texts(fields["alphabet"])), tuple(map(_pair, fields["merges"])), end_of_word)

        return read_json(path, make, "a byte pair encoder")


_SPECIAL = (PAD, UNK)


def _symbols(word: str, end_of_word: str) -> list[str]:
    if end_of_word in word:
        raise ValueError(f"word: expected none with the mark {end_of_word!r} in it, got {word!r}")
    return [*word, end_of_word]


def _pair(value: Sequence[Any]) -> Pair:
    left, right = texts(value)
    return left, right
