"""Linear regression on data with known weights (D2L 3.1 to 3.5): in closed form, from scratch, and with `fit`.

    python examples/ch03_linear_regression.py
    python examples/ch03_linear_regression.py --epochs 3

Under Gaussian noise the negative log-likelihood of the data is half the squared error over the variance, plus a
constant: the plane that least squares finds is the most likely one.

On two cores of an AMD EPYC it takes 6 s. Adding 10,000 numbers takes 2.1 s one by one and 0.1 ms at once. SGD ends
within 0.0006 of each true parameter (seeds 0 to 4; the closed form within 0.0004), and the two ways to write it agree
to five digits. The book's three epochs (second command) are too few: w is off by 0.13 and -0.18, b by 0.24 (means of
seeds 0 to 4). An epoch has 31 batches: the 8 examples left over, the book's 32nd batch, are dropped.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm

from jaxdl import experiment, nn, plotting, training
from jaxdl.data import DeviceData, linear_regression, parse_split

WEIGHTS, BIAS, NOISE = (2.0, -3.4), 4.2, 0.01  # the book's
NUM_EXAMPLES = 2000

Params = dict[str, jax.Array]  # "weights" [features, 1] and "bias" [1]
Batch = Mapping[str, jax.Array]  # "x" [batch, features] and "y" [batch, 1]


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Fits a plane to generated points."""

    data: str = "linear_regression"
    """Only this: the errors of the parameters need data whose weights are known."""
    train_split: str = "train[:1000]"
    """What to train on, of the 2,000 examples of "train"."""
    eval_split: str = "train[1000:]"
    """What to evaluate on, of the same."""
    batch_size: int = 32
    learning_rate: float = 0.03
    seed: int = 0
    """Of the generated data, the initial weights and the order of the examples."""
    vector_length: int = 10_000
    """How many numbers to add, one by one and at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data != "linear_regression":
            raise ValueError(f"data: expected 'linear_regression', whose weights are known, got {self.data!r}")
        if self.vector_length < 1:
            raise ValueError(f"vector_length: expected at least 1, got {self.vector_length}")


def load_split(split: str, seed: int) -> dict[str, np.ndarray]:
    """Generates the data, of which "train" is all, and takes the examples that `split` names."""
    arrays = linear_regression(NUM_EXAMPLES, seed=seed, weights=WEIGHTS, bias=BIAS, noise=NOISE)
    parts = parse_split(split)
    if unknown := {part.split for part in parts} - {"train"}:
        raise ValueError(f"split: expected slices of 'train', got {sorted(unknown)}")
    rows = np.concatenate([np.arange(NUM_EXAMPLES)[part.resolve(NUM_EXAMPLES)] for part in parts])
    return {name: array[rows] for name, array in arrays.items()}


def time_addition(length: int) -> dict[str, float]:
    """3.1.2: seconds to add two vectors of ones, number by number and at once."""
    a, b, total = jnp.ones(length), jnp.ones(length), jnp.zeros(length)
    jax.block_until_ready((a + b, total.at[0].set(a[0] + b[0])))  # compiles
    start = time.perf_counter()
    for i in range(length):
        total = total.at[i].set(a[i] + b[i])
    jax.block_until_ready(total)
    middle = time.perf_counter()
    jax.block_until_ready(a + b)
    return {"loop_seconds": middle - start, "vectorised_seconds": time.perf_counter() - middle}


# 3.4: all of linear regression, from scratch.


def predict(params: Params, x: jax.Array) -> jax.Array:
    """The plane at `x`."""
    return x @ params["weights"] + params["bias"][None]  # [batch, 1]


def loss(params: Params, batch: Batch) -> jax.Array:
    """Half the mean squared error."""
    return jnp.mean((predict(params, batch["x"]) - batch["y"]) ** 2 / 2)


@jax.jit
def sgd_from_scratch(params: Params, batches: Batch, learning_rate: float) -> tuple[Params, tuple[Params, jax.Array]]:
    """Descends one batch after the other, in one compiled loop.

    Args:
      params: where to begin.
      batches: `[steps, batch, ...]`.
      learning_rate: how far a step goes down the gradient.

    Returns:
      The parameters at the end; and after each step, with the loss before it.
    """

    def step(params: Params, batch: Batch) -> tuple[Params, tuple[Params, jax.Array]]:
        value, gradients = jax.value_and_grad(loss)(params, batch)
        params = jax.tree.map(lambda p, g: p - learning_rate * g, params, gradients)
        return params, (params, value)

    return jax.lax.scan(step, params, batches)


def stack_batches(data: DeviceData, epochs: int) -> Batch:
    """All batches of all epochs, `[steps, batch, ...]`."""
    batches = [batch for epoch in range(epochs) for batch in data.batches(epoch)]
    return {name: jnp.stack([batch[name] for batch in batches]) for name in batches[0]}


def parameter_error(params: Params) -> dict[str, np.ndarray]:
    """How far weights and bias are from the true ones, along the last axes `[..., features, 1]` and `[..., 1]`."""
    weights, bias = np.asarray(params["weights"])[..., 0], np.asarray(params["bias"])[..., 0]
    return {"w1": WEIGHTS[0] - weights[..., 0], "w2": WEIGHTS[1] - weights[..., 1], "b": BIAS - bias}


def draw(path: Path, arrays: Batch, path_of_sgd: Params, closed_form: Params, steps_per_epoch: int) -> None:
    """The data with the fitted plane, Gaussian densities, SGD on the loss surface, the errors by epoch."""
    figure = plotting.figure(10, 7.6)
    (plane, densities), (surface, errors) = figure.subplots(2, 2)
    last = {name: values[-1] for name, values in path_of_sgd.items()}

    x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
    points = plane.scatter(x[:, 1], y[:, 0], c=x[:, 0], s=6, vmin=-3, vmax=3)
    figure.colorbar(points, ax=plane, label="x1")
    for x1 in (-2, 0, 2):
        ends = jnp.array([[x1, -3], [x1, 3.0]])
        plane.plot(ends[:, 1], predict(last, ends), color=points.to_rgba(x1), linewidth=2, label=f"fit at x1 = {x1}")
    plane.set(xlabel="x2", ylabel="y", title="Data, and the fitted plane cut at three x1")
    plane.legend()

    z = np.linspace(-7, 7, 200)
    curves = {f"N({m}, {s}²)": norm.pdf(z, m, s) for m, s in ((0, 1), (0, 2), (3, 1))}
    title = "Normal densities N(mean, deviation²)"
    plotting.lines(z, curves, xlabel="noise", ylabel="density", title=title, axes=densities)

    grid = np.stack(np.meshgrid(np.linspace(-1, 4, 60), np.linspace(-5, 1, 60)), -1)  # [60, 60, 2]
    at_best_bias = jax.vmap(lambda w: loss({"weights": w[:, None], "bias": closed_form["bias"]}, arrays))
    values = np.asarray(at_best_bias(grid.reshape(-1, 2))).reshape(60, 60)
    contours = surface.contour(grid[..., 0], grid[..., 1], values, levels=[0.1, 0.5, 1, 2, 4, 6, 8, 12], cmap="viridis")
    surface.clabel(contours)
    trajectory = np.asarray(path_of_sgd["weights"])[..., 0]
    surface.plot(*trajectory.T, "C1.-", markersize=3, linewidth=1, label="SGD, a dot a step")
    surface.plot(*WEIGHTS, "k*", markersize=12, label="true weights")
    surface.set(xlabel="w1", ylabel="w2", title="Loss by the weights, at the best bias")
    surface.legend(loc="lower left")

    by_epoch = {name: values[steps_per_epoch - 1 :: steps_per_epoch] for name, values in path_of_sgd.items()}
    epochs = np.arange(1, len(by_epoch["bias"]) + 1)
    series = {f"{name}, SGD": abs(error) for name, error in parameter_error(by_epoch).items()}
    exact = max(abs(error) for error in parameter_error(closed_form).values())
    series["largest, closed form"] = np.full(len(epochs), exact)
    title = "Error of the parameters"
    plotting.lines(epochs, series, xlabel="epoch", ylabel="|error|", yscale="log", title=title, axes=errors)
    figure.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Fits the plane in three ways; returns the last row of the history and the errors of the parameters."""
    figures = time_addition(config.vector_length)
    print(
        f"{config.vector_length:,} additions: {figures['loop_seconds']:.3f} s one by one, "
        f"{figures['vectorised_seconds']:.6f} s at once\n"
    )
    arrays = {name: jnp.asarray(array) for name, array in load_split(config.train_split, config.seed).items()}
    train_data = DeviceData(arrays, config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(load_split(config.eval_split, config.seed), 250, train=False)

    # 3.5: the same with the library. PyTorch's MSELoss lacks the 1/2, which doubles the step.
    model = nn.MLP([1], kernel_init=linen.initializers.normal(0.01), dtype=experiment.compute_dtype(config))
    loss_fn, eval_fn = training.supervised(
        model, "x", loss=lambda predictions, batch: nn.squared_error(predictions, batch["y"])[:, 0], scores={}
    )
    optimizer = optax.sgd(config.learning_rate)
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    state = experiment.init_state(lambda key: model.init(key, arrays["x"][:1]), optimizer, config)
    folder = experiment.run_folder("ch03_linear_regression")
    trained, history = experiment.run(
        "ch03_linear_regression", config, step, state, train_data, eval_fn=eval_fn, eval_data=eval_data, folder=folder
    )

    def plain(params: Mapping[str, Params]) -> Params:
        return {"weights": params["Dense_0"]["kernel"], "bias": params["Dense_0"]["bias"]}

    batches = stack_batches(train_data, config.epochs)
    from_scratch, (path_of_sgd, _) = sgd_from_scratch(plain(state.params), batches, config.learning_rate)
    weights, bias = nn.least_squares(arrays["x"], arrays["y"])
    closed_form = {"weights": weights, "bias": bias}
    fits = {"closed_form": closed_form, "from_scratch": from_scratch, "concise": plain(trained.params)}
    print(f"\n{'error of':24}{'w1':>10}{'w2':>10}{'b':>10}")
    for name, params in fits.items():
        error = parameter_error(params)
        print(f"{name.replace('_', ' '):24}" + "".join(f"{value:10.5f}" for value in error.values()))
        figures |= {f"{name}_{parameter}": float(value) for parameter, value in error.items()}
    draw(folder / "fit.png", arrays, path_of_sgd, closed_form, len(train_data))
    print(f"pictures: {folder / 'fit.png'}")
    return history.rows[-1] | figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
