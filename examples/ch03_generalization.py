"""Polynomials that fit too little and too much (D2L 3.6), and weights that decay (3.7).

    python examples/ch03_generalization.py

On two cores of an AMD EPYC it takes 6 s of processor time. Figures of seeds 0 to 4; errors are half mean squares.

- 40 noisy points of a cubic (medians): a line leaves a validation error of 4.2, a cubic 0.0055 (the noise is 0.005),
  and degree 20, which fits the points best, 2.5e6. 5-fold cross-validation chooses the degrees 3, 3, 3, 4, 4.
- 20 examples of 200 features (means): decay with λ = 3 takes the validation error from 0.0194 to 0.0120 and the norm of
  the weights from 0.144 to 0.053. For plain SGD an L2 penalty in the loss is the same; an L1 penalty leaves 77 % of the
  weights below 0.002, decay 42 %.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, nn, plotting
from jaxdl.data import DeviceData, high_dimensional_regression, k_fold, polynomial_regression

MAX_DEGREE = 20
SHOWN = (1, 3, 20)  # too low, right, too high
DECAY, L1_RATE = 3.0, 0.03

Arrays = Mapping[str, Any]  # "x" [examples, features] and "y" [examples, 1]
Params = Any  # weights [features, 1] and bias [1]
Curves = dict[str, Any]  # arrays by name, a value a step


@dataclass(frozen=True)
class Config:
    """Fits polynomials of every degree, and linear models with and without weight decay."""

    seed: int = 0
    """Of the first repetition."""
    num_seeds: int = 5
    """Repetitions, each with the next seed; figures are means (of polynomials, medians)."""
    plot: Path | None = None
    """Where the picture of the first repetition goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds: expected at least 1, got {self.num_seeds}")


def loss(params: Params, arrays: Arrays) -> jax.Array:
    """Half the mean squared error of a linear model."""
    weights, bias = params
    return nn.squared_error(arrays["x"] @ weights + bias[None], arrays["y"]).mean()


def take(arrays: Arrays, rows: Any) -> dict[str, jax.Array]:
    """Some of the examples, on the device."""
    return {name: jnp.asarray(array[rows]) for name, array in arrays.items()}


# 3.6: polynomials.


@jax.jit
def errors_by_degree(train: Arrays, valid: Arrays) -> tuple[jax.Array, jax.Array]:
    """The training and the validation error of the best polynomial of each degree, `[degrees]`."""

    def fit(kept: jax.Array) -> tuple[jax.Array, jax.Array]:  # a power that is not kept is 0, and so is its weight
        params = nn.least_squares(train["x"] * kept[None], train["y"])
        return loss(params, train), loss(params, valid)

    return jax.vmap(fit)(jnp.tri(MAX_DEGREE))


@jax.jit
def learning_curves(train: Arrays, valid: Arrays) -> tuple[jax.Array, jax.Array]:
    """The same two errors along 10,000 steps of gradient descent for the degrees `SHOWN`, `[degrees, steps]`."""

    def descend(kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(params: Params, _: None) -> tuple[Params, tuple[jax.Array, jax.Array]]:
            gradients = jax.grad(loss)(params, {**train, "x": train["x"] * kept[None]})
            params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients)
            return params, (loss(params, train), loss(params, valid))

        start = (jnp.zeros((MAX_DEGREE, 1)), jnp.zeros(1))
        return jax.lax.scan(step, start, length=10_000)[1]

    return jax.vmap(descend)(jnp.tri(MAX_DEGREE)[np.array(SHOWN) - 1])


def polynomials(seed: int) -> dict[str, np.ndarray]:
    """Errors by degree, by epoch, and in cross-validation, on 40 training and 100 validation examples."""
    arrays = polynomial_regression(140, seed=seed, degree=MAX_DEGREE)
    powers = arrays["x"][:, 1:]  # the bias stands for power 0
    arrays["x"] = (powers - powers[:40].mean(0)) / powers[:40].std(0)  # the same polynomials, easier to descend
    train, valid = take(arrays, slice(40)), take(arrays, slice(40, None))
    folds = [errors_by_degree(take(train, rows), take(train, held_out))[1] for rows, held_out in k_fold(40, 5)]
    names = ("train", "valid", "train_curves", "valid_curves")
    figures = zip(names, (*errors_by_degree(train, valid), *learning_curves(train, valid)), strict=True)
    return {name: np.asarray(figure) for name, figure in figures} | {"folds": np.mean(folds, 0)}


# 3.7: weight decay.


