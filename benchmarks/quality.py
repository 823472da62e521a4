"""Are the book's recipes as good here as in PyTorch?

    python benchmarks/quality.py --recipes gru,seq2seq,transformer --peer-python PATH

Prints one JSON line a recipe. Both sides train on the same batches in the same order and are judged on the same
held-out data; the line has each side's mean and standard deviation over the seeds, and `ratio`, our mean over the
peer's. PyTorch runs in a process and an interpreter of its own (`peers/`).

| recipe | section | data | judged by |
|---|---|---|---|
| `rnn` | 9.5, 9.6 | The Time Machine, characters | perplexity, less is better |
| `gru` | 10.2 | the same | the same |
| `lstm` | 10.1 | the same | the same |
| `seq2seq` | 10.7 | English to French | BLEU-2 of the corpus, more is better |
| `bahdanau` | 11.4 | the same | the same |
| `transformer` | 11.7 | the same | the same |

Language models: one-hot characters, 32 hidden units, 32 steps, batches of 1,024, SGD at a learning rate of 1 (RNN, 100
epochs) or 4 (GRU and LSTM, 50 epochs), gradients clipped to a norm of 1, the first 10,000 overlapping windows to train
and the next 5,000 to validate. An epoch has 9 batches: the 784 windows left over, the book's tenth batch, are dropped.
Both sides start from the same weights, drawn as PyTorch draws them (the scratch sections have N(0, 0.01²)).

Translation: the defaults of `jaxdl.nlp.Seq2Seq`, `AttentionSeq2Seq` and `Transformer`, sentences of 9 tokens,
vocabularies of the words that occur twice, batches of 128, Adam at 0.005 (`transformer`: 0.001), 30 epochs, gradients
clipped to a norm of 1, the first 512 pairs to train and the next 128 to validate. Weights and dropout are of each
side's own drawing.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from machine import cores, describe, versions

from jaxdl import nlp, nn, training
from jaxdl.data import (
    DatasetUnavailable,
    DeviceData,
    Vocab,
    clean_sentence,
    clean_text,
    encode_pairs,
    load,
    overlapping_windows,
    sentence_vocab,
)

PEERS = Path(__file__).parent / "peers"
CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
HIDDEN_SIZE, NUM_STEPS, MAX_GRADIENT_NORM = 32, 32, 1.0
UNK_ID, EOS_ID = 1, 3
RECURRENT_SIZES = "embed_size", "hidden_size", "num_layers", "dropout_rate"
TRANSFORMER_SIZES = "features", "hidden_size", "num_heads", "num_blocks", "dropout_rate"


class Run(NamedTuple):
    """What our side reached, and what the peer needs to do the same."""

    score: float
    initial: float | None  # before training, where both sides start from the same weights
    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]


class Recipe(NamedTuple):
    """A recipe of the book."""

    run: Callable[[int, int, argparse.Namespace], Run]  # (seed, epochs, flags), trains our side
    epochs: int
    metric: str
    peer: str  # file in peers/
    judge: Callable[[dict[str, Any], Run], float] = lambda answer, run: answer["perplexity"]  # the peer's metric


class PeerError(RuntimeError):
    """The peer's process failed."""


def language_model(cell: str, learning_rate: float, seed: int, epochs: int, flags: argparse.Namespace) -> Run:
    """Trains a recurrent language model on The Time Machine (D2L 9.5, 9.6, 10.1, 10.2)."""
    text = clean_text("".join(load("time_machine")["text"]))
    vocab = Vocab.from_corpus(text)
    windows = overlapping_windows(vocab.encode(text), NUM_STEPS)
    train, held_out = np.split(windows[: flags.train_windows + flags.eval_windows], [flags.train_windows])
    train_data = DeviceData({"tokens": train}, flags.batch_size, train=True, seed=seed)
    eval_data = DeviceData({"tokens": held_out}, min(1000, len(held_out)), train=False)

    model = nlp.RNNLanguageModel(len(vocab), CELLS[cell](HIDDEN_SIZE))
    optimizer = optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.sgd(learning_rate))
    loss_fn, eval_fn = nlp.next_token_prediction(model)
    state = training.init_state(lambda key: model.init(key, train[:1, :-1]), optimizer, jax.random.key(seed))
    step = training.jit_step(training.make_step(training.sum_gradients(loss_fn), optimizer))
    before = training.evaluate(eval_fn, state, eval_data)["perplexity"]
    trained, _ = training.fit(step, state, train_data, epochs=epochs, progress=False)
    return Run(
        training.evaluate(eval_fn, trained, eval_data)["perplexity"],
        before,
        {"train": train, "eval": held_out, "rows": rows_of(train_data, epochs), **torch_names(state.params)},
        {
            "cell": cell,
            "vocab_size": len(vocab),
            "hidden_size": HIDDEN_SIZE,
            "learning_rate": learning_rate,
            "max_gradient_norm": MAX_GRADIENT_NORM,
        },
    )


