"""Covariate shift and label shift corrected by weights (D2L 4.7): a line and a digit classifier, without and with.

    python examples/ch04_distribution_shift.py

- Covariate shift (after Shimodaira, 2000): a line is fitted to a cubic, and the target's inputs lie elsewhere than the
  source's. The squared error on the target falls from 0.187 to 0.007.
- Label shift: digits 0 to 4 are common in the source and rare in the target. From the confusion matrix and the
  predictions on unlabelled target images comes their prior; the accuracy rises from 0.704 to 0.781.
- Where nothing shifts, the weights are about 1 and do no harm: 0.390 and 0.392, 0.850 and 0.846.
- Concept shift, where p(y|x) itself changes, leaves no trace in the inputs. Weights do not help; new labels do.

The figures are means of 20 runs; the script prints their standard deviations. It takes 8 s on two cores of an AMD EPYC.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from numpy.polynomial import Polynomial

from jaxdl import experiment, nn, plotting, training
from jaxdl.data import load

SOURCE_INPUTS, TARGET_INPUTS = (0.5, 0.5), (0.0, 0.3)  # mean and standard deviation of x
SOURCE_COUNTS = np.repeat([80, 20], 5)  # examples of each digit: 0 to 4 are common, 5 to 9 rare
TARGET_COUNTS = np.repeat([15, 60], 5)  # the other way round
SAME_COUNTS = np.repeat([60, 15], 5)  # no shift
SOURCE_PRIOR = SOURCE_COUNTS / SOURCE_COUNTS.sum()


@dataclass(frozen=True)
class Config:
    """Trains with and without correction on data whose distribution shifts, and where it does not."""

    seed: int = 0
    """Of the first run."""
    num_runs: int = 20
    """Runs, each with the next seed; the figures are means over them."""
    plot: Path | None = None
    """Where the picture goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        if self.num_runs < 1:
            raise ValueError(f"num_runs: expected at least 1, got {self.num_runs}")


def true_function(x: np.ndarray) -> np.ndarray:
    """What a line is fitted to."""
    return x**3 - x


class CovariateRun(NamedTuple):
    """A line fitted without and with weights, and the mean squared error of each on the target."""

    x: np.ndarray  # [examples], of the source
    y: np.ndarray
    lines: dict[str, Polynomial]
    errors: dict[str, float]


def covariate_run(seed: int, target_inputs: tuple[float, float] = TARGET_INPUTS) -> CovariateRun:
    """Fits lines to labelled source examples; of the target it sees as many inputs, without labels."""
    rng, num_examples = np.random.default_rng(seed), 200
    x, target_x = (rng.normal(*inputs, num_examples) for inputs in (SOURCE_INPUTS, target_inputs))
    y = true_function(x) + rng.normal(0, 0.3, num_examples)
    features = [np.stack([values, values**2], axis=1) for values in (x, target_x)]
    weights = np.asarray(training.covariate_shift_weights(*features))
    lines = {
        "uncorrected": Polynomial.fit(x, y, 1),
        "corrected": Polynomial.fit(x, y, 1, w=np.sqrt(weights)),  # NumPy squares what it multiplies by w
    }
    new_x = rng.normal(*target_inputs, 10_000)
    errors = {name: float(np.mean((line(new_x) - true_function(new_x)) ** 2)) for name, line in lines.items()}
    return CovariateRun(x, y, lines, errors)


MODEL = nn.MLP([10])
LOSS_FN, _ = training.supervised(
    MODEL, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
)


@jax.jit
def train(batch: training.Batch, key: jax.Array) -> Any:
    """Softmax regression by gradient descent on all examples at once; "mask" weighs them."""
    optimizer = optax.sgd(1.0)
    step = training.make_step(training.sum_gradients(LOSS_FN), optimizer)
    state = training.init_state(lambda key: MODEL.init(key, batch["image"][:1]), optimizer, key)
    state, _ = jax.lax.scan(lambda state, _: (step(state, batch)[0], None), state, length=200)
    return state.params


@jax.jit
def probabilities(params: Any, images: Any) -> jax.Array:
    """Of each class, `[images, 10]`."""
    logits: Any = MODEL.apply({"params": params}, images)
    return nn.softmax(logits)


class LabelRun(NamedTuple):
    """The target's true and estimated prior, and each model's accuracy there."""

    prior: np.ndarray  # [10]
    estimated: np.ndarray  # [10]
    accuracies: dict[str, float]


