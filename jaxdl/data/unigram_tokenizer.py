"""The unigram tokenizer of SentencePiece (Kudo, 2018, "Subword Regularization", section 3.2): pieces with
probabilities, of which a word is cut into the most likely ones.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from jaxdl.data.json_files import read_json, texts, write_json
from jaxdl.data.pair_merges import check_words
from jaxdl.data.vocab import PAD, UNK, Vocab

_UNKNOWN_PENALTY = 10.0  # nats below the least likely piece, as in SentencePiece
_KEPT = 0.75  # share of the pieces that a round of pruning leaves
_EM_STEPS = 2  # in a round
_SEEDS = 10  # pieces to begin with, by the size of the vocabulary
_LONGEST_SEED = 16  # characters
_LEAST_COUNT = 1e-9  # expected, so that no probability is 0


@dataclass(frozen=True)
class UnigramTokenizer:
    """Cuts words into the pieces whose probabilities have the greatest product.

    A word is a mark of its start and its characters. Characters that no piece has are `<unk>`, neighbours as one.

    Attributes:
      vocab: the pieces.
      log_probabilities: in nats, of the tokens after `<pad>` and `<unk>`.
      start_of_word: the mark; it may not occur in a word.

    Raises:
      ValueError: if there are no pieces, or not as many finite log-probabilities, at most 0, as pieces.

    >>> pieces = Vocab(("<pad>", "<unk>", "_", "a", "b", "ab", "_a"))
    >>> UnigramTokenizer(pieces, (-3.0, -2.0, -2.0, -2.5, -4.0), "_").segment("abb")
    ['_', 'ab', 'b']
    """

    vocab: Vocab
    log_probabilities: tuple[float, ...]
    start_of_word: str = "\u2581"
    _pieces: "PieceScores" = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        scores = tuple(map(float, self.log_probabilities))
        if not scores or len(scores) != len(self.vocab) - 2 or not all(-math.inf < score <= 0 for score in scores):
            raise ValueError(
                f"log_probabilities: expected {len(self.vocab) - 2} (one or more) finite numbers, at most 0, "
                f"got {len(scores)}: {str(scores)[:60]}"
            )
        if not self.start_of_word or self.start_of_word.split() != [self.start_of_word]:
            raise ValueError(f"start_of_word: expected a text without whitespace, got {self.start_of_word!r}")
        object.__setattr__(self, "log_probabilities", scores)
        object.__setattr__(self, "_pieces", PieceScores(dict(zip(self.vocab.tokens[2:], scores, strict=True))))

    @classmethod
    def train(
        cls, frequencies: Mapping[str, int], vocab_size: int, *, start_of_word: str = "\u2581"
    ) -> "UnigramTokenizer":
        """Finds pieces: it begins with many and drops, round by round, those whose loss costs the likelihood least.

        Each round estimates the probabilities by expectation maximisation over all ways to cut each word.
        (SentencePiece also smooths them by a digamma function.) Single characters always stay.

        Args:
          frequencies: how often each word occurs, such as `Counter(tokenize(text, "word"))`.
          vocab_size: tokens at most, `<pad>` and `<unk>` included; fewer if too few stretches of characters repeat.
          start_of_word: the mark.

        Raises:
          ValueError: if there is no word, a word has whitespace or the mark in it, a frequency is not a positive
            integer, or the characters alone are more than `vocab_size`.
        """
        check_words(frequencies)
        words = {_marked(word, start_of_word): int(frequency) for word, frequency in frequencies.items()}
        characters = {character for word in words for character in word}
        wanted = vocab_size - 2
        if len(characters) > wanted:
            raise ValueError(
                f"vocab_size: expected at least {len(characters) + 2}, for the characters alone, got {vocab_size}"
            )
        scores = _normalised(_seeds(words, _SEEDS * vocab_size))
        while True:
            for _ in range(_EM_STEPS):
                counts, _ = PieceScores(scores).expected_counts(words)
                scores = _normalised({piece: max(counts[piece], _LEAST_COUNT) for piece in scores})
            if len(scores) <= wanted:
                break
            pieces = PieceScores(scores)
            ranked = sorted(scores, key=lambda piece: (-pieces.loss(piece, counts[piece]), piece))
            kept = ranked[: max(wanted, int(_KEPT * len(scores)))]
            scores = _normalised({piece: math.exp(scores[piece]) for piece in kept})
        ordered = sorted(scores, key=lambda piece: (-scores[piece], piece))
        return cls(Vocab((PAD, UNK, *ordered)), tuple(scores[piece] for piece in ordered), start_of_word)

    def segment(self, word: str) -> list[str]:
        """The pieces of a word; together they are the mark of its start and the word.

        Raises:
          ValueError: if the word is empty, or has whitespace or the mark in it.
        """
        check_words({word: 1})
        pieces, unknown = [], False
        for piece in self._pieces.most_likely(_marked(word, self.start_of_word)):
            was_unknown, unknown = unknown, piece not in self._pieces.scores
            if was_unknown and unknown:
                pieces[-1] += piece
            else:
                pieces.append(piece)
        return pieces

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
        return "".join(pieces).replace(self.start_of_word, " ").removeprefix(" ")

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it as JSON; the file appears complete or not at all."""
        fields = {"start_of_word": self.start_of_word, "tokens": self.vocab.tokens}
        write_json(path, {"type": "UnigramTokenizer", **fields, "log_probabilities": self.log_probabilities})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "UnigramTokenizer":
        """Reads what `save` wrote.

        Raises:
          DataError: if the file is not such a tokenizer.
          OSError: if it cannot be opened.
        """

        def make(fields: Mapping[str, Any]) -> "UnigramTokenizer":
            if fields["type"] != cls.__name__:
                raise ValueError(f"type {fields['type']!r}")
            (start_of_word,) = texts([fields["start_of_word"]])
            return cls(Vocab(tuple(texts(fields["tokens"]))), tuple(fields["log_probabilities"]), start_of_word)

        return read_json(path, make, "a unigram tokenizer")


