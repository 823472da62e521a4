"""From one device to many (D2L 13.5 and 13.6): the same training under every strategy.

    python examples/ch13_data_parallel.py

Without accelerators it runs on eight fake devices, which share the cores of this machine: they show that the strategies
agree, not that they are fast. With accelerators it uses those. On two cores of an AMD EPYC it takes about 30 s; every
strategy ends at an accuracy of 0.964 to 0.983 (two seeds), and after one step no parameter differs by more than 2e-8.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, nn, training
from jaxdl.data import DeviceData, load, resize
from jaxdl.parallel import ShardingRules, make_mesh, pmap_step, ring_all_reduce, shard_step
from jaxdl.vision import resnet18


@dataclass(frozen=True)
class Config:
    """Trains a convolutional network on digits under each strategy."""

    model: Literal["lenet", "resnet18"] = "lenet"
    """The LeNet of D2L 13.5, or the ResNet-18 for small images of 13.6 (with accelerators)."""

    train_split: str = "train"
    """What to train on, in TFDS notation."""
    epochs: int = 20
    """Passes over the training data, for each strategy."""
    batch_size: int = 256
    """Examples a step, over all devices; they must divide it."""
    learning_rate: float = 0.1
    """Of SGD with momentum 0.9."""
    seed: int = 0
    """Of the initial parameters and the order of the data."""
    fake_devices: int = 8
    """How many CPU devices to pretend, where there is no accelerator."""


class WideLeNet(linen.Module):
    """The network of D2L 13.5: convolutions of 20 and 50 channels, then 800-128-10."""

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images `[batch, 28, 28, 1]` to logits `[batch, 10]`."""
        x = linen.relu(linen.Conv(20, (3, 3), padding="VALID")(images))
        x = linen.avg_pool(x, (2, 2), (2, 2))  # [batch, 13, 13, 20]
        x = linen.relu(linen.Conv(50, (5, 5), padding="VALID")(x))
        x = linen.avg_pool(x, (2, 2), (2, 2))  # [batch, 4, 4, 50]
        x = jax.lax.collapse(x, 1)  # [batch, 800]
        x = linen.relu(linen.Dense(128)(x))
        return linen.Dense(10)(x)


def show_all_reduce() -> None:
    """The two moves of data parallelism by hand: split a batch, add up what the devices found."""
    devices = min(2, jax.device_count())
    batch = np.arange(20.0).reshape(4, 5)
    parts = batch.reshape(devices, -1, 5)
    print(f"a batch {batch.shape} splits into {len(parts)} x {parts[0].shape}")
    found = jnp.stack([jnp.full(2, i + 1.0) for i in range(devices)])
    total = jax.pmap(partial(ring_all_reduce, axis_name="data"), axis_name="data")(found)
    print(f"all-reduce of {found.tolist()}: every device ends with {total[0].tolist()}")


def make_model(config: Config, axis_name: str | None = None) -> linen.Module:
    """The network; under pmap, batch normalisation must be told over which axis the batch is split."""
    if config.model == "resnet18":
        return resnet18(10, stem="small", axis_name=axis_name)
    return WideLeNet()


def loss_and_eval(model: linen.Module) -> tuple[training.LossFn, training.EvalFn]:
    """Cross-entropy and accuracy."""
    return training.supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )


def compiled_steps(config: Config, optimizer: optax.GradientTransformation) -> dict[str, training.CompiledStep]:
    """The same training step under each strategy."""
    step = training.make_step(training.sum_gradients(loss_and_eval(make_model(config))[0]), optimizer)
    grad_fn = training.sum_gradients(loss_and_eval(make_model(config, axis_name="data"))[0])
    mapped_step = training.make_step(training.all_reduce(grad_fn, "data"), optimizer)
    mesh = make_mesh({"data": -1})
    # Split by its 800 inputs, the largest axis, the dense layer would make XLA split the pixels of the images as well.
    split_outputs = {"Dense_0/kernel": (None, "data")} if config.model == "lenet" else {}
    fully = ShardingRules(params=split_outputs, fully_sharded="data")
    return {
        "one device": training.jit_step(step),
        "pmap": pmap_step(mapped_step),
        "sharded, data parallel": shard_step(step, mesh),
        "sharded fully": shard_step(step, mesh, fully),
    }


def largest_difference(a: Any, b: Any) -> float:
    """Between two pytrees of arrays, wherever they lie."""
    pairs = zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b)), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def main(config: Config) -> dict[str, float]:
    """Trains under each strategy; returns each one's accuracy, and its distance from one device after one step."""
    print(f"{jax.device_count()} devices: {jax.devices()[0].device_kind}")
    show_all_reduce()
    digits = {split: load("digits", split) for split in (config.train_split, "test")}
    for arrays in digits.values():
        arrays["image"] = resize(arrays["image"], (28, 28))
    train_data = DeviceData(digits[config.train_split], config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(digits["test"], 180, train=False)

    model, optimizer = make_model(config), optax.sgd(config.learning_rate, momentum=0.9)
    _, eval_fn = loss_and_eval(model)
    state = training.init_state(
        lambda key: model.init(key, digits["test"]["image"][:1]), optimizer, jax.random.key(config.seed)
    )
    steps, first_batch = compiled_steps(config, optimizer), next(train_data.batches(0))
    after_one = {
        name: step(step.place_state(state), step.place_batch(first_batch))[0].params for name, step in steps.items()
    }
    figures = {}
    print(f"{'strategy':24}{'accuracy':>10}{'examples/s':>12}{'after one step':>18}")
    for name, step in steps.items():
        _, history = training.fit(
            step, state, train_data, epochs=config.epochs, eval_fn=eval_fn, eval_data=eval_data, progress=False
        )
        row = history.rows[-1]
        figures[f"{name}: accuracy"] = row["eval_accuracy"]
        figures[f"{name}: difference"] = largest_difference(after_one[name], after_one["one device"])
        rate = max(history["examples_per_second"])
        print(f"{name:24}{row['eval_accuracy']:>10.4f}{rate:>12,.0f}{figures[f'{name}: difference']:>18.1e}")
    print("(after one step: the largest difference of a parameter from one device's; float32 rounds at about 1e-7)")
    return figures


if __name__ == "__main__":
    flags = experiment.parse_flags(Config)
    jax.config.update("jax_num_cpu_devices", flags.fake_devices)  # before JAX looks for devices
    main(flags)
