"""Gradient norm, learning rate and parameter averages, composed from small pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import largest_gap, loss_fn, make_batch, make_params, make_state

from jaxdl.training import (
    averaged_params,
    make_step,
    parameter_average,
    record_gradient_norm,
    report_optimizer,
    sum_gradients,
)

GRAD_FN = sum_gradients(loss_fn)


@pytest.mark.parametrize("rate", [0.1, optax.linear_schedule(0.1, 0.0, 10)], ids=["constant", "schedule"])
def test_learning_rate_and_norm_before_clipping_are_reported(rate):
    optimizer = optax.chain(
        record_gradient_norm(), optax.clip_by_global_norm(0.01), optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    )
    step = jax.jit(report_optimizer(make_step(GRAD_FN, optimizer), "gradient_norm", "learning_rate"))
    state, batch = make_state(optimizer), make_batch()
    for i in range(2):
        sums, _ = GRAD_FN(state.params, {}, batch, state.key)
        gradients = [np.asarray(g / sums.loss.count) for g in jax.tree.leaves(sums.grads)]
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
        state, metrics = step(state, batch)
        assert float(metrics["gradient_norm"].compute()) == pytest.approx(norm, rel=1e-5)
        assert float(metrics["learning_rate"].compute()) == pytest.approx(0.1 if rate == 0.1 else 0.1 - 0.01 * i)


def test_an_unknown_name_is_refused():
    step = report_optimizer(make_step(GRAD_FN, optax.sgd(0.1)), "learning_rate")
    with pytest.raises(ValueError, match="no array 'learning_rate'"):
        step(make_state(optax.sgd(0.1)), make_batch())


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_is_the_weighted_sum_of_the_parameters(x64, decay):
    optimizer = optax.chain(optax.sgd(0.5), parameter_average(decay))
    step, state, seen = jax.jit(make_step(GRAD_FN, optimizer)), make_state(optimizer), []
    for _ in range(4):
        state, _ = step(state, make_batch())
        seen.append(state.params)
    weights = np.array([(1 - decay) * decay ** (3 - i) for i in range(4)]) / (1 - decay**4)
    want = jax.tree.map(lambda *ps: sum(w * p for w, p in zip(weights, ps, strict=True)), *seen)
    assert largest_gap(averaged_params(state), want) < 1e-14
    plain, _ = jax.jit(make_step(GRAD_FN, optax.sgd(0.5)))(make_state(optax.sgd(0.5)), make_batch())
    assert largest_gap(seen[0], plain.params) < 1e-15  # averaging does not change the training


def test_averages_refuse():
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\)"):
            parameter_average(decay)
    with pytest.raises(ValueError, match="keeps no parameter_average"):
        averaged_params(make_state(optax.sgd(0.1)))
    assert jnp.all(averaged_params(make_state(parameter_average(0.5)))["w"] == 0)
    assert make_params()["w"].shape == (5, 7)


@pytest.mark.parametrize("decay", [0.0, 0.9999, 1 - 1e-8])
def test_the_average_of_a_constant_is_the_constant(decay):
    optimizer, params = parameter_average(decay), {"w": jnp.full(2, 3.0)}
    state = optimizer.init(params)
    for _ in range(3):
        _, state = jax.jit(optimizer.update)({"w": jnp.zeros(2)}, state, params)
        np.testing.assert_allclose(state.parameter_average["w"], 3, rtol=1e-6)
    with pytest.raises(ValueError, match="params: expected the parameters"):
        optimizer.update({"w": jnp.zeros(2)}, state)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_averaged_and_measured_in_float32(dtype):
    optimizer = parameter_average(0.999)
    update = jax.jit(lambda state, params: optimizer.update(jnp.zeros((), dtype), state, params)[1])
    state = optimizer.init(jnp.zeros((), dtype))
    for i in range(600):
        state = update(state, jnp.asarray(1 + (i >= 300), dtype))
    want = 1 + (1 - 0.999**300) / (1 - 0.999**600)
    np.testing.assert_allclose(state.parameter_average, want, rtol=1e-4)
    norm = record_gradient_norm()
    _, state = norm.update({"w": jnp.full(3, 300.0, dtype)}, norm.init({}))
    np.testing.assert_allclose(state.gradient_norm, 300 * 3**0.5, rtol=1e-5)
