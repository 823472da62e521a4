"""Loss and evaluation functions from per-example scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxdl.training import supervised


class Model(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return linen.Dropout(0.5, deterministic=not train)(linen.Dense(3)(x))


LOSS_FN, EVAL_FN = supervised(
    Model(),
    "x",
    loss=lambda outputs, batch: jnp.square(outputs - batch["y"][:, None]).sum(-1),
    scores={"bias": lambda outputs, batch: outputs.mean(-1) - batch["y"]},
)
BATCH = {
    "x": jax.random.normal(jax.random.key(1), (6, 4)),
    "y": jnp.arange(6.0),
    "mask": jnp.array([1.0, 1, 1, 1, 0, 0]),
}
VARIABLES = Model().init(jax.random.key(0), BATCH["x"])
PARAMS, MODEL_STATE = VARIABLES["params"], {"batch_stats": VARIABLES["batch_stats"]}


def test_training_draws_dropout_and_updates_the_statistics():
    first, (_, new_state) = LOSS_FN(PARAMS, MODEL_STATE, BATCH, jax.random.key(0))
    second, _ = LOSS_FN(PARAMS, MODEL_STATE, BATCH, jax.random.key(1))
    assert first.total != second.total
    mean = new_state["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * BATCH["x"].mean(0), atol=1e-6)


def test_evaluation_is_deterministic_and_masked():
    figures = EVAL_FN(PARAMS, MODEL_STATE, BATCH)
    outputs = np.asarray(Model().apply(VARIABLES, BATCH["x"]))[:4]
    y = np.arange(4.0)
    assert float(figures["loss"].compute()) == pytest.approx(((outputs - y[:, None]) ** 2).sum(-1).mean(), rel=1e-5)
    assert float(figures["bias"].compute()) == pytest.approx((outputs.mean(-1) - y).mean(), rel=1e-5)
    whole = EVAL_FN(PARAMS, MODEL_STATE, {k: v for k, v in BATCH.items() if k != "mask"})
    assert whole["loss"].count == 6
