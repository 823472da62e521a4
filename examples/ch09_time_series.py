"""A noisy sine, predicted from its last values (D2L 9.1): one step ahead, many steps ahead, and k steps ahead.

    python examples/ch09_time_series.py

Linear regression on the last four of 1,000 values, trained on the first 600 windows. On two cores of an AMD EPYC it
takes 3 s of processor time. Root mean squares of the errors on the last 396 values, means of seeds 0 to 4 (standard
deviations up to 0.02), where the noise alone is 0.2:

    steps ahead     error    of taking the last value
    1               0.228    0.287
    4               0.243    0.294
    16              0.288    0.310
    64              0.530    0.560
    all the way     0.686

One step ahead is nearly as good as the noise allows. Predictions further ahead are made from predictions, and each step
multiplies them by 0.985: after 64 steps two fifths are left, after all of them nothing (always 0 would err by 0.67).
A model that is trained to give the next value need not know of the wave.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from jaxdl import experiment, nn, plotting, training
from jaxdl.data import DeviceData, noisy_sine, overlapping_windows, parse_split

NOISE = 0.2
STEPS_AHEAD = (1, 4, 16, 64)  # the book's k

Predict = Callable[..., Any]  # windows [n, window] -> the next value of each, [n, 1]
Curves = dict[str, list[float]]


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Predicts a generated time series."""

    data: str = "noisy_sine"
    """Only this."""
    train_split: str = "train[:600]"
    """Windows to train on, in the order of time; "train" is all of them."""
    eval_split: str = "train[600:]"
    """Windows to evaluate on; predictions many steps ahead begin with the first of them."""
    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 0.01
    seed: int = 0
    """Of the noise, the initial weights and the order of the windows."""
    num_values: int = 1000
    """Length of the series."""
    window: int = 4
    """How many values a prediction sees."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data != "noisy_sine":
            raise ValueError(f"data: expected 'noisy_sine', got {self.data!r}")
        if not 1 <= self.window < self.num_values:
            raise ValueError(f"window: expected 1 to {self.num_values - 1} values, got {self.window}")


def split_rows(split: str, num_windows: int) -> np.ndarray:
    """The windows that `split` names, of all that are "train"."""
    parts = parse_split(split)
    if unknown := {part.split for part in parts} - {"train"}:
        raise ValueError(f"split: expected slices of 'train', got {sorted(unknown)}")
    rows = np.concatenate([np.arange(num_windows)[part.resolve(num_windows)] for part in parts])
    if len(rows) == 0:
        raise ValueError(f"split: expected at least one of {num_windows} windows, got none in {split!r}")
    return rows


def windows_and_targets(series: np.ndarray, window: int) -> dict[str, np.ndarray]:
    """Every window `x` `[windows, window]` and the value `y` `[windows, 1]` that follows it."""
    windows = overlapping_windows(series, window)
    return {"x": windows[:, :window], "y": windows[:, window:]}


def predict_ahead(predict: Predict, windows: ArrayLike, num_steps: int) -> jax.Array:
    """Predicts step after step, each prediction taken for an observation by those after it.

    Args:
      predict: the next value of each window.
      windows: `[windows, window]`, all that is observed.
      num_steps: how far to go.

    Returns:
      `[windows, num_steps]`.
    """

    def step(windows: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        prediction = predict(windows).astype(windows.dtype)  # [windows, 1]
        return jnp.concatenate([windows[:, 1:], prediction], axis=1), prediction[:, 0]

    return jax.lax.scan(step, jnp.asarray(windows), length=num_steps)[1].T


def root_mean_square(errors: np.ndarray) -> float:
    """Of all errors, in the unit of the series."""
    return float(np.sqrt(np.mean(errors**2))) if errors.size else math.nan


def long_run_factor(predict: Predict, window: int) -> float:
    """What the predictions of a linear model are multiplied by, a step, in the long run.

    A step multiplies the window by a matrix; this is the largest of its eigenvalues, in absolute value.
    """
    points = jnp.concatenate([jnp.eye(window), jnp.zeros((1, window))])
    values = np.asarray(predict(points), np.float64)[:, 0]
    matrix = np.eye(window, k=1)
    matrix[-1] = values[:-1] - values[-1]  # without the bias
    return float(abs(np.linalg.eigvals(matrix)).max())


def errors_by_distance(ahead: np.ndarray, arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> Curves:
    """The error of each number of steps ahead, all on the targets of `rows`.

    Args:
      ahead: `[windows, steps]` from `predict_ahead`.
      arrays: from `windows_and_targets`.
      rows: the windows whose targets count.

    Returns:
      `[steps]` for the prediction, and for taking the last value that is known; NaN where no window is so early.
    """
    curves: Curves = {"prediction": [], "last value": []}
    for k in range(1, ahead.shape[1] + 1):
        targets = rows[rows >= k - 1]  # the first targets have no window so long before them
        windows, y = targets - k + 1, arrays["y"][targets, 0]
        curves["prediction"].append(root_mean_square(ahead[windows, k - 1] - y))
        curves["last value"].append(root_mean_square(arrays["x"][windows, -1] - y))
    return curves


def draw(
    path: Path, series: np.ndarray, ahead: np.ndarray, multi_step: np.ndarray, curves: Curves, config: Config
) -> None:
    """The series with predictions one step and many steps ahead, those k steps ahead, and the error by distance."""
    picture = plotting.figure(15, 4)
    left, middle, right = picture.subplots(1, 3)
    time = np.arange(1, len(series) + 1)  # the book counts from 1
    left.plot(time, series, color="0.8", label="data")
    left.plot(time[config.window :], ahead[:, 0], linewidth=0.8, label="one step ahead")
    left.plot(time[-len(multi_step) :], multi_step, label="fed back from where the training data ends")
    middle.plot(time, series, color="0.8", label="data")
    for k in STEPS_AHEAD:
        reached = time[config.window + k - 1 :]
        middle.plot(reached, ahead[: len(reached), k - 1], linewidth=0.8, label=f"{k} step{'s' * (k > 1)} ahead")
    for axes, title in ((left, "Next step, and all the way"), (middle, "k steps ahead")):
        axes.set(title=title, xlabel="time", ylabel="x", ylim=(-3, 1.7))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", fontsize=8)
    distances = np.arange(1, len(curves["prediction"]) + 1)
    title = "Error on the held-out values"
    series_of_errors = {**curves, "noise alone": np.full(len(distances), NOISE)}
    plotting.lines(distances, series_of_errors, xlabel="steps ahead", ylabel="RMSE", title=title, axes=right)
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Trains, predicts, draws; returns the last row of the history and the errors."""
    series = noisy_sine(config.num_values, noise=NOISE, seed=config.seed)
    arrays = windows_and_targets(series, config.window)
    train_rows, eval_rows = (split_rows(s, len(arrays["y"])) for s in (config.train_split, config.eval_split))

    def examples(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[rows] for name, array in arrays.items()}

    train_data = DeviceData(examples(train_rows), config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(examples(eval_rows), 256, train=False)

    model = nn.MLP([1], kernel_init=linen.initializers.normal(0.01), dtype=experiment.compute_dtype(config))
    loss_fn, eval_fn = training.supervised(
        model, "x", loss=lambda predictions, batch: nn.squared_error(predictions, batch["y"])[:, 0], scores={}
    )
    optimizer = optax.sgd(config.learning_rate)
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    state = experiment.init_state(lambda key: model.init(key, arrays["x"][:1]), optimizer, config)
    folder = experiment.run_folder("ch09_time_series")
    state, history = experiment.run(
        "ch09_time_series", config, step, state, train_data, eval_fn=eval_fn, eval_data=eval_data, folder=folder
    )

    predict = partial(model.apply, {"params": jax.device_get(state.params)})  # from wherever they were trained
    first = eval_rows[0]
    ahead = np.asarray(predict_ahead(predict, arrays["x"], max(STEPS_AHEAD)))  # [windows, 64]
    multi_step = np.asarray(predict_ahead(predict, arrays["x"][first : first + 1], len(ahead) - first))[0]
    curves = errors_by_distance(ahead, arrays, eval_rows)
    figures = {f"rmse_{k}": curves["prediction"][k - 1] for k in STEPS_AHEAD}
    figures |= {f"last_value_{k}": curves["last value"][k - 1] for k in STEPS_AHEAD}
    figures["rmse_all"] = root_mean_square(multi_step - arrays["y"][first:, 0])
    figures["factor"] = long_run_factor(predict, config.window)
    print(f"\n{'steps ahead':<14}{'error (RMSE)':>14}{'of the last value':>20}")
    for k in STEPS_AHEAD:
        print(f"{k:<14}{figures[f'rmse_{k}']:>14.3f}{figures[f'last_value_{k}']:>20.3f}")
    print(f"{'all the way':<14}{figures['rmse_all']:>14.3f}")
    print(f"The noise alone is {NOISE}. Fed back, predictions are multiplied by {figures['factor']:.4f} a step.")
    draw(folder / "predictions.png", series, ahead, multi_step, curves, config)
    print(f"pictures: {folder / 'predictions.png'}")
    return history.rows[-1] | figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
