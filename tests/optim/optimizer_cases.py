"""Every optimiser of the room, beside Optax's and PyTorch's: what the common suite runs over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import optax

from jaxdl import optim


@dataclass(frozen=True)
class Case:
    """One optimiser; `ours` takes the learning rate."""

    name: str
    ours: Callable[..., optax.GradientTransformation]
    in_optax: Callable[[Any], optax.GradientTransformation] | None = None  # the same, in Optax's conventions
    in_torch: Callable[[Any, Any], Any] | None = None  # (torch.optim, parameters at rate 0.1) -> the same
    bad: dict[str, Any] = field(default_factory=dict)  # arguments that it must refuse, besides the rate
    learning_rate: float = 0.1


def one_dimensional_excluded(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


BETAS = {"beta1": 1.0, "beta2": -0.1, "eps": 0.0}
CASES = [
    Case("sgd", optim.sgd, optax.sgd, lambda o, p: o.SGD(p, lr=0.1), {"weight_decay": -1.0}),
    Case(
        "sgd with decay",
        lambda rate: optim.sgd(rate, weight_decay=0.3, mask=one_dimensional_excluded),
        lambda rate: optax.chain(optax.add_decayed_weights(0.3, mask=one_dimensional_excluded), optax.sgd(rate)),
    ),
    Case(
        "momentum",
        optim.momentum,
        lambda rate: optax.sgd(rate, momentum=0.9),
        lambda o, p: o.SGD(p, lr=0.1, momentum=0.9),
        {"beta": 1.0},
    ),
    Case(
        "nesterov",
        optim.nesterov,
        lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
        lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        {"beta": -0.5},
    ),
    Case(
        "averaged momentum",
        lambda rate: optim.averaged_momentum(rate, 0.8, bias_correction=False),
        lambda rate: optax.chain(optax.ema(0.8, debias=False), optax.sgd(rate)),
        # PyTorch has no average that starts at zero; the heavy ball at (1 - beta) rate is one.
        lambda o, p: o.SGD(p, lr=0.1 * 0.2, momentum=0.8),
    ),
    Case(
        "unbiased momentum",
        optim.averaged_momentum,
        lambda rate: optax.chain(optax.ema(0.9, debias=True), optax.sgd(rate)),
        bad={"beta": float("nan")},
    ),
    Case(
        "adagrad",
        # PyTorch's eps is outside the root, ours and Optax's inside: they meet where it is tiny.
        lambda rate, eps=1e-30, **kwargs: optim.adagrad(rate, eps, **kwargs),
        lambda rate: optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-30),
        lambda o, p: o.Adagrad(p, lr=0.1, eps=1e-30),
        {"eps": -1e-6, "initial_sum": -1.0},
    ),
    Case(
        "adagrad from 0.1",
        lambda rate: optim.adagrad(rate, 1e-7, initial_sum=0.1),
        optax.adagrad,
        lambda o, p: o.Adagrad(p, lr=0.1, eps=1e-30, initial_accumulator_value=0.1 + 1e-7),
    ),
    Case("rmsprop", optim.rmsprop, lambda rate: optax.rmsprop(rate, 0.9, eps=1e-6), bad={"gamma": 1.5, "eps": 0.0}),
    Case(
        "rmsprop without eps",
        lambda rate: optim.rmsprop(rate, eps=1e-30),
        lambda rate: optax.rmsprop(rate, 0.9, eps=1e-30),
        lambda o, p: o.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-30),
    ),
    Case(
        "adadelta",
        optim.adadelta,
        lambda rate: optax.adadelta(rate, rho=0.9, eps=1e-5),
        lambda o, p: o.Adadelta(p, lr=0.1, rho=0.9, eps=1e-5),
        {"rho": 1.0, "eps": 0.0},
    ),
    Case("adam", optim.adam, optax.adam, lambda o, p: o.Adam(p, lr=0.1), BETAS),
    Case("adam without correction", lambda rate: optim.adam(rate, bias_correction=False)),
    Case(
        "adamw",
        optim.adamw,
        lambda rate: optax.adamw(rate, weight_decay=1e-2),
        lambda o, p: o.AdamW(p, lr=0.1),
        BETAS | {"weight_decay": -1e-2},
    ),
    Case(
        "adamw with a mask",
        lambda rate: optim.adamw(rate, weight_decay=0.5, mask=one_dimensional_excluded),
        lambda rate: optax.adamw(rate, weight_decay=0.5, mask=one_dimensional_excluded),
    ),
    Case(
        "yogi",
        optim.yogi,
        lambda rate: optax.chain(optax.scale_by_yogi(initial_accumulator_value=0.0), optax.sgd(rate)),
        bad=BETAS | {"initial_mean_square": -1e-6},
    ),
    Case(
        "lars",
        optim.lars,
        optax.lars,
        bad={"beta": 1.0, "trust_coefficient": 0.0, "weight_decay": -1.0},
        learning_rate=1.0,
    ),
    Case(
        "lars with masks",
        lambda rate: optim.lars(rate, trust_ratio_mask=one_dimensional_excluded),
        lambda rate: optax.lars(rate, trust_ratio_mask=one_dimensional_excluded),
    ),
    Case("lamb", optim.lamb, optax.lamb, bad=BETAS | {"weight_decay": -1.0}),
    Case(
        "lamb with decay",
        lambda rate: optim.lamb(rate, weight_decay=0.2, mask=one_dimensional_excluded),
        lambda rate: optax.lamb(rate, weight_decay=0.2, mask=one_dimensional_excluded),
    ),
]
