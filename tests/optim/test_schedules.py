"""Schedules to the digits of the checklist, beside Optax's and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim

BOOK = {  # D2L 12.11, epoch: rate
    "square root": (optim.square_root_decay(0.1), {0: 0.1, 1: 0.070711, 2: 0.057735, 3: 0.05, 4: 0.044721}),
    "factor": (optim.factor_decay(2.0, 0.9, 1e-2), {0: 1.8, 1: 1.62, 2: 1.458, 10: 0.627621, 49: 0.010308, 99: 0.01}),
    "multi-factor": (optim.multi_factor_decay(0.5, [15, 30], 0.5), {0: 0.5, 14: 0.5, 15: 0.25, 29: 0.25, 30: 0.125}),
    "cosine": (
        optim.cosine_decay(0.3, 20, 0.01),
        {0: 0.3, 1: 0.298215, 5: 0.25753, 10: 0.155, 15: 0.05247, 20: 0.01, 25: 0.01},
    ),
    "warm-up": (
        optim.warm_up(optim.cosine_decay(0.3, 15, 0.01), 5),
        {0: 0.0, 1: 0.06, 4: 0.24, 5: 0.3, 10: 0.2275, 12: 0.170157, 15: 0.0825, 20: 0.01, 29: 0.01},
    ),
    "polynomial": (optim.polynomial_decay(1.0, 0.1), {0: 1.0, 10: 2**-0.5, 30: 0.5}),
    "exponential": (optim.exponential_decay(1.0, 0.1), {0: 1.0, 10: np.exp(-1), 50: np.exp(-5)}),
}
OPTAX = {
    "exponential": (optim.exponential_decay(0.3, 0.1), optax.exponential_decay(0.3, 1, float(np.exp(-0.1)))),
    "factor": (optim.factor_decay(0.3 / 0.9, 0.9, 0.05), optax.exponential_decay(0.3, 1, 0.9, end_value=0.05)),
    "multi-factor": (
        optim.multi_factor_decay(0.3, [5, 6, 20], 0.1),
        optax.piecewise_constant_schedule(0.3, {5: 0.1, 6: 0.1, 20: 0.1}),
    ),
    "cosine": (optim.cosine_decay(0.3, 20, 0.03), optax.cosine_decay_schedule(0.3, 20, alpha=0.1)),
    "warm-up": (
        optim.warm_up(optim.cosine_decay(0.3, 15, 0.01), 5, start=0.1),
        optax.warmup_cosine_decay_schedule(0.1, 0.3, 5, 20, 0.01),
    ),
    "restarts": (
        optim.cosine_restarts(0.3, 3, 0.01, multiplier=2),
        optax.join_schedules(
            [optax.cosine_decay_schedule(0.3, 3 * 2**i, alpha=0.1 / 3) for i in range(5)],
            [3, 9, 21, 45],
        ),
    ),
    "equal restarts": (
        optim.cosine_restarts(0.3, 7),
        optax.join_schedules([optax.cosine_decay_schedule(0.3, 7)] * 10, [*range(7, 70, 7)]),
    ),
}


@pytest.mark.parametrize("name", BOOK)
def test_the_values_of_the_book(x64, name):
    schedule, values = BOOK[name]
    for epoch, rate in values.items():
        assert float(schedule(epoch)) == pytest.approx(rate, abs=6e-7), epoch
    np.testing.assert_allclose(jax.jit(schedule)(jnp.array([*values])), [*values.values()], atol=6e-7)


@pytest.mark.parametrize("name", OPTAX)
def test_it_is_optax(x64, name):
    ours, theirs = OPTAX[name]
    steps = np.arange(60)
    expected = [float(theirs(step)) for step in steps]
    np.testing.assert_allclose(ours(steps), expected, rtol=1e-12)
    assert np.ptp(expected) > 0.1


def test_it_is_pytorch(x64):
    torch = pytest.importorskip("torch")
    module = torch.optim.lr_scheduler
    cases = [
        (optim.multi_factor_decay(0.5, [3, 7], 0.3), lambda o: module.MultiStepLR(o, [3, 7], 0.3)),
        (optim.cosine_restarts(0.5, 4, 0.1), lambda o: module.CosineAnnealingWarmRestarts(o, 4, 1, 0.1)),
        (
            optim.cosine_restarts(0.5, 4, 0.1, multiplier=3),
            lambda o: module.CosineAnnealingWarmRestarts(o, 4, 3, 0.1),
        ),
    ]
    for schedule, scheduler_of in cases:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        scheduler, rates = scheduler_of(optimizer), []
        for _ in range(60):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        np.testing.assert_allclose(schedule(np.arange(60)), rates, rtol=1e-10)


def test_dtypes_and_shapes():
    for schedule, _ in [*BOOK.values(), *OPTAX.values()]:
        assert jnp.asarray(schedule(3)).dtype == jnp.float32
        assert schedule(jnp.arange(6).reshape(2, 3)).shape == (2, 3)
        assert jnp.shape(jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))) == ()
        assert float(schedule(2**30)) >= 0


def test_epochs_become_steps():
    schedule = optim.per_epoch(optim.multi_factor_decay(1.0, [1, 2], 0.1), 4)
    np.testing.assert_allclose(schedule(jnp.arange(12)), [1] * 4 + [0.1] * 4 + [0.01] * 4, rtol=1e-6)
    warmed = optim.per_epoch(BOOK["warm-up"][0], 10)
    np.testing.assert_allclose(warmed(jnp.array([9, 10, 49, 50])), [0, 0.06, 0.24, 0.3], rtol=1e-6)


def test_an_optimizer_follows_its_schedule():
    """The rate of the first step is that of step 0."""
    path = optim.trajectory(jnp.ones_like, optim.sgd(BOOK["warm-up"][0]), jnp.zeros(()), 20)
    np.testing.assert_allclose(-np.diff(path), BOOK["warm-up"][0](np.arange(20)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda: optim.exponential_decay(-1.0, 0.1), "base: expected a finite number of at least 0, got -1.0"),
        (lambda: optim.polynomial_decay(1.0, float("inf")), "rate: expected .*, got inf"),
        (lambda: optim.polynomial_decay(1.0, 0.1, -0.5), "power: expected .*, got -0.5"),
        (lambda: optim.factor_decay(1.0, 1.1), r"factor: expected a number in \(0, 1\], got 1.1"),
        (lambda: optim.factor_decay(1.0, 0.9, -1), "minimum: expected .*, got -1"),
        (lambda: optim.multi_factor_decay(1.0, [3, 3], 0.5), r"milestones: expected increasing steps, got \[3, 3\]"),
        (lambda: optim.multi_factor_decay(1.0, [3.5], 0.5), r"milestones\[0\]: expected an integer of at least 1"),
        (lambda: optim.cosine_decay(1.0, 0), "num_steps: expected an integer of at least 1, got 0"),
        (lambda: optim.cosine_restarts(1.0, 2.5), "period: expected an integer"),
        (lambda: optim.cosine_restarts(1.0, 2, multiplier=0), "multiplier: expected an integer"),
        (lambda: optim.warm_up(0.1, 5), "schedule: expected a function of the step, got 0.1"),
        (lambda: optim.warm_up(optim.square_root_decay(1.0), True), "num_steps: expected an integer"),
        (lambda: optim.warm_up(optim.square_root_decay(1.0), 5, -1.0), "start: expected"),
        (lambda: optim.per_epoch(0.1, 5), "schedule: expected a function of the epoch, got 0.1"),
        (lambda: optim.per_epoch(optim.square_root_decay(1.0), 0), "steps_per_epoch: expected an integer"),
    ],
)
def test_bad_arguments_are_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        schedule()
