"""Each architecture, reduced, learns digits at 32 pixels. With shuffled labels, or an untrained body, it does not."""

import jax
import numpy as np
import optax
import pytest
from reduced_models import REDUCED

from jaxdl import nn
from jaxdl.data import DeviceData, load, resize
from jaxdl.training import evaluate, init_state, jit_step, make_step, sum_gradients, supervised

EPOCHS = 10


@pytest.fixture(autouse=True)
def optimizations():
    """These trainings are long enough for compiling them well to pay: they take a third of the time."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def head(params):
    """The name of the layer that makes the logits."""
    dense = sorted(name for name in params if name.startswith("Dense_"))
    return dense[-1] if dense else "NiNBlock_3"


def accuracies(model, runs, seed=0):
    """Held-out accuracy of each run, `{"shuffle": labels, "train_body": or only the head}`; compiled once for all."""
    train, test = load("digits", "train"), load("digits", "test")
    for arrays in (train, test):
        arrays["image"] = resize(arrays["image"], (32, 32))
    shuffled = np.random.default_rng(0).permutation(train["label"])
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, EPOCHS * (1437 // 32)))
    model_loss_fn, eval_fn = supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )

    def loss_fn(params, model_state, batch, key):
        share = batch["train_body"].mean()  # 1 or 0, of the gradient
        body = jax.tree.map(lambda p: share * p + (1 - share) * jax.lax.stop_gradient(p), params)
        return model_loss_fn({**body, head(params): params[head(params)]}, model_state, batch, key)

    step = jit_step(make_step(sum_gradients(loss_fn), optimizer))
    initial = init_state(lambda key: model.init(key, train["image"][:1]), optimizer, jax.random.key(seed))
    for run in runs:
        train_body = np.full(1437, run.get("train_body", True), np.float32)
        labels = shuffled if run.get("shuffle", False) else train["label"]
        arrays = {"image": train["image"], "label": labels, "train_body": train_body}
        data, state = DeviceData(arrays, 32, train=True, seed=seed), step.place_state(initial)
        for epoch in range(EPOCHS):
            for batch in data.batches(epoch):
                state, _ = step(state, batch)
        yield evaluate(eval_fn, state, DeviceData(test, 360, train=False))["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REDUCED)
def test_it_learns_and_the_controls_do_not(name):
    """One frozen block is no control: of most networks the others make up for it (0.99 of LeNet and VGG)."""
    learned, shuffled, only_head = accuracies(REDUCED[name], ({}, {"shuffle": True}, {"train_body": False}))
    assert learned > 0.95
    assert shuffled < 0.3  # chance is 0.1
    assert only_head < 0.93
