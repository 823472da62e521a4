"""Adam against NumPy, the first steps of its variants, and decay apart from the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import optim

rng = np.random.default_rng(0)
GRADIENTS = rng.normal(size=(50, 4))


def run(optimizer, params, gradients=GRADIENTS, extra=lambda x: 0.0):
    """The end of a run over given gradients, plus `extra` of the parameters."""

    def step(carry, g):
        x, state = carry
        updates, state = optimizer.update(g + extra(x), state, x)
        return (x + updates, state), None

    params = jnp.asarray(params)
    return jax.jit(lambda g: jax.lax.scan(step, (params, optimizer.init(params)), g)[0])(gradients)


def numpy_adam(x, rate, beta1, beta2, eps, decay, correct):
    v = s = np.zeros_like(x)
    for t, g in enumerate(GRADIENTS, start=1):
        v, s = beta1 * v + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
        v_hat, s_hat = (v / (1 - beta1**t), s / (1 - beta2**t)) if correct else (v, s)
        x = x - rate * (v_hat / (np.sqrt(s_hat) + eps) + decay * x)
    return x, v, s


@pytest.mark.parametrize("correct", [True, False])
def test_adamw_of_numpy(x64, correct):
    start = np.array([1.0, -2.0, 3.0, 0.0])
    optimizer = optim.adamw(0.1, 0.8, 0.95, 1e-6, weight_decay=0.3, bias_correction=correct)
    x, state = run(optimizer, start)
    expected, v, s = numpy_adam(start, 0.1, 0.8, 0.95, 1e-6, 0.3, correct)
    np.testing.assert_allclose(x, expected, rtol=1e-12)
    np.testing.assert_allclose(state.mean, v, rtol=1e-12)
    np.testing.assert_allclose(state.mean_square, s, rtol=1e-12)
    assert state.step == 50


def test_the_first_step(x64):
    """As long as the rate; without correction `(1 - beta1) / sqrt(1 - beta2)` = 3.16 times as long."""
    for correct, length in ((True, 1.0), (False, 0.1 / np.sqrt(1e-3))):
        x, _ = run(optim.adam(0.01, eps=1e-12, bias_correction=correct), np.zeros(4), GRADIENTS[:1])
        np.testing.assert_allclose(x, -0.01 * length * np.sign(GRADIENTS[0]), rtol=1e-9)


def test_the_first_step_in_float32():
    """1 - 0.999 is computed in float64: in float32 it is wrong by 1e-5."""
    x, _ = run(optim.adam(1.0, eps=1e-30), np.zeros(4, np.float32), np.float32(GRADIENTS[:1]))
    np.testing.assert_allclose(np.abs(x), 1, rtol=4 * np.finfo(np.float32).eps)


def test_decay_is_l2_for_sgd_only(x64):
    """Weight decay as W <- (1 - rate lambda) W - rate g equals lambda / 2 |W|^2 in the loss for plain SGD alone."""
    start, decay = np.array([1.0, -2.0, 3.0, 0.5]), 0.1
    decayed, _ = run(optim.sgd(0.1, weight_decay=decay), start)
    penalised, _ = run(optim.sgd(0.1), start, extra=lambda x: decay * x)
    np.testing.assert_allclose(decayed, penalised, rtol=1e-12)
    by_hand = start
    for g in GRADIENTS:
        by_hand = (1 - 0.1 * decay) * by_hand - 0.1 * g
    np.testing.assert_allclose(decayed, by_hand, rtol=1e-12)
    decayed, _ = run(optim.adamw(0.1, weight_decay=decay), start)
    penalised, _ = run(optim.adam(0.1), start, extra=lambda x: decay * x)
    assert np.abs(decayed - penalised).min() > 0.01


def test_yogi_moves_its_mean_square_slowly_down(x64):
    """After one large gradient Adam's s is multiplied by beta2; Yogi's loses (1 - beta2) g^2 a step."""
    gradients = np.array([[10.0], *[[1.0]] * 20])
    _, adam = run(optim.adam(0.1, beta2=0.9), np.zeros(1), gradients)
    _, yogi = run(optim.yogi(0.1, beta2=0.9), np.zeros(1), gradients)
    assert adam.mean_square[0] == pytest.approx(0.9**20 * 10 + 1 - 0.9**20)
    assert yogi.mean_square[0] == pytest.approx(10 - 20 * 0.1)
