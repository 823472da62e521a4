"""The words of a corpus as symbols that are merged pair by pair: what `BytePairEncoder` and `WordPiece` train on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from numbers import Integral

Pair = tuple[str, str]


def merge_pair(symbols: list[str], pair: Pair, merged: str) -> list[str]:
    """`symbols` with each occurrence of the pair, from left to right, replaced by one symbol."""
    result, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            result.append(merged)
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


class PairCounts:
    """Words as symbols, with the counts that merging changes.

    Attributes:
      words: the symbols of each word.
      frequencies: of each word.
      pairs: how often each pair of neighbours occurs; a pair that occurs no more is not in it.
      symbols: how often each symbol occurs.
    """

    def __init__(self, words: Iterable[list[str]], frequencies: Iterable[int]):
        self.words, self.frequencies = list(words), list(frequencies)
        self.pairs: Counter[Pair] = Counter()
        self.symbols: Counter[str] = Counter()
        self._where: dict[Pair, set[int]] = {}
        for number in range(len(self.words)):
            self._count(number, 1)

    def merge(self, pair: Pair, merged: str) -> set[Pair]:
        """Replaces a pair by one symbol everywhere.

        Returns:
          The pairs that may occur more often than before, or earlier: those of the new symbol.
        """
        grown: set[Pair] = set()
        for number in sorted(self._where[pair]):
            self._count(number, -1)
            self.words[number] = merge_pair(self.words[number], pair, merged)
            self._count(number, 1)
            grown.update(p for p in pairwise(self.words[number]) if merged in p)
        return grown

    def first_place(self, pair: Pair) -> tuple[int, int]:
        """Where a pair occurs first: the number of the word, and the characters before it in that word."""
        number = min(self._where[pair])
        symbols, characters = self.words[number], 0
        for i in range(len(symbols) - 1):
            if (symbols[i], symbols[i + 1]) == pair:
                return number, characters
            characters += len(symbols[i])
        raise AssertionError("a pair is where it is counted")

    def _count(self, number: int, sign: int) -> None:
        symbols, weight = self.words[number], sign * self.frequencies[number]
        for symbol in symbols:
            self.symbols[symbol] += weight
        for pair in pairwise(symbols):
            self.pairs[pair] += weight
            if sign > 0:
                self._where.setdefault(pair, set()).add(number)
            else:
                self._where[pair].discard(number)
            if not self.pairs[pair]:
                del self.pairs[pair]


def check_words(frequencies: Mapping[str, int]) -> None:
    """Judges the corpus of a tokenizer.

    Raises:
      ValueError: if there is no word, one is empty or has whitespace in it, or a frequency is not a positive integer.
    """
    if not frequencies:
        raise ValueError("frequencies: expected at least one word, got an empty corpus")
    for word, frequency in frequencies.items():
        if not isinstance(word, str) or word.split() != [word]:
            raise ValueError(f"frequencies: expected words without whitespace, got {word!r}")
        if not isinstance(frequency, Integral) or frequency < 1:
            raise ValueError(f"frequencies: expected a positive integer, got {frequency!r} for {word!r}")