def train_linear(
    batches: Arrays,
    train: Arrays,
    valid: Arrays,
    params: Params,
    *,
    optimizer: optax.GradientTransformation,
    penalty: Callable[[Params], Any] = lambda params: 0.0,
) -> tuple[Params, Curves]:
    """Descends the loss and a penalty batch by batch; returns the last parameters, and after each step what it did."""

    def step(carry: tuple[Params, Any], batch: Arrays) -> tuple[tuple[Params, Any], Curves]:
        params, opt_state = carry
        gradients = jax.grad(lambda p: loss(p, batch) + penalty(p))(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        after: Any = optax.apply_updates(params, updates)
        small = jnp.mean(abs(after[0]) < 0.002)  # the true weights are 0.01
        norm = jnp.linalg.norm(after[0])
        losses = {"train": loss(after, train), "valid": loss(after, valid)}
        return (after, opt_state), {**losses, "norm": norm, "small": small}

    (params, _), curves = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return params, curves


SGD = optax.sgd(0.01)
REGULARISERS: dict[str, Callable[..., tuple[Params, Curves]]] = {
    "none": partial(train_linear, optimizer=SGD),
    # w <- (1 - 0.01 * DECAY) w - 0.01 * gradient; the mask spares the bias.
    "decay": partial(train_linear, optimizer=optax.chain(optax.add_decayed_weights(DECAY, nn.weight_mask), SGD)),
    "l2": partial(train_linear, optimizer=SGD, penalty=lambda params: DECAY * nn.l2_penalty(params)),
    "l1": partial(train_linear, optimizer=SGD, penalty=lambda params: L1_RATE * nn.l1_penalty(params)),
}


def high_dimensional_problem(seed: int) -> tuple[Arrays, Arrays, Arrays, Params]:
    """Ten epochs of batches `[steps, batch, ...]`, 20 training and 100 validation examples, the first parameters."""
    arrays = high_dimensional_regression(120, seed=seed)
    train, valid = take(arrays, slice(20)), take(arrays, slice(20, None))
    data = DeviceData(train, 5, train=True, seed=seed)
    batches = [batch for epoch in range(10) for batch in data.batches(epoch)]
    params = 0.01 * jax.random.normal(jax.random.key(seed), (200, 1)), jnp.zeros(1)
    return {name: jnp.stack([batch[name] for batch in batches]) for name in train}, train, valid, params


def weight_decay(seeds: range) -> dict[str, Curves]:
    """What each regulariser did, `[seeds, steps]`."""
    problems = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(high_dimensional_problem, seeds))
    return {name: jax.device_get(jax.jit(jax.vmap(train))(*problems)[1]) for name, train in REGULARISERS.items()}


def draw(path: Path, fits: dict[str, np.ndarray], decayed: dict[str, Curves]) -> None:
    """Two panels a section."""
    figure = plotting.figure(11, 7.6)
    (degrees, losses), (descent, norms) = figure.subplots(2, 2)
    log: dict[str, Any] = {"yscale": "log", "ylabel": "half the mean squared error"}

    x, names = np.arange(1, MAX_DEGREE + 1), {"training": "train", "5-fold": "folds", "validation": "valid"}
    series = {label: fits[name] for label, name in names.items()}
    title = "3.6  The best polynomial of each degree; the truth has degree 3"
    plotting.lines(x, series, xlabel="degree", title=title, axes=degrees, **log)
    degrees.set_xticks(x[::2])
    for i, degree in enumerate(SHOWN):
        for part, style in (("train", "--"), ("valid", "-")):
            curve = fits[f"{part}_curves"][i]
            descent.plot(range(1, len(curve) + 1), curve, f"C{i}{style}", label=f"degree {degree}, {part}")
    descent.set(xlabel="step", xscale="log", title="3.6  Gradient descent on the way there", **log)
    steps = np.arange(1, decayed["decay"]["train"].shape[1] + 1)
    labels = {"none": "λ = 0", "decay": f"λ = {DECAY:g}", "l1": f"L1, λ = {L1_RATE}"}
    for i, name in enumerate(("none", "decay")):
        for part, style in (("train", "--"), ("valid", "-")):
            losses.plot(steps, decayed[name][part][0], f"C{i}{style}", label=f"{labels[name]}, {part}")
    losses.set(xlabel="step", title="3.7  Weight decay: 200 weights, 20 examples", **log)
    for axes in (descent, losses):
        axes.grid(alpha=0.3)
        axes.legend()
    series = {label: decayed[name]["norm"][0] for name, label in labels.items()}
    plotting.lines(steps, series, xlabel="step", ylabel="norm", title="3.7  Norm of the weights", axes=norms)
    figure.savefig(path, dpi=110)


def main(config: Config) -> dict[str, float]:
    """Runs both demonstrations on each seed, draws the first, prints and returns what they measured."""
    path = config.plot or experiment.run_folder("ch03_generalization") / "generalization.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(config.seed, config.seed + config.num_seeds)

    fits = [polynomials(seed) for seed in seeds]
    chosen = [1 + int(fit["folds"].argmin()) for fit in fits]
    figures = {"chosen_degree": float(np.median(chosen))}
    print(f"degrees that cross-validation chose: {chosen}\n\n{'degree':12}{'train':>12}{'valid':>12}")
    for degree in SHOWN:
        errors = {part: float(np.median([fit[part][degree - 1] for fit in fits])) for part in ("train", "valid")}
        print(f"{degree:<12}" + "".join(f"{error:12.4g}" for error in errors.values()))
        figures |= {f"degree_{degree}_{part}": error for part, error in errors.items()}

    decayed = weight_decay(seeds)
    print(f"\n{'regulariser':12}{'train':>12}{'valid':>12}{'norm':>12}{'|w| < 0.002':>14}")
    for name, curves in decayed.items():
        last = {part: float(values[:, -1].mean()) for part, values in curves.items()}
        print(f"{name:12}{last['train']:12.4g}{last['valid']:12.4g}{last['norm']:12.4g}{last['small']:14.3g}")
        figures |= {f"{name}_{part}": value for part, value in last.items()}

    draw(path, fits[0], decayed)
    print(f"\npicture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