class PieceScores:
    """Pieces and their log-probabilities, with what is computed from them for a word.

    Attributes:
      scores: log-probabilities by piece.
      longest: characters of the longest piece.
      unknown: the score of a character that is no piece.
    """

    def __init__(self, scores: Mapping[str, float]):
        self.scores = scores
        self.longest = max(map(len, scores))
        self.unknown = min(scores.values()) - _UNKNOWN_PENALTY

    def most_likely(self, word: str, without: str | None = None) -> list[str]:
        """The pieces of a word whose scores have the greatest sum (Viterbi's algorithm); of equals, the one with the
        longest last piece. A piece `without` may not be used.
        """
        best, begin = [0.0] + [-math.inf] * len(word), [0] * (len(word) + 1)  # of the pieces up to each character
        for start, end, piece in self._places(word, keep_characters=True):
            score = best[start] + (-math.inf if piece == without else self.scores.get(piece, self.unknown))
            if score > best[end]:
                best[end], begin[end] = score, start
        pieces, end = [], len(word)
        while end > 0:
            pieces.append(word[begin[end] : end])
            end = begin[end]
        return pieces[::-1]

    def expected_counts(self, words: Mapping[str, int]) -> tuple[dict[str, float], float]:
        """How often each piece is to be expected, over all ways to cut each word (the E-step, by the forward-backward
        algorithm), and the log-likelihood of the words.

        Args:
          words: how often each occurs; pieces must be able to make them up.
        """
        counts, log_likelihood = dict.fromkeys(self.scores, 0.0), 0.0
        for word, frequency in words.items():
            places = list(self._places(word))
            forward, backward = [0.0] + [-math.inf] * len(word), [-math.inf] * len(word) + [0.0]
            for start, end, piece in places:  # by their start: what leads to it is complete
                forward[end] = _log_add(forward[end], forward[start] + self.scores[piece])
            for start, end, piece in reversed(places):
                backward[start] = _log_add(backward[start], self.scores[piece] + backward[end])
            total = forward[-1]
            for start, end, piece in places:
                share = math.exp(forward[start] + self.scores[piece] + backward[end] - total)
                counts[piece] += frequency * share
            log_likelihood += frequency * total
        return counts, log_likelihood

    def loss(self, piece: str, count: float) -> float:
        """What the log-likelihood loses when the occurrences of a piece are cut into others; a character stays."""
        if len(piece) == 1:
            return math.inf
        return count * (self.scores[piece] - sum(self.scores[part] for part in self.most_likely(piece, without=piece)))

    def _places(self, word: str, keep_characters: bool = False) -> Iterator[tuple[int, int, str]]:
        """Where pieces stand in a word: start, end and the piece, by start, then by length."""
        for start in range(len(word)):
            for end in range(start + 1, min(start + self.longest, len(word)) + 1):
                piece = word[start:end]
                if piece in self.scores or (keep_characters and end == start + 1):
                    yield start, end, piece


def _log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _seeds(words: Mapping[str, int], num_seeds: int) -> dict[str, float]:
    """Characters, and the stretches of them that occur more than once and cover the most, with their counts."""
    counts: Counter[str] = Counter()
    for word, frequency in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + _LONGEST_SEED, len(word)) + 1):
                counts[word[start:end]] += frequency
    found = {piece: float(count) for piece, count in counts.items() if len(piece) == 1}
    longer = [piece for piece, count in counts.items() if len(piece) > 1 and count > 1 and piece not in (PAD, UNK)]
    longer.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    return found | {piece: float(counts[piece]) for piece in longer[:num_seeds]}


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Log-probabilities."""
    log_total = math.log(math.fsum(weights.values()))
    return {piece: math.log(weight) - log_total for piece, weight in weights.items()}


def _marked(word: str, start_of_word: str) -> str:
    if start_of_word in word:
        raise ValueError(f"word: expected none with the mark {start_of_word!r} in it, got {word!r}")
    return start_of_word + word
