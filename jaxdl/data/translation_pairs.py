"""Pairs of sentences made ready for a sequence-to-sequence model (D2L 10.5).

    arrays = load("fra_eng", "train[:512]")
    english = [clean_sentence(sentence).split() for sentence in arrays["english"]]
    french = [clean_sentence(sentence).split() for sentence in arrays["french"]]
    english_vocab, french_vocab = sentence_vocab(english, min_frequency=2), sentence_vocab(french, min_frequency=2)
    batches = DeviceData(encode_pairs(english, french, english_vocab, french_vocab), 128, train=True)

The contract of such arrays, `num_steps` being the tokens of the longest sentence with its `<eos>`:

- `source`, int32 `[pairs, num_steps]`: the tokens, `<eos>`, then `<pad>`;
- `source_length`, int32 `[pairs]`: how many come before the padding, `<eos>` included;
- `target`, int32 `[pairs, num_steps + 1]`: `<bos>`, the tokens, `<eos>`, then `<pad>`. The decoder's input is
  `target[:, :-1]`, what it is to predict `target[:, 1:]`;
- `target_length`, int32 `[pairs]`: how many of `target[:, 1:]` come before the padding, `<eos>` included.

So label i counts where `i < target_length`, and the lengths are at least 1. `<pad>` is 0 in both vocabularies.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from jaxdl.data.vocab import BOS, EOS, PAD, Vocab


def clean_sentence(sentence: str) -> str:
    """Lower case, plain blanks for those that do not break, and a blank before each of `, . ! ?` (D2L 10.5).

    Then `split()` gives the tokens. (The book splits at plain blanks only, which leaves thin ones, U+2009, in 79 of the
    French sentences of fra-eng.)

    >>> clean_sentence("Go.")
    'go .'
    >>> clean_sentence("J'ai perdu\\u202f!")
    "j'ai perdu !"
    """
    plain = sentence.replace("\u202f", " ").replace("\xa0", " ").lower()
    return re.sub(r"(?<=[^ ])(?=[,.!?])", " ", plain)


def sentence_vocab(sentences: Iterable[Sequence[str]], *, min_frequency: int = 1) -> Vocab:
    """The vocabulary of sentences, with `<bos>` 2 and `<eos>` 3.

    Args:
      sentences: each of them tokens.
      min_frequency: rarer tokens become `<unk>`; the book has 2.

    Raises:
      ValueError: as `Vocab.from_corpus`, or if a sentence is a text instead of tokens.
    """
    checked = (_tokens("sentences", i, sentence) for i, sentence in enumerate(sentences))
    return Vocab.from_corpus(chain.from_iterable(checked), min_frequency=min_frequency, reserved=(BOS, EOS))


def encode_sentences(
    sentences: Sequence[Sequence[str]], vocab: Vocab, *, num_steps: int | None = None, truncate: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers sentences, appends `<eos>` and pads them to one length.

    Args:
      sentences: each of them tokens.
      vocab: with `<eos>`; a token that it lacks becomes `<unk>`.
      num_steps: the length, `<eos>` included; by default that of the longest sentence.
      truncate: cut longer sentences at `num_steps`, as the book does; they end without `<eos>` then. By default they
        are an error.

    Returns:
      int32 `[sentences, num_steps]` and the lengths before the padding, int32 `[sentences]`.

    Raises:
      ValueError: if there is no sentence, one is a text instead of tokens or too long, `num_steps` is below 1, or the
        vocabulary lacks `<eos>`.
    """
    if EOS not in vocab:
        raise ValueError(f"vocab: expected {EOS!r} in it; reserve it, as sentence_vocab does")
    rows = [vocab.encode([*_tokens("sentences", i, sentence), EOS]) for i, sentence in enumerate(sentences)]
    if not rows:
        raise ValueError("sentences: expected at least one, got none")
    lengths = np.array([len(row) for row in rows])
    size = int(lengths.max()) if num_steps is None else num_steps
    if size < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}")
    if not truncate and lengths.max() > size:
        longest = int(lengths.argmax())
        raise ValueError(
            f"num_steps: expected at least {lengths.max()}, the length of sentence {longest} with {EOS!r}, got {size} "
            "(truncate=True cuts longer sentences)"
        )
    ids = np.full((len(rows), size), vocab[PAD], np.int32)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row[:size]
    return ids, np.minimum(lengths, size).astype(np.int32)


def encode_pairs(
    source: Sequence[Sequence[str]],
    target: Sequence[Sequence[str]],
    source_vocab: Vocab,
    target_vocab: Vocab,
    *,
    num_steps: int | None = None,
    truncate: bool = False,
) -> dict[str, np.ndarray]:
    """Pairs of sentences as the arrays that this file's first lines describe.

    Args:
      source: sentences of tokens.
      target: their translations, as many.
      source_vocab: with `<eos>`, as `sentence_vocab` makes it.
      target_vocab: with `<bos>` and `<eos>`.
      num_steps: tokens of a padded sentence, `<eos>` included (the book has 9); by default those of the longest on
        either side.
      truncate: cut longer sentences, which end without `<eos>` then. By default they are an error.

    Returns:
      `source`, `source_length`, `target`, `target_length`.

    Raises:
      ValueError: as `encode_sentences`, or if the sides are not equally many.
    """
    if len(source) != len(target):
        raise ValueError(f"target: expected {len(source)} sentences, as many as of the source, got {len(target)}")
    if BOS not in target_vocab:
        raise ValueError(f"target_vocab: expected {BOS!r} in it; reserve it, as sentence_vocab does")
    if num_steps is None:
        num_steps = 1 + max((len(sentence) for sentence in chain(source, target)), default=0)
    source_ids, source_length = encode_sentences(source, source_vocab, num_steps=num_steps, truncate=truncate)
    target_ids, target_length = encode_sentences(target, target_vocab, num_steps=num_steps, truncate=truncate)
    bos = np.full((len(target_ids), 1), target_vocab[BOS], np.int32)
    return {
        "source": source_ids,
        "source_length": source_length,
        "target": np.concatenate([bos, target_ids], axis=1),
        "target_length": target_length,
    }


def decode_sentence(ids: Any, vocab: Vocab) -> list[str]:
    """The tokens of a row of numbers up to the first `<eos>`, without `<bos>` and `<pad>`: what BLEU compares.

    Args:
      ids: integers `[time]`: a row of `source` or `target`, or what a decoder gave.
      vocab: of that language.

    Raises:
      ValueError: as `Vocab.decode`.
    """
    tokens = vocab.decode(ids)
    end = tokens.index(EOS) if EOS in tokens else len(tokens)
    return [token for token in tokens[:end] if token not in (BOS, PAD)]


def _tokens(name: str, number: int, sentence: Sequence[str]) -> Sequence[str]:
    """A text would silently be taken for its characters."""
    if isinstance(sentence, str):
        raise ValueError(f"{name}: expected sentences of tokens, got the text {sentence!r} as sentence {number}")
    return sentence