def label_run(digits: dict[str, np.ndarray], seed: int, target_counts: np.ndarray = TARGET_COUNTS) -> LabelRun:
    """Trains on the source, estimates the prior of the target from its images alone, and trains again with weights."""
    rng = np.random.default_rng(seed)
    images = digits["image"] + 0.3 * rng.normal(size=digits["image"].shape).astype(np.float32)  # so that they overlap
    parts = [], [], []  # rows to train on, to validate on (with the source's prior) and of the target
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(digits["label"] == label))
        for part, count in zip(parts, (SOURCE_COUNTS, SOURCE_COUNTS // 2, target_counts), strict=True):
            part.extend(rows[: count[label]])
            rows = rows[count[label] :]
    source, validation, target = ({"image": images[p], "label": digits["label"][p]} for p in parts)

    key = jax.random.key(seed)
    unweighted = train(source | {"mask": np.ones(len(source["label"]), np.float32)}, key)
    predictions = np.asarray(probabilities(unweighted, validation["image"]))
    confusion = np.stack([predictions[validation["label"] == label].mean(axis=0) for label in range(10)], axis=1)
    on_target = np.asarray(probabilities(unweighted, target["image"]))
    estimated = training.label_shift_prior(confusion, on_target.mean(axis=0))
    class_weights = training.label_shift_weights(SOURCE_PRIOR, estimated)
    weighted = train(source | {"mask": class_weights[source["label"]].astype(np.float32)}, key)
    accuracies = {
        name: float(nn.accuracy(probabilities(params, target["image"]), target["label"]).mean())
        for name, params in (("uncorrected", unweighted), ("corrected", weighted))
    }
    return LabelRun(target_counts / target_counts.sum(), estimated, accuracies)


def draw(covariate: CovariateRun, label: LabelRun, path: Path) -> None:
    """Draws the two lines over the inputs' densities, and the priors."""
    picture = plotting.figure(11, 4.2)
    panels = picture.subplot_mosaic([["lines", "priors"], ["densities", "priors"]], height_ratios=[3, 1])
    x = np.linspace(-1, 2, 200)
    panels["lines"].scatter(covariate.x, covariate.y, s=5, color="lightgray")
    curves = {"true function": true_function(x)} | {f"line, {name}": line(x) for name, line in covariate.lines.items()}
    plotting.lines(x, curves, ylabel="y", title="Covariate shift, first run", axes=panels["lines"])
    panels["lines"].set_ylim(-1.5, 2.5)
    inputs = {"source": SOURCE_INPUTS, "target": TARGET_INPUTS}
    densities = {name: jax.scipy.stats.norm.pdf(x, *mean_and_deviation) for name, mean_and_deviation in inputs.items()}
    panels["densities"].set_prop_cycle(color=["gray", "tab:red"])
    plotting.lines(x, densities, xlabel="x", ylabel="density", axes=panels["densities"])
    bars = {
        "source, true": (SOURCE_PRIOR, "gray"),
        "target, true": (label.prior, "tab:red"),
        "target, estimated without labels": (label.estimated, "tab:green"),
    }
    for i, (name, (prior, color)) in enumerate(bars.items()):
        panels["priors"].bar(np.arange(10) + 0.27 * (i - 1), prior, 0.27, label=name, color=color)
    panels["priors"].set(
        xlabel="digit", ylabel="share", title="Label shift, first run", xticks=range(10), ylim=(0, 0.3)
    )
    panels["priors"].legend()
    picture.savefig(path, dpi=120)
    print(f"picture: {path}")


def main(config: Config) -> dict[str, float]:
    """Runs both shifts and their controls; returns the means over the runs."""
    path = config.plot or experiment.run_folder("ch04_distribution_shift") / "shift.png"
    path.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    seeds = range(config.seed, config.seed + config.num_runs)
    digits = load("digits", "train+test")
    covariate, label = [covariate_run(seed) for seed in seeds], [label_run(digits, seed) for seed in seeds]
    table = {
        "covariate shift: squared error": [run.errors for run in covariate],
        "no covariate shift: squared error": [covariate_run(seed, SOURCE_INPUTS).errors for seed in seeds],
        "label shift: accuracy": [run.accuracies for run in label],
        "no label shift: accuracy": [label_run(digits, seed, SAME_COUNTS).accuracies for seed in seeds],
    }
    figures = {}
    print(f"{f'on the target, {config.num_runs} runs':36}{'uncorrected':>17}{'corrected':>18}")
    for title, rows in table.items():
        line = f"{title:36}"
        for name in ("uncorrected", "corrected"):
            values = [row[name] for row in rows]
            figures[f"{title}, {name}"] = float(np.mean(values))
            line += f"{np.mean(values):>9.4f} ± {np.std(values):.4f}"
        print(line)
    distance = float(np.mean([np.abs(run.estimated - run.prior).sum() for run in label]))
    figures["label shift: distance of the estimated prior"] = distance
    shift = np.abs(SOURCE_PRIOR - label[0].prior).sum()
    print(f"the estimated prior lies {distance:.2f} from the target's, the source's {shift:.2f} (sums of differences)")
    draw(covariate[0], label[0], path)
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
