"""Learning-rate schedules (D2L 12.11): LeNet trained with each, from one rate and one compiled epoch.

    python examples/ch12_schedules.py

Six seeds (`--num-seeds 6`) at a rate that is a little too high; accuracies on the 360 test digits, mean and least:

    constant            0.813   0.092    one network in six stays at chance
    multi-factor        0.819   0.081    and so it does if the rate falls too late
    cosine              0.891   0.558    one was at 0.56 when the rate was gone
    square root         0.956   0.864
    factor 0.9          0.969   0.911
    warm-up, cosine     0.965   0.956    the best of the least
    cosine restarts     0.957   0.889

The default, three seeds, takes 10 s on two cores of an AMD EPYC (jax 0.12).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, nn, optim, plotting
from jaxdl.data import load, resize
from jaxdl.vision import LeNet


@dataclass(frozen=True)
class Config:
    """Trains one network with each schedule."""

    train_split: str = "train"
    """Of the digits, what to train on."""
    epochs: int = 14
    """Of each training; the schedules stretch with it."""
    batch_size: int = 64
    """Examples a step."""
    learning_rate: float = 0.3
    """The largest of every schedule."""
    seed: int = 0
    """Of the first repetition: initial weights and the order of the examples."""
    num_seeds: int = 3
    """Repetitions; curves are medians."""
    plot: Path | None = None
    """Where the picture goes; default: in the run's folder."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "num_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


def schedules(config: Config) -> dict[str, Any]:
    """Rates by epoch; the book's, with its 30 epochs shrunk to `--epochs`."""
    base, epochs = config.learning_rate, config.epochs
    cosine = optim.cosine_decay(base, max(1, 2 * epochs // 3), base / 30)
    half, three_quarters = max(1, epochs // 2), max(2, 3 * epochs // 4)
    return {
        "constant": lambda epoch: jnp.full(jnp.shape(epoch), base),
        "square root": optim.square_root_decay(base),
        "factor 0.9": optim.factor_decay(base / 0.9, 0.9, base / 30),
        "multi-factor": optim.multi_factor_decay(base, [half, three_quarters], 0.5),
        "cosine": cosine,
        "warm-up, cosine": optim.warm_up(cosine, max(1, epochs // 6)),
        "cosine restarts": optim.cosine_restarts(base, max(1, epochs // 7), base / 30, multiplier=2),
    }


def digits(split: str) -> dict[str, jax.Array]:
    """The embedded digits, 16 x 16: LeNet takes no fewer than 12 x 12, and at 28 x 28 three times as long."""
    arrays = load("digits", split)
    return {"image": jnp.asarray(resize(arrays["image"], (16, 16))), "label": jnp.asarray(arrays["label"])}


@jax.jit
def init_params(key: jax.Array, images: jax.Array) -> Any:
    """Of LeNet."""
    return LeNet().init(key, images)["params"]


def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    logits: Any = LeNet().apply({"params": params}, images)
    return nn.cross_entropy(logits, labels).mean()


@partial(jax.jit, donate_argnums=(0, 1))
def train_epoch(
    params: Any, state: Any, rates: jax.Array, arrays: dict[str, jax.Array], rows: jax.Array
) -> tuple[Any, Any, jax.Array]:
    """One pass; the schedule's rates `[epochs]` are data, so that all schedules share one compilation.

    Returns:
      Parameters, optimiser state, and the mean loss of the batches before their steps.
    """
    optimizer = optim.sgd(optim.per_epoch(lambda epoch: rates[epoch], len(rows)))

    def step(carry: tuple[Any, Any], batch: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params, arrays["image"][batch], arrays["label"][batch])
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, state), losses = jax.lax.scan(step, (params, state), rows)
    return params, state, losses.mean()


@jax.jit
def accuracy(params: Any, arrays: dict[str, jax.Array]) -> jax.Array:
    """The share of right classes."""
    logits: Any = LeNet().apply({"params": params}, arrays["image"])
    return nn.accuracy(logits, arrays["label"]).mean()


def train(schedule: Any, config: Config, seed: int, train_arrays: Any, test_arrays: Any) -> np.ndarray:
    """Trains, and returns `[epochs, 2]`: the training loss and the test accuracy of each epoch."""
    rates, rng = jnp.asarray(schedule(np.arange(config.epochs))), np.random.default_rng(seed)
    params = init_params(jax.random.key(seed), train_arrays["image"][:1])
    state, num_rows, curve = optim.sgd(0.0).init(params), len(train_arrays["label"]), []
    for _ in range(config.epochs):
        order = rng.permutation(num_rows)[: num_rows // config.batch_size * config.batch_size]
        rows = jnp.asarray(order.reshape(-1, config.batch_size), jnp.int32)  # [steps, batch]
        params, state, train_loss = train_epoch(params, state, rates, train_arrays, rows)
        curve.append((train_loss, accuracy(params, test_arrays)))
    return np.array(curve, np.float64)


def draw(rates: dict[str, np.ndarray], curves: dict[str, np.ndarray], path: Path) -> None:
    """Rates, losses and errors by epoch."""
    picture = plotting.figure(14, 4.3)
    panels, epochs = picture.subplots(1, 3), np.arange(len(next(iter(rates.values()))))
    losses = {name: curve[:, 0] for name, curve in curves.items()}
    errors = {name: np.maximum(1 - curve[:, 1], 1e-3) for name, curve in curves.items()}
    plotting.lines(epochs, rates, xlabel="epoch", ylabel="learning rate", title="The schedules", axes=panels[0])
    for axes, series, label in ((panels[1], losses, "training loss"), (panels[2], errors, "test error")):
        plotting.lines(epochs, series, xlabel="epoch", ylabel=label, yscale="log", axes=axes)
    panels[1].set_title("A smaller rate drops the loss, a restart raises it")
    panels[2].set_title("Medians of the seeds: test errors end alike")
    for axes in panels:
        axes.get_legend().remove()
        axes.xaxis.get_major_locator().set_params(integer=True)
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(rates))
    picture.savefig(path, dpi=110)


def main(config: Config) -> dict[str, float]:
    """Trains with every schedule, prints the table, and returns the final accuracies and losses."""
    train_arrays, test_arrays = digits(config.train_split), digits("test")
    if len(train_arrays["label"]) < config.batch_size:
        raise ValueError(f"batch_size: expected at most {len(train_arrays['label'])}, got {config.batch_size}")
    path = config.plot or experiment.run_folder("ch12_schedules") / "schedules.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures, rates, curves = {}, {}, {}
    print(f"LeNet, {config.epochs} epochs of {len(train_arrays['label'])} digits, {config.num_seeds} seeds")
    print(f"{'':<18} first rate  last rate  training loss  test accuracy: mean  least")
    for name, schedule in schedules(config).items():
        seeds = range(config.seed, config.seed + config.num_seeds)
        runs = np.stack([train(schedule, config, seed, train_arrays, test_arrays) for seed in seeds])
        rates[name], curves[name] = np.asarray(schedule(np.arange(config.epochs))), np.median(runs, axis=0)
        loss_mean, accuracies = float(runs[:, -1, 0].mean()), runs[:, -1, 1]
        figures[f"{name}/loss"], figures[f"{name}/accuracy"] = loss_mean, float(accuracies.mean())
        figures[f"{name}/least"] = float(accuracies.min())
        ends = f"{rates[name][0]:>10.3f} {rates[name][-1]:>10.3f}"
        print(f"  {name:<16} {ends} {loss_mean:>14.4f} {accuracies.mean():>20.3f} {accuracies.min():>6.3f}")
    draw(rates, curves, path)
    print(f"picture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
