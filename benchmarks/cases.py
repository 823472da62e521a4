"""What is trained: a registry of models with their data, each the same model as its peer in `peers/`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen
import jax
import numpy as np
import optax

from jaxdl import nlp, nn, training
from jaxdl.vision import DenseNet, GoogLeNet, LeNet, NiN, resnet18, vgg11_small


@dataclass(frozen=True)
class Case:
    """A training step and what it is fed.

    Args:
      step: pure, from `make_step`.
      state: to start from.
      examples: makes that many random examples.
      batch_size: examples a step.
      num_batches: how many different batches are resident and taken in turn.
    """

    step: training.Step
    state: training.TrainState
    examples: Callable[[int], dict[str, np.ndarray]]
    batch_size: int = 256
    num_batches: int = 20

    @property
    def num_parameters(self) -> int:
        """Trained numbers; the peer's model must have as many."""
        return sum(x.size for x in jax.tree.leaves(self.state.params))


def images_and_labels(num_examples: int, pixels: int) -> dict[str, np.ndarray]:
    """Random images of one channel and labels of ten classes."""
    rng = np.random.default_rng(0)
    images = rng.random((num_examples, pixels, pixels, 1), np.float32)
    return {"image": images, "label": rng.integers(0, 10, num_examples, np.int32)}


def image_classifier(
    model: flax.linen.Module,
    *,
    pixels: int = 28,
    learning_rate: float = 0.1,
    batch_size: int = 256,
    num_batches: int = 20,
) -> Case:
    """A model of `images_and_labels`, with SGD."""
    optimizer = optax.sgd(learning_rate)
    loss_fn, _ = training.supervised(
        model, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    step = training.make_step(training.sum_gradients(loss_fn), optimizer)
    image = images_and_labels(1, pixels)["image"]
    state = training.init_state(lambda key: model.init(key, image), optimizer, jax.random.key(0))
    return Case(step, state, partial(images_and_labels, pixels=pixels), batch_size, num_batches)


class CharacterModel(flax.linen.Module):
    """A recurrent layer, and at each step the scores of 28 characters (D2L 9.6)."""

    recurrent: flax.linen.Module

    @flax.linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, time, in]` to `[batch, time, 28]`."""
        hidden, _ = self.recurrent(x, train=train)
        logits = flax.linen.Dense(28)(hidden.reshape(-1, hidden.shape[-1]))  # [batch * time, 28]
        return logits.reshape(*x.shape[:2], 28)


def sequences_and_labels(num_examples: int, time: int, size: int) -> dict[str, np.ndarray]:
    """Random vectors and, for each, one of 28 characters."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_examples, time, size), np.float32)
    return {"x": x, "label": rng.integers(0, 28, (num_examples, time), np.int32)}


def character_model(
    layer: Callable[..., flax.linen.Module], *, size: int, hidden: int, time: int, batch_size: int, num_batches: int
) -> Case:
    """A model of `sequences_and_labels`, with SGD."""
    model, optimizer = CharacterModel(layer(hidden)), optax.sgd(0.1)
    loss_fn, _ = training.supervised(
        model, "x", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]).mean(-1), scores={}
    )
    step = training.make_step(training.sum_gradients(loss_fn), optimizer)
    state = training.init_state(
        lambda key: model.init(key, np.zeros((1, 1, size), np.float32)), optimizer, jax.random.key(0)
    )
    return Case(step, state, partial(sequences_and_labels, time=time, size=size), batch_size, num_batches)


def language_model(*, vocab_size: int, time: int, features: int, batch_size: int, num_batches: int) -> Case:
    """A GPT of two blocks with four heads, with SGD on random tokens."""
    model = nlp.GPT(vocab_size, max_length=time, features=features, num_heads=4, num_blocks=2)
    optimizer = optax.sgd(0.1)
    loss_fn, _ = nlp.next_token_prediction(model)
    step = training.make_step(training.sum_gradients(loss_fn), optimizer)
    state = training.init_state(
        lambda key: model.init(key, np.zeros((1, time), np.int32)), optimizer, jax.random.key(0)
    )

    def examples(num_examples: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {"tokens": rng.integers(0, vocab_size, (num_examples, time + 1), np.int32)}

    return Case(step, state, examples, batch_size, num_batches)


# The sizes of a first recurrent network of characters, of a useful one, and of Zaremba et al., 2014, "medium".
small = partial(character_model, size=28, hidden=32, time=35, batch_size=32, num_batches=20)
medium = partial(character_model, size=28, hidden=256, time=64, batch_size=32, num_batches=10)
large = partial(character_model, size=650, hidden=650, time=35, batch_size=64, num_batches=10)

# The networks of D2L chapter 8 in the book's form, at the size on which it trains the last three.
modern_cnn = partial(image_classifier, pixels=96, learning_rate=0.01, batch_size=32, num_batches=10)

CASES: dict[str, Callable[[], Case]] = {
    "mlp": lambda: image_classifier(nn.MLP([256, 10])),
    # The book's LeNet (D2L 7.6), and the library's default, whose backward pass goes through max pooling.
    "lenet": lambda: image_classifier(LeNet(activation=nn.sigmoid, pool=nn.avg_pool)),
    "lenet_relu_max": lambda: image_classifier(LeNet()),
    "vgg": lambda: modern_cnn(vgg11_small()),
    "nin": lambda: modern_cnn(NiN()),
    "googlenet": lambda: modern_cnn(GoogLeNet()),
    "resnet18": lambda: modern_cnn(resnet18()),
    "densenet": lambda: modern_cnn(DenseNet()),
    "rnn_small": lambda: small(nn.RNN),
    "gru_small": lambda: small(nn.GRU),
    "lstm_small": lambda: small(nn.LSTM),
    "lstm": lambda: medium(nn.LSTM),
    "rnn_large": lambda: large(nn.RNN),
    "gru_large": lambda: large(nn.GRU),
    "lstm_large": lambda: large(nn.LSTM),
    "transformer": lambda: language_model(vocab_size=1000, time=128, features=256, batch_size=16, num_batches=10),
}
