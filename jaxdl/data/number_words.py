"""Numbers in words, in English and in French: a translation task that is generated and has exact answers.

    english "seventy-one thousand two hundred"      french "soixante et onze mille deux cents"

The words of a number are those of its two blocks of three digits. `number_words` holds out blocks: the test's numbers
contain at least one block that training never shows, while every word is shown in both places.
"""

import operator
from typing import Literal

import numpy as np

LARGEST = 999_999
_TEXT = np.dtypes.StringDType()
_ENGLISH = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_ENGLISH_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_FRENCH = (
    *("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    *("dix", "onze", "douze", "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf"),
)
_FRENCH_TENS = {20: "vingt", 30: "trente", 40: "quarante", 50: "cinquante", 60: "soixante", 80: "quatre-vingt"}


def english_number(number: int) -> str:
    """A number in English words, as in American usage without "and".

    Args:
      number: 0 to 999,999.

    Raises:
      ValueError: if it is another.

    >>> english_number(71_200)
    'seventy-one thousand two hundred'
    """
    thousands, units = divmod(_checked(number), 1000)
    parts = [f"{_english_block(thousands)} thousand"] if thousands else []
    if units or not thousands:
        parts.append(_english_block(units))
    return " ".join(parts)


def french_number(number: int) -> str:
    """A number in French words, in the traditional spelling (hyphens below 100 only, except around "et").

    "Vingt" and "cent" take their plural s where they are multiplied and end the number: quatre-vingts, deux cents, but
    quatre-vingt-un, deux cent un and, before "mille", quatre-vingt mille, deux cent mille. "Mille" never takes one, and
    one thousand has no "un". Et joins 1 and 11 to the tens (vingt et un, soixante et onze), but not to quatre-vingt.

    Args:
      number: 0 to 999,999.

    Raises:
      ValueError: if it is another.

    >>> french_number(71_200)
    'soixante et onze mille deux cents'
    """
    thousands, units = divmod(_checked(number), 1000)
    parts = [] if thousands < 2 else [_french_block(thousands, ends=False)]
    if thousands:
        parts.append("mille")
    if units or not thousands:
        parts.append(_french_block(units, ends=True))
    return " ".join(parts)


def number_words(
    num_examples: int, split: Literal["train", "test"] = "train", *, seed: int = 0, held_out: float = 0.1
) -> dict[str, np.ndarray]:
    """Random numbers from 0 to 999,999 in English and French words, no number twice.

    Of the blocks 100 to 999, a share is held out: as many of each hundred, chosen once and for all at random, never a
    full hundred. Training has the numbers whose two blocks are not held out, the test all the others. So every word of
    both languages is seen in training in every place where it can stand.

    Args:
      num_examples: at least 1.
      split: "train" or "test"; no number is in both, whatever their seeds.
      seed: of the sample and its order, not negative.
      held_out: share of the blocks, 0.01 to 0.9.

    Returns:
      `number`, int32 `[examples]`, and `english` and `french`, `[examples]` of NumPy's `StringDType`.

    Raises:
      ValueError: if an argument is out of range, or the split has fewer numbers (by default train has 828,100, the
        test 171,900).
    """
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    if operator.index(seed) < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    hidden = held_out_blocks(held_out)
    in_test = (hidden[:, None] | hidden[None, :]).ravel()  # by number: thousands * 1000 + units
    numbers = np.flatnonzero(in_test == (split == "test"))
    if not 1 <= operator.index(num_examples) <= len(numbers):
        raise ValueError(f"num_examples: expected 1 to {len(numbers)}, the numbers of {split!r}, got {num_examples}")
    number = np.random.default_rng(seed).permutation(numbers)[:num_examples]
    return {
        "number": number.astype(np.int32),
        "english": np.array([english_number(n) for n in number.tolist()], _TEXT),
        "french": np.array([french_number(n) for n in number.tolist()], _TEXT),
    }


def held_out_blocks(share: float = 0.1) -> np.ndarray:
    """Which blocks of three digits `number_words` holds out.

    Args:
      share: of the blocks 100 to 999, 0.01 to 0.9; rounded to as many of each hundred.

    Returns:
      Boolean `[1000]`, the same at every call.

    Raises:
      ValueError: if the share is out of range.
    """
    if not 0.01 <= share <= 0.9:
        raise ValueError(f"held_out: expected a share from 0.01 to 0.9, got {share}")
    generator = np.random.RandomState(0)  # its stream is frozen
    hidden = np.zeros((10, 100), bool)
    for hundred in range(1, 10):
        hidden[hundred, generator.permutation(np.arange(1, 100))[: round(100 * share)]] = True
    return hidden.ravel()


def _checked(number: int) -> int:
    if not 0 <= operator.index(number) <= LARGEST:
        raise ValueError(f"number: expected 0 to {LARGEST}, got {number}")
    return operator.index(number)


def _english_block(number: int) -> str:
    """0 to 999."""
    hundreds, rest = divmod(number, 100)
    parts = [f"{_ENGLISH[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        tens, ones = divmod(rest, 10)
        parts.append(_ENGLISH_TENS[tens - 2] + (f"-{_ENGLISH[ones]}" if ones else ""))
    elif rest or not hundreds:
        parts.append(_ENGLISH[rest])
    return " ".join(parts)


def _french_block(number: int, *, ends: bool) -> str:
    """0 to 999; `ends` unless "mille" follows."""
    hundreds, rest = divmod(number, 100)
    parts = [_FRENCH[hundreds]] if hundreds > 1 else []
    if hundreds:
        parts.append("cents" if hundreds > 1 and rest == 0 and ends else "cent")
    if rest or not hundreds:
        parts.append(_french_below_100(rest, ends=ends))
    return " ".join(parts)


def _french_below_100(number: int, *, ends: bool) -> str:
    if number < 20:
        return _FRENCH[number]
    base = 20 * (number // 20) if number >= 60 else 10 * (number // 10)  # from 60 on, French counts in twenties
    word, rest = _FRENCH_TENS[base], number - base
    if rest == 0:
        return word + ("s" if base == 80 and ends else "")
    return f"{word} et {_FRENCH[rest]}" if rest in (1, 11) and base < 80 else f"{word}-{_FRENCH[rest]}"
