r"""A language model of characters (D2L 9.2 to 9.6, 10.1 to 10.3): trained, evaluated, and asked to go on with a text.

    python examples/ch09_language_model.py
    python examples/ch09_language_model.py --cell lstm --partition sequential --strategy shard
    python examples/ch09_language_model.py --data tiny_shakespeare --train-split "train[:1000000]" \
        --eval-split "train[1000000:]"

The default trains 256 gated recurrent units on 339,641 characters of Python's language reference, case and punctuation
as they are, in 43 s on two cores of an AMD EPYC (jax 0.10.2). The perplexity on 33,492 other characters
is 3.68 (mean of seeds 0 to 2, standard deviation 0.02; the text is Python 3.11's); with `--cell lstm` it is 3.78, with
`--cell rnn` 4.34 (seed 0). Seed 0 goes on from "it has", by the likeliest characters with " a subclasses of the", and
sampled at a temperature of 0.7 with

    it has been contain such as "types.papare" may be necessarily are needs not define the string.  It mutable.

    * Boolean value pass over the same exic filles
    of the debugger becomes the "code()" method of the prima lapted by the same as the
       instances are not be substituted by the exception was results in

Words, quotes and layout are there; sense is not.

The book's recipes for The Time Machine (9.5, 10.1, 10.2), whose results `benchmarks/quality.py` sets beside PyTorch's:

    python examples/ch09_language_model.py --data time_machine --train-split "train[:10032]" \
        --eval-split "train[10000:15032]" --partition overlapping --num-steps 32 --batch-size 1024 --hidden-size 32 \
        --optimizer sgd --cell rnn --learning-rate 1 --epochs 100      # gru and lstm: --learning-rate 4 --epochs 50
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, nlp, nn
from jaxdl.data import (
    DeviceData,
    Vocab,
    clean_text,
    load,
    overlapping_windows,
    parse_split,
    random_partition,
    sequential_partition,
)

CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Trains a recurrent language model on the characters of a text."""

    data: Literal["pydoc", "time_machine", "tiny_shakespeare"] = "pydoc"
    """The text: Python's language reference, which needs no network; The Time Machine, cleaned as in the book (lower
    case, letters and blanks); Shakespeare. Splits are of characters; only pydoc has a "test"."""
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-3
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """The recurrent network."""
    hidden_size: int = 256
    """Units of each layer."""
    num_layers: int = 1
    """One upon another."""
    dropout_rate: float = 0.0
    """Between the layers."""
    embed_size: int | None = None
    """Width of character embeddings; None: one-hot vectors."""
    num_steps: int = 64
    """Characters that a training example is long."""
    partition: Literal["random", "sequential", "overlapping"] = "random"
    """How the text becomes examples: in random order; one after the other, the hidden state carried along; or
    overlapping, one from every character on, as in the book."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Its learning rate is constant; gradients are clipped to a global norm of 1."""
    prefix: str = "it has"
    """Goes on from here."""
    num_generated: int = 300
    """Characters to sample."""
    temperature: float = 0.7
    """Of the sampling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prefix:
            raise ValueError("prefix: expected at least one character, got none")
        if self.num_generated < 1:
            raise ValueError(f"num_generated: expected at least 1, got {self.num_generated}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number, got {self.temperature}")


def read_text(name: str, split: str) -> str:
    """The part of a text that `split` names, counted in characters after cleaning."""
    text = ""
    for part in parse_split(split):
        whole = "".join(load(name, part.split)["text"])
        whole = clean_text(whole) if name == "time_machine" else whole
        text += whole[part.resolve(len(whole))]
    return text


def batches_of(tokens: np.ndarray, config: Config, *, train: bool) -> Any:
    """The examples as `--partition` wants them; what is evaluated does not overlap, except in the book's way."""
    if config.partition == "overlapping":
        windows = overlapping_windows(tokens, config.num_steps)
        return DeviceData({"tokens": windows}, config.batch_size, train=train, seed=config.seed)
    if config.partition == "sequential" and train:
        return sequential_partition(tokens, config.batch_size, config.num_steps, train=True, seed=config.seed)
    batch_size = config.batch_size if train else 256
    return random_partition(tokens, batch_size, config.num_steps, train=train, seed=config.seed)


def make_model(config: Config, vocab_size: int) -> nlp.RNNLanguageModel:
    """The model that the flags describe."""
    dtype = experiment.compute_dtype(config)
    recurrence = CELLS[config.cell](
        config.hidden_size, config.num_layers, dropout_rate=config.dropout_rate, dtype=dtype
    )
    return nlp.RNNLanguageModel(
        vocab_size,
        recurrence,
        embed_size=config.embed_size,
        carry_state=config.partition == "sequential",
        dtype=dtype,
    )


def continue_text(model: nlp.RNNLanguageModel, variables: Any, vocab: Vocab, config: Config) -> tuple[str, str]:
    """Goes on from `--prefix`: 20 characters, each the likeliest (the book's), and a sample."""
    prompt = jnp.asarray(vocab.encode(config.prefix))[None]
    ways = (
        partial(nlp.generate, model, max_new_tokens=20, eos_id=None),
        partial(
            nlp.generate,
            model,
            search=nlp.sample,
            max_new_tokens=config.num_generated,
            eos_id=None,
            key=jax.random.key(config.seed),
            temperature=config.temperature,
        ),
    )
    found = [jax.jit(generate)(variables, prompt).tokens[0] for generate in ways]
    likeliest, sampled = (config.prefix + "".join(vocab.decode(tokens)) for tokens in found)
    return likeliest, sampled


def main(config: Config) -> dict[str, float]:
    """Trains, generates, and returns the last row of the history."""
    train_text, eval_text = (read_text(config.data, split) for split in (config.train_split, config.eval_split))
    vocab = Vocab.from_corpus(train_text)
    if unknown := sorted(set(config.prefix) - set(vocab.tokens)):
        raise ValueError(f"prefix: expected characters of the training text, got {unknown}")
    print(f"{len(train_text):,} characters to train, {len(eval_text):,} to evaluate, {len(vocab)} in the vocabulary")
    train_data = batches_of(vocab.encode(train_text), config, train=True)
    eval_data = batches_of(vocab.encode(eval_text), config, train=False)

    model = make_model(config, len(vocab))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        {"adam": optax.adam, "sgd": optax.sgd}[config.optimizer](config.learning_rate),
    )
    loss_fn, eval_fn = nlp.next_token_prediction(model)
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    tokens = jnp.zeros((config.batch_size, config.num_steps), jnp.int32)
    state = experiment.init_state(lambda key: model.init(key, tokens), optimizer, config)
    print(nn.parameter_table({"params": state.params}))
    state, history = experiment.run(
        "ch09_language_model", config, step, state, train_data, eval_fn=eval_fn, eval_data=eval_data
    )

    params = jax.device_get(state.params)  # from wherever they were trained
    likeliest, sampled = continue_text(model, {"params": params}, vocab, config)
    print(f"\nthe likeliest characters:\n{likeliest!r}\n\nsampled at a temperature of {config.temperature}:\n{sampled}")
    return history.rows[-1]


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
