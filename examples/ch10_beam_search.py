"""Greedy, exhaustive and beam search (D2L 10.8), on the book's tables and on the words of real English.

    python examples/ch10_beam_search.py

On the book's tables greedy search finds A B C <eos> of probability 0.048, a beam of 2 finds A C B <eos> of 0.054, and
exhaustive search nothing better.

Then an n-gram model of letters, made from Python's language reference, completes the beginnings of words. It looks back
three letters only, so dynamic programming knows the best of all completions. Greedy search finds it for 0.74 of 267
beginnings ("un" becomes "und" instead of "unicode"), a beam of 2 for 0.90, of 4 for 0.98, of 16 for all (Python 3.11;
the text differs a little between versions). On two cores of an AMD EPYC it takes 8 s.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxdl import experiment, nlp, plotting
from jaxdl.data import clean_text, load

A, B, C, EOS = range(4)
NAMES = ("A", "B", "C", "<eos>")
# Probabilities of A, B, C, <eos> at each of four steps; after A, C those of the second table hold.
TABLE = np.array([[0.5, 0.2, 0.2, 0.1], [0.1, 0.4, 0.3, 0.2], [0.2, 0.2, 0.4, 0.2], [0.0, 0.2, 0.2, 0.6]])
AFTER_C = np.array([[0.5, 0.2, 0.2, 0.1], [0.1, 0.4, 0.3, 0.2], [0.1, 0.6, 0.2, 0.1], [0.1, 0.2, 0.1, 0.6]])
LETTERS = " abcdefghijklmnopqrstuvwxyz"
ORDER = 4  # of the n-gram model: three symbols foretell the next
BEAM_SIZES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Config:
    """Searches for likely sequences."""

    beginnings: int = 300
    """How many beginnings of words to complete: the most frequent ones."""
    letters: int = 2
    """Of each beginning."""
    max_length: int = 12
    """Letters that may be added, with the blank that ends the word."""
    alpha: float = 0.75
    """The score of a sequence is log P / length^alpha."""
    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        for name in ("beginnings", "letters", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.alpha >= 0:
            raise ValueError(f"alpha: expected 0 or more, got {self.alpha}")


# 10.8.1 to 10.8.3: four symbols, four steps.


def table_step(state: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
    """The book's tables as a model: the state counts the steps and knows in which rows C came second."""
    t, c_second = state["t"], state["c_second"]
    c_second = jnp.where(t == 2, tokens == C, c_second)
    probabilities = jnp.where(c_second[:, None], jnp.asarray(AFTER_C)[t][None], jnp.asarray(TABLE)[t][None])
    return jnp.log(probabilities), {"t": t + 1, "c_second": c_second}


def search_tables(beam_size: int, max_length: int = 4, alpha: float = 0.75) -> list[tuple[str, float, float]]:
    """What a beam finds, best first: the sequence, its probability and its score."""
    state = {"t": jnp.int32(0), "c_second": jnp.zeros(1, bool)}
    options: dict[str, Any] = {"beam_size": beam_size, "max_length": max_length, "eos_id": EOS, "alpha": alpha}
    found = nlp.beam_search(table_step, state, jnp.zeros(1, jnp.int32), **options)
    return [
        (" ".join(NAMES[token] for token in tokens[:n]), float(np.exp(score * n**alpha)), float(score))
        for tokens, n, score in zip(*(np.asarray(x[0]) for x in found), strict=True)
        if n > 0
    ]


def compare_on_tables() -> dict[str, float]:
    """The probability of what each search finds; the widest beam keeps all 3^3 * 4 sequences of the last step."""
    print("The book's tables: what is found, its probability, its score log P / L^0.75")
    probabilities = {}
    for name, beam_size in (("greedy", 1), ("beam", 2), ("exhaustive", 3**3 * 4)):
        sequence, probabilities[name], score = search_tables(beam_size)[0]
        print(f"  {name:11} {sequence:14} {probabilities[name]:.3f} {score:8.3f}")
    return probabilities


# An n-gram model of letters: words instead of tables.


def letter_model() -> tuple[jax.Array, np.ndarray]:
    """Log probabilities of the next symbol after each three, `[27^3, 27]`, and the text in numbers."""
    text = clean_text("".join(load("pydoc", "train")["text"]))
    symbols = np.array([LETTERS.index(letter) for letter in text])
    model = nlp.NGramModel(symbols, len(LETTERS), ORDER)
    contexts = np.ndindex(*(len(LETTERS),) * (ORDER - 1))
    return jnp.log(jnp.array(np.stack([model.backoff(context) for context in contexts]), jnp.float32)), symbols


