"""LeNet on handwritten digits (D2L 7.6): trained, evaluated, plotted, checkpointed and resumed.

    python examples/ch07_lenet.py
    python examples/ch07_lenet.py --data mnist --train-split "test[:8000]" --eval-split "test[8000:]" --epochs 5
    python examples/ch07_lenet.py --strategy shard --precision bfloat16 --accumulate 2

The default trains on scikit-learn's 8 x 8 digits, resized to 28 x 28: 1,437 to train, 360 to evaluate. On two cores of
an AMD EPYC it takes 10 to 15 s with compilation and ends at an accuracy of 0.989 (mean of seeds 0 to 4, standard
deviation 0.004). The second command, on the 10,000 images of MNIST's test files, takes 10 s and reaches 0.980 (0.979
to 0.981, three seeds). In bfloat16 the default ends at 0.986, in float16 at 0.989 (means of three seeds; 0.988 in
float32). The book's recipe stays at chance on so little data.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import optax

from jaxdl import experiment, nn, training
from jaxdl.data import DeviceData, load, resize
from jaxdl.vision import LeNet


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Trains LeNet on images."""

    epochs: int = 30
    batch_size: int = 64
    recipe: Literal["modern", "book"] = "modern"
    """ReLU, max pooling and Adam; or the book's sigmoid, average pooling and SGD (with --learning-rate 0.1)."""


def images_and_labels(name: str, split: str) -> dict[str, np.ndarray]:
    """A data set with images of at least 28 x 28."""
    arrays = load(name, split)
    if arrays["image"].shape[1] < 28:
        arrays["image"] = resize(arrays["image"], (28, 28))
    return arrays


def main(config: Config) -> dict[str, float]:
    """Trains, and returns the last row of the history."""
    train_arrays = images_and_labels(config.data, config.train_split)
    train_data = DeviceData(train_arrays, config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(images_and_labels(config.data, config.eval_split), 256, train=False)

    dtype, num_classes = experiment.compute_dtype(config), int(train_arrays["label"].max()) + 1
    if config.recipe == "book":
        model = LeNet(num_classes, activation=nn.sigmoid, pool=nn.avg_pool, dtype=dtype)
        optimizer = optax.sgd(config.learning_rate)
    else:
        model = LeNet(num_classes, dtype=dtype)
        optimizer = optax.adam(config.learning_rate)

    loss_fn, eval_fn = training.supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    state = experiment.init_state(lambda key: model.init(key, train_arrays["image"][:1]), optimizer, config)
    print(nn.parameter_table({"params": state.params}))
    _, history = experiment.run("ch07_lenet", config, step, state, train_data, eval_fn=eval_fn, eval_data=eval_data)
    return history.rows[-1]


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
