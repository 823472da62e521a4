"""Layer-wise rates against NumPy (with decay, where Optax's LARS differs), and what does not depend on scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import optim

rng = np.random.default_rng(0)
START = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
GRADIENTS = {"kernel": rng.normal(size=(20, 4, 3)), "bias": rng.normal(size=(20, 3))}
ONLY_KERNEL = {"kernel": True, "bias": False}


def run(optimizer, gradients=GRADIENTS):
    def step(carry, g):
        x, state = carry
        updates, state = optimizer.update(g, state, x)
        return (jax.tree.map(jnp.add, x, updates), state), updates

    params = jax.tree.map(jnp.asarray, START)
    (x, _), updates = jax.jit(lambda g: jax.lax.scan(step, (params, optimizer.init(params)), g))(gradients)
    return x, updates


def test_lars_is_the_papers(x64):
    """Algorithm 1: the gradient's norm and the decay's are added, not the vectors."""
    rate, beta, trust, decay = 2.0, 0.8, 0.01, 0.5
    x, _ = run(
        optim.lars(
            rate,
            beta,
            trust_coefficient=trust,
            weight_decay=decay,
            weight_decay_mask=ONLY_KERNEL,
            trust_ratio_mask=ONLY_KERNEL,
        )
    )
    for name, w in START.items():
        v = 0 * w
        for g in GRADIENTS[name]:
            local = trust * np.linalg.norm(w) / (np.linalg.norm(g) + decay * np.linalg.norm(w))
            v = beta * v + (rate * local * (g + decay * w) if name == "kernel" else rate * g)
            w = w - v
        np.testing.assert_allclose(x[name], w, rtol=1e-12)


def test_lamb_is_the_papers(x64):
    rate, beta1, beta2, eps, decay = 0.1, 0.8, 0.95, 1e-6, 0.5
    x, _ = run(optim.lamb(rate, beta1, beta2, eps, weight_decay=decay, mask=ONLY_KERNEL))
    for name, w in START.items():
        m = v = 0 * w
        for t, g in enumerate(GRADIENTS[name], start=1):
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            r = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps) + (decay * w if name == "kernel" else 0)
            w = w - rate * np.linalg.norm(w) / np.linalg.norm(r) * r
        np.testing.assert_allclose(x[name], w, rtol=1e-12)


@pytest.mark.parametrize("optimizer", [optim.lars(1.0, 0.0), optim.lamb(1e-3, eps=1e-30)], ids=["lars", "lamb"])
def test_a_step_is_a_share_of_the_array(x64, optimizer):
    """0.001 of the norm of each array, whatever the scale of its gradient: why large batches can take large rates."""
    end, updates = run(optimizer)
    scaled_end, _ = run(optimizer, {"kernel": 1e4 * GRADIENTS["kernel"], "bias": 1e-4 * GRADIENTS["bias"]})
    for name in START:
        assert np.linalg.norm(updates[name][0]) == pytest.approx(1e-3 * np.linalg.norm(START[name]), rel=1e-9)
        np.testing.assert_allclose(scaled_end[name], end[name], rtol=1e-9)