def translation(
    network: Any, sizes: tuple[str, ...], learning_rate: float, seed: int, epochs: int, flags: argparse.Namespace
) -> Run:
    """Trains an encoder and a decoder on English and French (D2L 10.7, 11.4, 11.7)."""
    pairs = load("fra_eng", "train[:640]")
    english, french = ([clean_sentence(str(text)).split() for text in pairs[key]] for key in ("english", "french"))
    vocabs = [sentence_vocab(side[:512], min_frequency=2) for side in (english, french)]
    arrays = encode_pairs(english, french, *vocabs, num_steps=9, truncate=True)
    train, held_out = ({name: x[part] for name, x in arrays.items()} for part in (slice(512), slice(512, None)))
    train_data = DeviceData(train, 128, train=True, seed=seed)

    model = network(len(vocabs[0]), len(vocabs[1]))
    optimizer = optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(learning_rate))
    loss_fn, eval_fn = nlp.teacher_forcing(model)
    first = train["source"][:1], train["source_length"][:1], train["target"][:1, :-1]
    state = training.init_state(lambda key: model.init(key, *first), optimizer, jax.random.key(seed))
    step = training.jit_step(training.make_step(training.sum_gradients(loss_fn), optimizer))
    trained, _ = training.fit(step, state, train_data, epochs=epochs, progress=False)
    settings = {
        "sizes": {name: getattr(model, name) for name in ("source_vocab_size", "target_vocab_size", *sizes)},
        "learning_rate": learning_rate,
        "max_gradient_norm": MAX_GRADIENT_NORM,
        "eos_id": EOS_ID,
        "seed": seed,
    }
    return Run(
        training.evaluate(eval_fn, trained, DeviceData(held_out, 128, train=False))["bleu"],
        None,
        train | {f"eval_{name}": x for name, x in held_out.items()} | {"rows": rows_of(train_data, epochs)},
        settings,
    )


def corpus_bleu(answer: dict[str, Any], run: Run) -> float:
    """BLEU-2 of a peer's translations as `nlp.teacher_forcing` has ours: `<unk>` in a reference matches nothing."""
    labels, lengths = run.arrays["eval_target"][:, 1:], run.arrays["eval_target_length"]
    ends = (labels == EOS_ID).any(axis=1)  # a sentence that was cut has no <eos>
    predictions = np.zeros(labels.shape, np.int32)
    for row, translation in zip(predictions, answer["translations"], strict=True):
        row[: len(translation)] = translation
    found = np.array([len(translation) for translation in answer["translations"]], np.int32)
    references = np.where(labels == UNK_ID, -1, labels)
    return float(nlp.NgramCounts.of(*map(jnp.asarray, (predictions, found, references, lengths - ends))).compute())


def rows_of(data: DeviceData, epochs: int) -> np.ndarray:
    """The examples of each batch in training, `[steps, batch]`."""
    stacks = [stack.rows for epoch in range(epochs) for stack in data.chunks(epoch, 0, len(data))]
    return np.concatenate(stacks)


def torch_names(params: Any) -> dict[str, np.ndarray]:
    """The weights of an `RNNLanguageModel` of one layer, as `peers/torch_language_model.py` has them."""
    layer, output = params["recurrence"]["layer_0"], params["Dense_0"]
    return {
        "rnn.weight_ih_l0": np.asarray(layer["input_kernel"]).T,
        "rnn.weight_hh_l0": np.asarray(layer["recurrent_kernel"]).T,
        "rnn.bias_ih_l0": np.asarray(layer["input_bias"]),
        "rnn.bias_hh_l0": np.asarray(layer["recurrent_bias"]),
        "output.weight": np.asarray(output["kernel"]).T,
        "output.bias": np.asarray(output["bias"]),
    }