def letter_step(table: jax.Array, context: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of the model; the state is the row of the table for the last three symbols, `[rows]`."""
    context = (context * len(LETTERS) + tokens) % table.shape[0]
    return table[context], context


def make_search(
    table: ArrayLike, *, beam_size: int, max_length: int, alpha: float
) -> Callable[[jax.Array, jax.Array], nlp.Decoded]:
    """Beam search over the model, compiled: contexts and last symbols `[batch]` to words that end with a blank."""
    options = {"beam_size": beam_size, "max_length": max_length, "eos_id": 0, "alpha": alpha}
    return jax.jit(partial(nlp.beam_search, partial(letter_step, jnp.asarray(table)), **options))


def best_scores(table: ArrayLike, contexts: np.ndarray, max_length: int, alpha: float) -> np.ndarray:
    """The score of the best of all endings, which exhaustive search would find.

    The model sees three symbols only, so dynamic programming over them finds it: of each length the likeliest ending.
    """
    log_p = np.asarray(table, np.float64)
    letters = log_p[:, 1:]
    following = (np.arange(len(log_p))[:, None] * len(LETTERS) + np.arange(1, len(LETTERS))) % len(log_p)
    ended, cut_off, best = log_p[:, 0], letters.max(axis=1), log_p[contexts, 0]
    for length in range(2, max_length + 1):
        ended, cut_off = ((letters + rest[following]).max(axis=1) for rest in (ended, cut_off))
        best = np.maximum(best, ended[contexts] / length**alpha)
    return np.maximum(best, cut_off[contexts] / max_length**alpha)


def frequent_beginnings(text: np.ndarray, number: int, letters: int) -> np.ndarray:
    """The most frequent beginnings of words `[beginnings, 1 + letters]`, each with the blank before it."""
    windows = np.lib.stride_tricks.sliding_window_view(text, letters + 1)
    windows = windows[(windows[:, 0] == 0) & np.all(windows[:, 1:] > 0, axis=1)]
    found, counts = np.unique(windows, axis=0, return_counts=True)
    return found[np.argsort(-counts, kind="stable")[:number]]


def complete(
    search: Callable[..., nlp.Decoded], beginnings: np.ndarray, num_contexts: int
) -> tuple[list[str], np.ndarray, float]:
    """The best completion of each beginning, its score, and the seconds it took (compilation aside)."""
    powers = len(LETTERS) ** np.arange(beginnings.shape[1])[::-1]
    before = jnp.asarray(beginnings[:, :-1] @ powers[1:] % num_contexts, jnp.int32)  # the last symbol is fed first
    arguments = before, jnp.asarray(beginnings[:, -1], jnp.int32)
    jax.block_until_ready(search(*arguments))
    began = time.perf_counter()
    found = jax.block_until_ready(search(*arguments))
    seconds = time.perf_counter() - began
    tokens, lengths, scores = (np.asarray(x[:, 0]) for x in found)
    words = ["".join(LETTERS[i] for i in row[:n]).strip() for row, n in zip(tokens, lengths, strict=True)]
    return words, scores, seconds


def compare_on_words(config: Config) -> dict[str, list[float]]:
    """Completes beginnings of words with beams of several sizes; how often each finds the best word of all."""
    table, text = letter_model()
    beginnings = frequent_beginnings(text, config.beginnings, config.letters)
    contexts = beginnings @ len(LETTERS) ** np.arange(beginnings.shape[1])[::-1] % len(table)
    best = best_scores(table, contexts, config.max_length, config.alpha)
    print(f"\n{len(beginnings)} beginnings of words, to be completed by at most {config.max_length} symbols")
    print("  beam size  mean score  best word found  model steps  ms a word")
    rows: dict[str, list[float]] = {"found": [], "score": []}
    completions = []
    for beam_size in BEAM_SIZES:
        search = make_search(table, beam_size=beam_size, max_length=config.max_length, alpha=config.alpha)
        words, scores, seconds = complete(search, beginnings, len(table))
        rows["found"].append(float(np.mean(scores > best - 1e-4)))
        rows["score"].append(float(scores.mean()))
        completions.append((words, scores))
        steps, milliseconds = beam_size * config.max_length, 1e3 * seconds / len(words)
        print(f"  {beam_size:9} {scores.mean():11.4f} {rows['found'][-1]:16.3f} {steps:12} {milliseconds:10.3f}")
    print(f"  {'all':>9} {best.mean():11.4f} {1:16.3f} {float(26**config.max_length):12.0e}")
    (greedy, greedy_scores), (wide, wide_scores) = completions[0], completions[-1]
    print(f"\nWhere they differ most       greedy                       beam of {BEAM_SIZES[-1]}")
    for i in np.argsort(greedy_scores - wide_scores)[:6]:
        start = "".join(LETTERS[symbol] for symbol in beginnings[i]).strip()
        ours = (f"{start}|{word[i]} {score[i]:.3f}" for word, score in ((greedy, greedy_scores), (wide, wide_scores)))
        print(f"  {start:26} {next(ours):28} {next(ours)}")
    return rows


def draw(found: list[float], path: Path) -> None:
    """Left the beam of 2 on the book's tables, right how often a beam finds the best word."""
    picture = plotting.figure(10, 4)
    tree, curve = picture.subplots(1, 2)
    places = {"": (0, 0.5)}
    for step in range(1, 5):
        for row, (sequence, probability, _) in enumerate(search_tables(2, max_length=step, alpha=0)):
            places[sequence] = x, y = step, 1 - row
            parent = places[" ".join(sequence.split()[:-1])]
            tree.plot([parent[0], x], [parent[1], y], "C0-", zorder=0)
            label = f"{sequence.split()[-1]}\n{probability:.3f}"
            tree.text(x, y, label, ha="center", va="center", bbox={"boxstyle": "round", "facecolor": "white"})
    tree.set(xlim=(-0.3, 4.6), ylim=(-0.4, 1.4), xlabel="step", yticks=[])
    tree.set(title="Beam of 2 on the book's tables: best (top) and second\nbest prefix with its probability")
    plotting.lines(
        BEAM_SIZES,
        {"": found},
        axes=curve,
        xlabel="beam size (1: greedy)",
        ylabel="share of beginnings",
        title="How often the best of all completions is found",
        xscale="log",
    )
    curve.set_xticks(BEAM_SIZES, [str(size) for size in BEAM_SIZES])
    curve.minorticks_off()
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Compares the searches, and returns what each found."""
    path = config.plot or experiment.run_folder("ch10_beam_search") / "beam_search.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    probabilities = compare_on_tables()
    rows = compare_on_words(config)
    draw(rows["found"], path)
    print(f"\npicture: {path}")
    shares = {f"found_by_{size}": share for size, share in zip(BEAM_SIZES, rows["found"], strict=True)}
    return probabilities | shares


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
