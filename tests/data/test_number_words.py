"""Both languages are exact, and the test shows nothing but new blocks of words that training has seen everywhere."""

import numpy as np
import pytest

from jaxdl.data import english_number, french_number, number_words
from jaxdl.data.number_words import held_out_blocks

FRENCH = {
    0: "zéro",
    1: "un",
    16: "seize",
    17: "dix-sept",
    20: "vingt",
    21: "vingt et un",
    22: "vingt-deux",
    31: "trente et un",
    61: "soixante et un",
    69: "soixante-neuf",
    70: "soixante-dix",
    71: "soixante et onze",
    72: "soixante-douze",
    79: "soixante-dix-neuf",
    80: "quatre-vingts",
    81: "quatre-vingt-un",
    90: "quatre-vingt-dix",
    91: "quatre-vingt-onze",
    99: "quatre-vingt-dix-neuf",
    100: "cent",
    101: "cent un",
    180: "cent quatre-vingts",
    200: "deux cents",
    201: "deux cent un",
    280: "deux cent quatre-vingts",
    1_000: "mille",
    1_001: "mille un",
    1_100: "mille cent",
    2_000: "deux mille",
    21_000: "vingt et un mille",
    71_000: "soixante et onze mille",
    80_000: "quatre-vingt mille",
    80_080: "quatre-vingt mille quatre-vingts",
    100_000: "cent mille",
    200_000: "deux cent mille",
    200_200: "deux cent mille deux cents",
    280_000: "deux cent quatre-vingt mille",
    999_999: "neuf cent quatre-vingt-dix-neuf mille neuf cent quatre-vingt-dix-neuf",
}
ENGLISH = {
    0: "zero",
    13: "thirteen",
    20: "twenty",
    21: "twenty-one",
    100: "one hundred",
    115: "one hundred fifteen",
    1_000: "one thousand",
    40_004: "forty thousand four",
    300_300: "three hundred thousand three hundred",
    999_999: "nine hundred ninety-nine thousand nine hundred ninety-nine",
}


@pytest.mark.parametrize("number", FRENCH)
def test_french(number):
    assert french_number(number) == FRENCH[number]


@pytest.mark.parametrize("number", ENGLISH)
def test_english(number):
    assert english_number(number) == ENGLISH[number]


def parse(words, values, hundred, thousand):
    """The value of number words, by a rule that knows no grammar: add up, multiply by 20, 100 and 1000."""
    total = block = 0
    for word in words:
        if word == thousand:
            total, block = total + 1000 * max(block, 1), 0
        elif word == hundred:
            block = 100 * max(block, 1)
        elif word == "vingt" and block % 100 == 4:  # quatre-vingt
            block += 76
        else:
            block += values[word]
    return total + block


def test_every_number_says_what_it_is():
    """All blocks in both places; different numbers so have different words."""
    english = {french: value for value, french in enumerate(english_number(n) for n in range(20))}
    english |= {english_number(n): n for n in range(20, 100, 10)}
    french = {french_number(n): n for n in [*range(17), 20, 30, 40, 50, 60]}
    for block in range(1000):
        for number in (block, 1000 * block, 1000 * block + 999 - block):
            words = english_number(number).replace("-", " ").split()
            assert parse(words, english, "hundred", "thousand") == number
            words = french_number(number).replace("-", " ").replace(" et ", " ").split()
            singular = ["cent" if word == "cents" else "vingt" if word == "vingts" else word for word in words]
            assert parse(singular, french, "cent", "mille") == number


def test_plurals_only_at_the_end():
    for number in range(0, 1_000_000, 7):
        words = french_number(number).replace("-", " ").split()
        assert not {"cents", "vingts"} & set(words[:-1])
        assert "milles" not in words
        assert words[:2] != ["un", "mille"]


def blocks(numbers):
    return np.stack([numbers // 1000, numbers % 1000], axis=1)  # [numbers, 2]


def test_the_test_shows_new_blocks_and_training_every_word_in_every_place():
    train, test = number_words(40_000), number_words(5_000, "test", seed=1)
    hidden = held_out_blocks()
    assert hidden.sum() == 90
    assert not hidden[blocks(train["number"])].any()
    assert hidden[blocks(test["number"])].any(axis=1).all()
    assert len(set(train["number"].tolist())) == 40_000
    for language in ("english", "french"):
        for place in (slice(None), "thousands", "units"):
            shown, wanted = set(), set()
            for seen, arrays in ((shown, train), (wanted, test)):
                for text in arrays[language].tolist():
                    parts = text.replace("thousand", "mille").split(" mille")
                    part = text if place == slice(None) else parts[0 if place == "thousands" else -1]
                    seen.update(part.split())
            assert wanted <= shown, (language, place)


def test_any_share_leaves_every_word_in_every_place():
    for share in (0.01, 0.5, 0.9):
        shown = ~held_out_blocks(share)
        assert shown[:100].all()  # so every word below a hundred
        assert shown[100::100].all()  # so "cents"
        assert shown.reshape(10, 100)[:, 1:].any(axis=1).all()  # so every hundred before something
        assert (~shown).sum() == 9 * round(100 * share)
    np.testing.assert_array_equal(held_out_blocks(), held_out_blocks(0.1))


def test_it_is_reproducible():
    first, again, other = number_words(50), number_words(50), number_words(50, seed=1)
    assert first["number"].tolist() == again["number"].tolist() != other["number"].tolist()
    assert first["number"].dtype == np.int32
    assert [english_number(n) for n in first["number"].tolist()] == first["english"].tolist()
    assert [french_number(n) for n in first["number"].tolist()] == first["french"].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": 0}, "num_examples: expected 1 to 828100, the numbers of 'train', got 0"),
        ({"num_examples": 200_000, "split": "test"}, "num_examples: expected 1 to 171900, the numbers of 'test'"),
        ({"split": "validation"}, "split: expected 'train' or 'test', got 'validation'"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"held_out": 0}, "held_out: expected a share from 0.01 to 0.9, got 0"),
        ({"held_out": 1.0}, "held_out: expected a share from 0.01 to 0.9, got 1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        number_words(**{"num_examples": 1, **arguments})


@pytest.mark.parametrize("number", [-1, 1_000_000])
@pytest.mark.parametrize("words", [english_number, french_number])
def test_numbers_beyond_are_refused(words, number):
    with pytest.raises(ValueError, match=f"number: expected 0 to 999999, got {number}"):
        words(number)
    with pytest.raises(TypeError, match="integer"):
        words(1.5)
