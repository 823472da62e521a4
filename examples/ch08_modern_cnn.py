"""Modern convolutional networks (D2L chapter 8): any of them, trained on handwritten digits.

    python examples/ch08_modern_cnn.py
    python examples/ch08_modern_cnn.py --model densenet --strategy shard
    python examples/ch08_modern_cnn.py --model vgg11 --size full --data fashion_mnist --batch-size 128

The default size has as many layers as the book's networks (ResNeXt 26 for 50) with fewer channels (the LeNets have as
many), for scikit-learn's digits resized to 32 x 32. After 20 epochs on two cores of an AMD EPYC (jax 0.12, seed 0; the
seconds train one epoch of 44 steps, evaluation and compilation apart; a whole run takes 7 to 39 s):

    model               test accuracy    parameters    s an epoch
    lenet                       0.992        82,826          0.12
    batch_norm_lenet            0.992        62,158          0.10
    alexnet                     0.992       393,442          0.19
    vgg11                       0.986       445,482          0.39
    nin                         0.983       133,798          0.30
    googlenet                   0.981       377,478          0.61
    resnet18                    0.989       702,570          0.71
    resnext                     0.978       998,026          0.97
    densenet                    0.994        49,860          0.45
    regnetx                     0.958        46,578          0.59

The book's sizes on Fashion-MNIST have not been run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen
import numpy as np
import optax

from jaxdl import experiment, nn, training
from jaxdl.data import DeviceData, load, resize
from jaxdl.vision import (
    VGG,
    AlexNet,
    BatchNormLeNet,
    DenseNet,
    GoogLeNet,
    LeNet,
    NiN,
    RegNetX,
    ResNet,
    ResNeXt,
    regnetx_32,
    resnet18,
    vgg11,
)
from jaxdl.vision.googlenet import STAGES

ModelName = Literal[
    "lenet", "batch_norm_lenet", "alexnet", "vgg11", "nin", "googlenet", "resnet18", "resnext", "densenet", "regnetx"
]
MakeModel = Callable[..., flax.linen.Module]  # (num_classes, dtype=...) -> model

# The book's networks, and the height and width of the images that it trains them on. ResNeXt is the paper's, with 50
# layers; the book has its block only.
FULL: dict[str, tuple[MakeModel, int]] = {
    "lenet": (LeNet, 28),
    "batch_norm_lenet": (BatchNormLeNet, 28),
    "alexnet": (AlexNet, 224),
    "vgg11": (vgg11, 224),
    "nin": (NiN, 224),
    "googlenet": (GoogLeNet, 96),
    "resnet18": (resnet18, 96),
    "resnext": (ResNeXt, 96),
    "densenet": (DenseNet, 96),
    "regnetx": (regnetx_32, 96),
}
# As many layers (ResNeXt: 26) with half to an eighth of the channels, for images of 32 x 32: first layers that are made
# for 224 x 224 take strides of 1.
QUARTER_OF_INCEPTION = tuple(
    tuple((a // 4, (b // 4, c // 4), (d // 4, e // 4), f // 4) for a, (b, c), (d, e), f in stage) for stage in STAGES
)
SMALL: dict[str, MakeModel] = {
    "lenet": LeNet,
    "batch_norm_lenet": BatchNormLeNet,
    "alexnet": partial(AlexNet, widths=(12, 32, 48, 48, 32), dense_widths=(512, 512), stem_strides=1),
    "vgg11": partial(VGG, blocks=((1, 8), (1, 16), (2, 32), (2, 64), (2, 64)), dense_widths=(512, 512)),
    "nin": partial(NiN, widths=(24, 64, 96), stem_strides=1, relu_logits=False),
    "googlenet": partial(GoogLeNet, stem_widths=(16, 48), stages=QUARTER_OF_INCEPTION),
    "resnet18": partial(ResNet, widths=(16, 32, 64, 128)),
    "resnext": partial(ResNeXt, stage_sizes=(2, 2, 2, 2), widths=(64, 128, 256, 512), cardinality=8, stem_width=16),
    "densenet": partial(DenseNet, growth_rate=8, stem_width=16),
    "regnetx": partial(RegNetX, initial_width=16, slope=2.5, group_width=8, stem_width=16),
}


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Trains a convolutional network on images."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 3e-3
    """Of Adam; it grows from 0 during the first fifth of the steps and falls to 0 along a cosine."""
    model: ModelName = "resnet18"
    """The architecture."""
    size: Literal["small", "full"] = "small"
    """Fewer channels and images of 32 x 32, or the book's."""
    pixels: int | None = None
    """Height and width to resize the images to; default: those of the size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixels is not None and self.pixels < 1:
            raise ValueError(f"pixels: expected at least 1, got {self.pixels}")


def make_model(config: Config, num_classes: int) -> flax.linen.Module:
    """The network; under pmap, batch normalisation is told over which axis the batch is split."""
    make = SMALL[config.model] if config.size == "small" else FULL[config.model][0]
    model = make(num_classes, dtype=experiment.compute_dtype(config))
    if config.strategy == "pmap" and hasattr(model, "axis_name"):
        model = model.clone(axis_name="data")
    return model


def images_and_labels(split: str, config: Config) -> dict[str, Any]:
    """A part of the data set, its images resized."""
    pixels = config.pixels or (32 if config.size == "small" else FULL[config.model][1])
    arrays = load(config.data, split)
    return arrays | {"image": resize(arrays["image"], (pixels, pixels))}


def main(config: Config) -> dict[str, float]:
    """Trains; returns the last row of the history, the number of parameters and the seconds that an epoch trains."""
    train_arrays = images_and_labels(config.train_split, config)
    train_data = DeviceData(train_arrays, config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(images_and_labels(config.eval_split, config), 256, train=False)

    model = make_model(config, int(train_arrays["label"].max()) + 1)
    steps = config.epochs * len(train_data)
    # From the full rate on, the networks without batch normalisation may never leave chance.
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0, config.learning_rate, steps // 5, steps))
    loss_fn, eval_fn = training.supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    state = experiment.init_state(lambda key: model.init(key, train_arrays["image"][:1]), optimizer, config)
    parameters = nn.parameter_count({"params": state.params})
    print(nn.parameter_table({"params": state.params}))

    name = "ch08_modern_cnn"
    _, history = experiment.run(name, config, step, state, train_data, eval_fn=eval_fn, eval_data=eval_data)
    row = history.rows[-1]
    seconds = len(train_data) * config.batch_size / float(np.median(history["examples_per_second"]))
    print(
        f"{config.model}: accuracy {row['eval_accuracy']:.4f}, {parameters:,} parameters, "
        f"{seconds:.2f} s for the {len(train_data)} steps of an epoch"
    )
    return {**row, "parameters": parameters, "seconds_per_epoch": seconds}


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
