"""What is trained: a registry of models with their data, each the same model as its peer in `peers/`."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen
import jax
import numpy as np
import optax

from jaxdl import nn, training
from jaxdl.vision import LeNet


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


def images_and_labels(num_examples: int) -> dict[str, np.ndarray]:
    """Random images of 28 x 28 x 1 and labels of ten classes."""
    rng = np.random.default_rng(0)
    images = rng.random((num_examples, 28, 28, 1), np.float32)
    return {"image": images, "label": rng.integers(0, 10, num_examples, np.int32)}


def image_classifier(model: flax.linen.Module) -> Case:
    """A model of `images_and_labels`, with SGD at 0.1."""
    optimizer = optax.sgd(0.1)
    loss_fn, _ = training.supervised(
        model, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    step = training.make_step(training.sum_gradients(loss_fn), optimizer)
    image = images_and_labels(1)["image"]
    state = training.init_state(lambda key: model.init(key, image), optimizer, jax.random.key(0))
    return Case(step, state, images_and_labels)


CASES: dict[str, Callable[[], Case]] = {
    "mlp": lambda: image_classifier(nn.MLP([256, 10])),
    # The book's LeNet (D2L 7.6), and the library's default, whose backward pass goes through max pooling.
    "lenet": lambda: image_classifier(LeNet(activation=jax.nn.sigmoid, pool=flax.linen.avg_pool)),
    "lenet_relu_max": lambda: image_classifier(LeNet()),
}