RECIPES = {
    "rnn": Recipe(partial(language_model, "rnn", 1.0), 100, "perplexity", "torch_language_model.py"),
    "gru": Recipe(partial(language_model, "gru", 4.0), 50, "perplexity", "torch_language_model.py"),
    "lstm": Recipe(partial(language_model, "lstm", 4.0), 50, "perplexity", "torch_language_model.py"),
    "seq2seq": Recipe(
        partial(translation, nlp.Seq2Seq, RECURRENT_SIZES, 0.005), 30, "bleu", "torch_seq2seq.py", corpus_bleu
    ),
    "bahdanau": Recipe(
        partial(translation, nlp.AttentionSeq2Seq, RECURRENT_SIZES, 0.005), 30, "bleu", "torch_bahdanau.py", corpus_bleu
    ),
    "transformer": Recipe(
        partial(translation, nlp.Transformer, TRANSFORMER_SIZES, 0.001), 30, "bleu", "torch_transformer.py", corpus_bleu
    ),
}


def run_peer(recipe: Recipe, run: Run, python: str) -> dict[str, Any]:
    """Trains the peer on what our side was trained on; returns its answer.

    Raises:
      PeerError: if it does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        settings = {"settings": np.asarray(json.dumps(run.settings | {"threads": cores()}))}
        np.savez(path, allow_pickle=False, **(run.arrays | settings))
        command = [python, str(PEERS / recipe.peer), str(path)]
        # Nothing is timed, so threads need not spin while they wait: on a busy machine that costs more than it gains.
        environment = os.environ | {"OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "PASSIVE"}
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    try:
        return json.loads(finished.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        last = (finished.stderr.strip().splitlines() or ["nothing"])[-1]
        raise PeerError(f"{python!r} ended with exit code {finished.returncode} and said {last!r}") from None


def compare(name: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Runs a recipe on both sides, seed by seed, and returns its line."""
    recipe = RECIPES[name]
    epochs = flags.epochs or recipe.epochs
    ours, theirs, differences, seconds, answer = [], [], [], [], {}
    for seed in range(flags.seeds):
        start = time.perf_counter()
        run = recipe.run(seed, epochs, flags)
        seconds.append(round(time.perf_counter() - start, 1))
        ours.append(run.score)
        answer = run_peer(recipe, run, flags.peer_python)
        if "absent" not in answer:
            theirs.append(recipe.judge(answer, run))
            if run.initial is not None:
                differences.append(abs(answer["initial"] / run.initial - 1))
    mean, peer_mean = (statistics.fmean(scores) if scores else None for scores in (ours, theirs))
    return {
        "recipe": name,
        "metric": recipe.metric,
        "jaxdl": _rounded(mean),
        "peer": _rounded(peer_mean),
        "ratio": _rounded(mean / peer_mean if mean is not None and peer_mean else None),
        "jaxdl_deviation": _rounded(statistics.pstdev(ours)),
        "peer_deviation": _rounded(statistics.pstdev(theirs) if theirs else None),
        "jaxdl_runs": [_rounded(score) for score in ours],
        "peer_runs": [_rounded(score) for score in theirs],
        "initial_difference": max(differences, default=None),  # relative; of the same weights before training
        "peer_absent": answer.get("absent"),
        "epochs": epochs,
        "jaxdl_seconds": seconds,
        "machine": describe(),
        "versions": versions("jax", "jaxlib", "flax")
        | {f"peer_{key}": value for key, value in answer.get("versions", {}).items()},
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags and prints a line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="comma-separated; default: all of %(default)s")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has PyTorch; default: this one")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--train-windows", type=int, default=10_000, help="of the language models")
    parser.add_argument("--eval-windows", type=int, default=5_000, help="of the language models")
    parser.add_argument("--batch-size", type=int, default=1024, help="of the language models")
    flags = parser.parse_args(arguments)
    names = flags.recipes.split(",")
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"argument --recipes: expected names out of {', '.join(RECIPES)}; got {', '.join(unknown)}")
    if shutil.which(flags.peer_python) is None:
        parser.error(f"argument --peer-python: cannot run {flags.peer_python!r}")
    for name in ("seeds", "epochs", "train_windows", "eval_windows", "batch_size"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            parser.error(f"argument --{name.replace('_', '-')}: expected at least 1, got {getattr(flags, name)}")

    jax.config.update("jax_platforms", "cpu")
    try:
        for name in names:
            print(json.dumps(compare(name, flags)), flush=True)
    except DatasetUnavailable as error:
        parser.error(f"argument --recipes: {error}")
    except PeerError as error:
        parser.error(f"argument --peer-python: {error}")


if __name__ == "__main__":
    main()
