"""A vocabulary: tokens and their numbers (D2L 9.2)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from jaxdl.data.json_files import read_json, texts, write_json

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"


@dataclass(frozen=True)
class Vocab:
    """Numbers the tokens of a text: `<pad>` is 0, `<unk>` is 1.

    (The book sorts `<unk>` in among the tokens, which makes 0 the blank of a text in characters, and has no `<pad>`
    unless it is reserved: its 28 symbols of The Time Machine are 29 here.)

    Attributes:
      tokens: by their numbers, the first two `<pad>` and `<unk>`. `from_corpus` finds them.

    Raises:
      ValueError: if the first two are others, or a token comes twice or is empty.

    >>> vocab = Vocab.from_corpus("a rat, a cat".split())
    >>> vocab.tokens
    ('<pad>', '<unk>', 'a', 'cat', 'rat,')
    >>> vocab.encode(["a", "dog"])
    array([2, 1], dtype=int32)
    """

    tokens: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        tokens = tuple(self.tokens)
        if tokens[:2] != (PAD, UNK):
            raise ValueError(f"tokens: expected {PAD!r} and {UNK!r} first, got {tokens[:2]}")
        counts = Counter(tokens)
        for token, count in counts.items():
            if count > 1 or not token:
                raise ValueError(f"tokens: expected distinct texts, got {token!r} {count} times")
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "_ids", {token: i for i, token in enumerate(tokens)})

    @classmethod
    def from_corpus(
        cls, corpus: Iterable[str] | Mapping[str, int], *, min_frequency: int = 1, reserved: Iterable[str] = ()
    ) -> "Vocab":
        """The tokens of a corpus, the frequent ones first; equally frequent ones in the order of their characters.

        Args:
          corpus: tokens (a `str` is its characters), or how often each occurs.
          min_frequency: rarer tokens are left out, and become `<unk>`.
          reserved: tokens that come right after `<unk>`, such as `("<bos>", "<eos>")`, whether they occur or not.

        Raises:
          ValueError: if the corpus is empty, `min_frequency` is below 1, or a token is empty.
        """
        if min_frequency < 1:
            raise ValueError(f"min_frequency: expected at least 1, got {min_frequency}")
        counts = Counter(corpus)
        if not counts:
            raise ValueError("corpus: expected at least one token, got none")
        special = [PAD, UNK, *reserved]
        found = sorted((-count, token) for token, count in counts.items() if count >= min_frequency)
        return cls((*special, *(token for _, token in found if token not in special)))

    def __len__(self) -> int:
        """How many tokens there are, `<pad>` and `<unk>` included."""
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __getitem__(self, token: str) -> int:
        """The number of a token; one that is not there is a `KeyError` (`encode` takes it for `<unk>`)."""
        if token not in self._ids:
            raise KeyError(f"{token!r} is not one of the vocabulary's {len(self)} tokens")
        return self._ids[token]

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Numbers tokens; one that is not there becomes 1, `<unk>`.

        Args:
          tokens: any number of them; a `str` is its characters.

        Returns:
          int32 `[tokens]`.

        Raises:
          ValueError: if a token is not a text.
        """
        tokens = list(tokens)
        for token in tokens:
            if not isinstance(token, str):
                raise ValueError(f"tokens: expected texts, got {token!r}")
        return np.array([self._ids.get(token, 1) for token in tokens], np.int32)

    def decode(self, ids: Any) -> list[str]:
        """The tokens of numbers.

        Args:
          ids: integers `[tokens]`: a list, NumPy or JAX array.

        Raises:
          ValueError: if they are not such, or one is outside the vocabulary.
        """
        numbers = np.asarray(ids)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise ValueError(f"ids: expected integers [tokens], got {numbers.dtype}{list(numbers.shape)}")
        outside = np.flatnonzero((numbers < 0) | (numbers >= len(self)))
        if outside.size:
            raise ValueError(
                f"ids: expected 0 to {len(self) - 1}, of {len(self)} tokens, "
                f"got {numbers[outside[0]]} at position {outside[0]}"
            )
        return [self.tokens[i] for i in numbers]

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the tokens as JSON; the file appears complete or not at all."""
        write_json(path, {"tokens": self.tokens})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Vocab":
        """Reads what `save` wrote.

        Raises:
          DataError: if the file is not such a vocabulary.
          OSError: if it cannot be opened.
        """
        return read_json(path, lambda fields: cls(tuple(texts(fields["tokens"]))), "a vocabulary")
