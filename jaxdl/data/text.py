"""Text as tokens: characters or words (D2L 9.2), and how often stretches of them occur (D2L 9.3)."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Literal, TypeVar

Token = TypeVar("Token", bound=Hashable)


def clean_text(text: str) -> str:
    """Lower case, and one blank for each stretch of anything but the 26 letters (D2L 9.2).

    >>> clean_text("Who's there?")
    'who s there '
    """
    return re.sub("[^A-Za-z]+", " ", text).lower()


def tokenize(text: str, unit: Literal["character", "word"] = "character") -> list[str]:
    """The characters of a text, or its words: what stands between whitespace.

    Raises:
      ValueError: if `unit` is another.
    """
    if unit not in ("character", "word"):
        raise ValueError(f"unit: expected 'character' or 'word', got {unit!r}")
    return list(text) if unit == "character" else text.split()


def ngram_counts(tokens: Iterable[Token], n: int) -> Counter[tuple[Token, ...]]:
    """How often each stretch of `n` tokens occurs.

    Args:
      tokens: texts or numbers; at least `n` of them.
      n: 1 for single tokens (as tuples of one), 2 for pairs ...

    Returns:
      A counter, in the order of first occurrence; `most_common()` sorts it.

    Raises:
      ValueError: if `n` is below 1, or there are fewer tokens.

    >>> ngram_counts("to be or not to be".split(), 2).most_common(1)
    [(('to', 'be'), 2)]
    """
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    sequence = list(tokens)
    if len(sequence) < n:
        raise ValueError(f"tokens: expected at least n={n}, got {len(sequence)}")
    return Counter(zip(*(sequence[i:] for i in range(n)), strict=False))
