r"""A small GPT: a transformer that only decodes, trained on the characters of a text (D2L 11.9).

    python examples/ch11_gpt.py
    python examples/ch11_gpt.py --strategy tensor --precision bfloat16
    python examples/ch11_gpt.py --data tiny_shakespeare --train-split "train[:90%]" --eval-split "train[90%:]" \
        --num-blocks 4 --features 128 --batch-size 16 --learning-rate 0.002 \
        --prompts "ROMEO:" "My lord," "What is the meaning of"

The default trains three blocks of width 96, with 357,216 parameters, on 339,641 characters of Python's language
reference. The perplexity on 33,492 other characters is 3.95 (mean of seeds 0 to 2, standard deviation 0.04; the text is
Python 3.11's), a loss of 1.37 nats, in 62 s on two cores of an AMD EPYC (97 s of processor time, jax 0.10.2). After one
character the loss is 2.8 nats, after 64 or more 1.3: a picture shows what context is worth. The recurrent network of
ch09_language_model gets 3.68 from ten epochs instead of six.

The third command trains four blocks of width 128, 818,304 parameters, on the first 90 % of Tiny Shakespeare. The loss
on the rest is 1.543 nats a character, in 465 s of processor time (seed 0). It goes on from its prompts, sampled at a
temperature of 0.7, with

    [ROMEO:]
    God marry, it is not stand and truth:
    One readful damonant danger of my fire rules.

    [What is the meaning of] such a thousand thoughts.

    Shepherd:
    Go to yourselves, I will not a sudden to be joy
    To love them.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ch09_language_model import read_text

from jaxdl import experiment, nlp, nn, plotting, training
from jaxdl.data import Vocab, clean_text, random_partition


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Trains a GPT on the characters of a text."""

    data: Literal["pydoc", "time_machine", "tiny_shakespeare"] = "pydoc"
    """The text, as in ch09_language_model. Splits are of characters; only pydoc has a "test"."""
    epochs: int = 6
    batch_size: int = 8
    learning_rate: float = 4e-3
    """The highest: it grows from 0 during the first twentieth of the steps and falls to a tenth along a cosine."""
    weight_decay: float = 0.1
    """Of the kernels."""
    num_steps: int = 128
    """Characters that the model sees at most: the length of a training example."""
    num_blocks: int = 3
    """One upon another."""
    num_heads: int = 4
    """Of each block."""
    features: int = 96
    """Of a character, in all blocks."""
    dropout_rate: float = 0.0
    """Of the characters and inside the blocks."""
    prompts: tuple[str, ...] = ("it has", "The ", "An exception is raised when ")
    """Goes on from each of them; their lengths may differ."""
    num_generated: int = 100
    """Characters to sample after each."""
    temperature: float = 0.7
    """Of the sampling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.prompts and all(self.prompts)):
            raise ValueError(f"prompts: expected one or more, of at least one character each, got {self.prompts}")
        if self.num_generated < 1:
            raise ValueError(f"num_generated: expected at least 1, got {self.num_generated}")
        if (length := max(map(len, self.prompts)) + self.num_generated) > self.num_steps:
            raise ValueError(
                f"num_generated: with the longest prompt {length} characters, more than num_steps {self.num_steps}; "
                "lower it, or take shorter prompts"
            )
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature: expected a finite number above 0, got {self.temperature}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay: expected 0 or more, got {self.weight_decay}")


def make_model(config: Config, vocab_size: int) -> nlp.GPT:
    """The model that the flags describe."""
    return nlp.GPT(
        vocab_size,
        max_length=config.num_steps,
        features=config.features,
        num_heads=config.num_heads,
        num_blocks=config.num_blocks,
        dropout_rate=config.dropout_rate,
        dtype=experiment.compute_dtype(config),
    )


def make_optimizer(config: Config, num_steps: int) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm."""
    peak = config.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, num_steps // 20, num_steps, peak / 10)
    adamw = optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay, mask=nn.kernel_mask)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def loss_by_context(model: nlp.GPT, state: training.TrainState, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss after 1, 2 to 3, 4 to 7 ... characters, by the first number of each range."""

    def losses(params: Any, model_state: Any, batch: training.Batch) -> tuple[jax.Array, jax.Array]:
        logits, _ = model.apply({"params": params}, batch["tokens"][:, :-1])
        counted = jnp.arange(logits.shape[1])[None] < batch["length"][:, None]
        return nn.cross_entropy(logits, batch["tokens"][:, 1:]) * counted, counted

    total, count = (part.sum(0) for part in training.predict(losses, state, data))  # [num_steps]
    first = 2 ** np.arange(max(1, int((count > 0).sum() - 1).bit_length()))
    total, count = (np.add.reduceat(part, first - 1) for part in (total, count))
    return first, total / count


def continue_texts(model: nlp.GPT, params: Any, vocab: Vocab, config: Config) -> list[str]:
    """Goes on from all prompts in one compiled call; keys and values of what was read are kept, not computed again."""
    lengths = np.array([len(prompt) for prompt in config.prompts])
    padded = [vocab.encode(prompt.ljust(lengths.max())) for prompt in config.prompts]
    prompts = jnp.asarray(np.stack(padded))  # the blanks at the end are not read

    @jax.jit
    def write(params: Any, key: jax.Array) -> nlp.Decoded:
        options: dict[str, Any] = {"eos_id": None, "key": key, "temperature": config.temperature}
        limit, variables = config.num_generated, {"params": params}
        return nlp.generate(model, variables, prompts, lengths, nlp.sample, max_new_tokens=limit, **options)

    found = write(params, jax.random.key(config.seed))
    return ["".join(vocab.decode(ids)) for ids in np.asarray(found.tokens)]


def main(config: Config) -> dict[str, float]:
    """Trains, draws what context is worth, goes on from the prompts, and returns the last row of the history."""
    train_text, eval_text = (read_text(config.data, split) for split in (config.train_split, config.eval_split))
    vocab = Vocab.from_corpus(train_text)
    if config.data == "time_machine":
        config = replace(config, prompts=tuple(map(clean_text, config.prompts)))  # as the text is
    if unknown := sorted(set("".join(config.prompts)) - set(vocab.tokens)):
        raise ValueError(f"prompts: expected characters of the training text, got {unknown}")
    print(f"{len(train_text):,} characters to train, {len(eval_text):,} to evaluate, {len(vocab)} in the vocabulary")
    corpus = vocab.encode(train_text)
    train_data = random_partition(corpus, config.batch_size, config.num_steps, train=True, seed=config.seed)
    eval_data = random_partition(vocab.encode(eval_text), 128, config.num_steps, train=False)

    model = make_model(config, len(vocab))
    optimizer = make_optimizer(config, config.epochs * len(train_data))
    loss_fn, eval_fn = nlp.next_token_prediction(model)
    step = experiment.make_step(loss_fn, optimizer, config)
    compiled = experiment.compile_step(step, config, tensor_parallel=nn.TENSOR_PARALLEL)
    tokens = jnp.zeros((1, config.num_steps), jnp.int32)
    state = experiment.init_state(lambda key: model.init(key, tokens), optimizer, config)
    print(nn.parameter_table({"params": state.params}))
    folder = experiment.run_folder("ch11_gpt")
    state, history = experiment.run(
        "ch11_gpt", config, compiled, state, train_data, eval_fn=eval_fn, eval_data=eval_data, folder=folder
    )

    context_path = folder / "context.png"
    seen, losses = loss_by_context(model, state, eval_data)
    plotting.lines(
        seen,
        {"": losses},
        context_path,
        xlabel="characters seen: 1, 2 to 3, 4 to 7 ...",
        ylabel="loss of the next one, nats",
        title="What context is worth",
        xscale="log",
    )
    print(f"loss after 1 character {losses[0]:.2f}, after {seen[-1]} or more {losses[-1]:.2f}: {context_path}")
    params = jax.device_get(state.params)  # from wherever they were trained
    print(f"\nsampled at a temperature of {config.temperature}:")
    for prompt, text in zip(config.prompts, continue_texts(model, params, vocab, config), strict=True):
        print(f"[{prompt}]{text}\n")
    return history.rows[-1]


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
