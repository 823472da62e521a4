"""A small masked classification problem that the tests of training share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.training import Batch, Mean, TrainState

Tree = dict[str, Any]


def make_batch(seed: int = 0, size: int = 64) -> Tree:
    """`x` [size, 5], `y` [size] and a `mask` that leaves out about 40 %, unevenly."""
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < np.linspace(0.2, 1.0, size)
    return {
        "x": jnp.asarray(rng.normal(size=(size, 5))),
        "y": jnp.asarray(rng.integers(0, 3, size), jnp.int32),
        "mask": jnp.asarray(mask, jnp.result_type(float)),
    }


def make_params(seed: int = 0) -> Tree:
    rng = np.random.default_rng(seed)
    return {"w": jnp.asarray(rng.normal(size=(5, 7))), "v": jnp.asarray(rng.normal(size=(7, 3)))}


def make_state(optimizer: optax.GradientTransformation, model_state: Any = None) -> TrainState:
    params = make_params()
    return TrainState(params, model_state or {}, optimizer.init(params), jnp.zeros((), jnp.int32), jax.random.key(0))


def loss_fn(params: Tree, model_state: Any, batch: Batch, key: jax.Array) -> Any:
    logits = jnp.tanh(batch["x"] @ params["w"]) @ params["v"]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    correct = (logits.argmax(-1) == batch["y"]).astype(logits.dtype)
    mask = batch.get("mask")
    return Mean.of(loss, mask), ({"accuracy": Mean.of(correct, mask)}, model_state)


def eval_fn(params: Tree, model_state: Any, batch: Batch) -> Any:
    loss, (metrics, _) = loss_fn(params, model_state, batch, jax.random.key(0))
    return {"loss": loss, **metrics}


def largest_gap(a: Any, b: Any) -> float:
    """The largest absolute difference between two pytrees of arrays."""
    gaps = jax.tree.map(lambda x, y: np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max(), a, b)
    return float(max(jax.tree.leaves(gaps)))


class ListData:
    """Data from a list of batches, the same every epoch."""

    def __init__(self, batches: list[Tree]):
        self.list = batches

    def batches(self, epoch: int, start: int = 0) -> Any:
        return iter(self.list[start:])

    def __len__(self) -> int:
        return len(self.list)
