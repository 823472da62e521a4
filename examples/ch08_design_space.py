"""Two design spaces, judged by the errors of the networks in them (D2L 8.8; Radosavovic et al., 2020).

    python examples/ch08_design_space.py

A design space is a set of networks. One of them may be good by luck, so what is compared is the distribution of the
errors of a random sample. Both spaces here are AnyNets of two stages. In "any" every stage has a depth, width, group
width and bottleneck of its own; in "growing" the stages share group width and bottleneck, and depth and width never
decrease from stage to stage, the rules that led the paper from AnyNetX_A to AnyNetX_E. To be fair, networks of both
are drawn until they cost between 0.2 and 0.5 million multiplications with additions for one image.

The default trains 10 networks of each for 4 epochs on scikit-learn's digits, resized to 32 x 32. Their mean error is
0.34 in "any" (0.30 to 0.39, seeds 0 to 2) and 0.18 in "growing" (0.174 to 0.178). It takes 80 s on two cores of an AMD
EPYC (jax 0.12), most of it compilation.
"""

import contextlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxdl import experiment, nn, plotting, training
from jaxdl.data import DeviceData, load, resize
from jaxdl.vision import AnyNet, AnyNetSpace, error_edf, multiply_adds, sample_anynet

PIXELS = 32
ANY = AnyNetSpace(num_stages=2, stem_width=8, max_depth=2, max_width=64, group_widths=(4, 8, 16))
SPACES = {
    "any": ANY,
    "growing": replace(ANY, share_bottleneck=True, share_group_width=True, widths_increase=True, depths_increase=True),
}


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Trains networks drawn from two design spaces for a few epochs each."""

    epochs: int = 4
    """Passes over the training data, for each network."""
    batch_size: int = 64
    learning_rate: float = 3e-3
    """At the start; it falls to zero along a cosine."""
    networks: int = 10
    """How many to draw from each space."""
    cost: tuple[float, float] = (0.2, 0.5)
    """Least and most million multiplications with additions that a network may need for one image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.networks < 1:
            raise ValueError(f"networks: expected at least 1, got {self.networks}")


def images_and_labels(name: str, split: str) -> dict[str, np.ndarray]:
    """A data set with images of 32 x 32."""
    arrays = load(name, split)
    return arrays | {"image": resize(arrays["image"], (PIXELS, PIXELS))}


def million_multiply_adds(model: AnyNet, train_arrays: dict[str, np.ndarray]) -> float:
    """What a network needs for one image."""
    return multiply_adds(model, PIXELS, train_arrays["image"].shape[-1]) / 1e6


def draw(rng: np.random.Generator, space: AnyNetSpace, train_arrays: dict[str, np.ndarray], config: Config) -> AnyNet:
    """Draws networks from a space until one costs what `--cost` allows."""
    fields: dict[str, Any] = {
        "num_classes": int(train_arrays["label"].max()) + 1,
        "dtype": experiment.compute_dtype(config),
        "axis_name": "data" if config.strategy == "pmap" else None,
    }
    for _ in range(10_000):
        model = sample_anynet(rng, space, use_bias=False, **fields)
        if config.cost[0] <= million_multiply_adds(model, train_arrays) <= config.cost[1]:
            return model
    raise ValueError(f"cost: none of 10,000 networks needs {config.cost[0]} to {config.cost[1]} million")


def held_out_error(model: AnyNet, arrays: dict[str, dict[str, np.ndarray]], config: Config, folder: Path) -> float:
    """Trains a network, with a record in its folder, and returns the share of evaluation images that it gets wrong."""
    train_data = DeviceData(arrays["train"], config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(arrays["eval"], 256, train=False)
    loss_fn, eval_fn = training.supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.epochs * len(train_data)))
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    # What runs once need not run fast: optimised, the random numbers take longer to compile than the network to train.
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    variables = init(jax.random.key(config.seed), arrays["train"]["image"][:1])
    state = experiment.init_state(lambda key: variables, optimizer, config)
    own_config = replace(
        config,
        checkpoint_dir=config.checkpoint_dir and config.checkpoint_dir / folder.name,
        log_dir=config.log_dir and config.log_dir / folder.name,
        plot=None,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # one line a network is enough
        _, history = experiment.run(
            folder.name,
            own_config,
            step,
            state,
            train_data,
            eval_fn=eval_fn,
            eval_data=eval_data,
            progress=False,
            folder=folder,
        )
    return 1 - history.rows[-1]["eval_accuracy"]


def main(config: Config) -> dict[str, float]:
    """Trains the networks; returns of each space the mean and the least error."""
    splits = {"train": config.train_split, "eval": config.eval_split}
    arrays = {name: images_and_labels(config.data, split) for name, split in splits.items()}
    folder = experiment.run_folder("ch08_design_space")
    costs, errors = {}, {}
    print("network     depths        widths        group widths  bottlenecks   million  error")
    for name, space in SPACES.items():
        rng, costs[name], errors[name] = np.random.default_rng(config.seed), [], []
        for i in range(config.networks):
            model = draw(rng, space, arrays["train"], config)
            costs[name].append(million_multiply_adds(model, arrays["train"]))
            errors[name].append(held_out_error(model, arrays, config, folder / f"{name}_{i:02}"))
            stages = (model.depths, model.widths, model.group_widths, model.bottlenecks)
            row = "  ".join(f"{' '.join(map(str, numbers)):<12}" for numbers in stages)
            print(f"{f'{name}_{i:02}':<10}  {row}  {costs[name][-1]:>7.2f}  {errors[name][-1]:.3f}", flush=True)
    picture = config.plot or folder / "design_spaces.png"
    plot(costs, errors, picture)
    print(f"picture: {picture}")
    return {
        f"{name}_{figure}": float(value)
        for name in SPACES
        for figure, value in (("mean_error", np.mean(errors[name])), ("least_error", min(errors[name])))
    }


def plot(costs: dict[str, list[float]], errors: dict[str, list[float]], path: Path) -> None:
    """Draws the distribution functions, and each network's error over its cost."""
    figure = plotting.figure(8, 3.4)
    left, right = figure.subplots(1, 2)
    thresholds = np.linspace(0, 1.05 * max(max(e) for e in errors.values()), 500)
    plotting.lines(
        thresholds,
        {f"{name} (mean {np.mean(e):.3f})": error_edf(e, thresholds) for name, e in errors.items()},
        title="Higher is better",
        xlabel="error e on the evaluation images",
        ylabel="F(e): share with error up to e",
        axes=left,
    )
    for name in errors:
        right.scatter(costs[name], errors[name], label=name)
    right.set(
        title="Each network, at what it costs",
        xlabel="million multiply-adds an image",
        ylabel="error",
    )
    right.grid(alpha=0.3)
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
