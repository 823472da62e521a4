"""How throughput grows with devices, by strategy: one JSON line for each strategy and number of devices.

    python benchmarks/scaling.py [--batch-size 256] [--seconds 2] [--fake-devices 8]

It uses the accelerators that exist; without any, fake CPU devices, which share this machine's cores, so that their
efficiency only shows the overhead. The batch is the same for every number of devices (strong scaling); `efficiency` is
the throughput over that of one device, times one over the number of devices.
"""

import argparse
import json
import time
from collections.abc import Iterator

import jax
import numpy as np
import optax

from jaxdl import nn, training
from jaxdl.parallel import ShardingRules, make_mesh, pmap_step, shard_step


def compiled_steps(grad_fn: training.GradFn, num_devices: int) -> Iterator[tuple[str, training.CompiledStep]]:
    """Each strategy on the first so many devices."""
    optimizer, devices = optax.sgd(0.1, momentum=0.9), jax.devices()[:num_devices]
    step, mesh = training.make_step(grad_fn, optimizer), make_mesh({"data": num_devices}, devices)
    if num_devices == 1:
        yield "jit", training.jit_step(step)
    yield "pmap", pmap_step(training.make_step(training.all_reduce(grad_fn, "data"), optimizer), devices=devices)
    yield "data parallel", shard_step(step, mesh)
    yield "fully sharded", shard_step(step, mesh, ShardingRules(fully_sharded="data"))


def measure(
    compiled: training.CompiledStep, state: training.TrainState, batch: training.Batch, seconds: float
) -> tuple[float, float]:
    """The seconds of the first call and, after it, the median seconds of a call."""
    state, batch = compiled.place_state(state), compiled.place_batch(batch)
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(compiled(state, batch))
    first, times = time.perf_counter() - begun, []
    while sum(times) < seconds or len(times) < 5:
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch))
        times.append(time.perf_counter() - begun)
    return first, float(np.median(times))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256, help="examples a step, over all devices")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to time each case")
    parser.add_argument("--fake-devices", type=int, default=8, help="CPU devices to pretend, without accelerators")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.fake_devices)

    model = nn.MLP([1024, 1024, 16])
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.random((arguments.batch_size, 784), np.float32),
        "label": rng.integers(0, 10, arguments.batch_size).astype(np.int32),
    }
    loss_fn, _ = training.supervised(
        model, "image", loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]), scores={}
    )
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = training.init_state(lambda key: model.init(key, batch["image"][:1]), optimizer, jax.random.key(0))

    alone: dict[str, float] = {}
    num_devices = 1
    while num_devices <= jax.device_count():
        for strategy, compiled in compiled_steps(training.sum_gradients(loss_fn), num_devices):
            first, seconds = measure(compiled, state, batch, arguments.seconds)
            rate = arguments.batch_size / seconds
            line = {
                "strategy": strategy,
                "devices": num_devices,
                "device": jax.devices()[0].device_kind,
                "examples_per_second": round(rate),
                "efficiency": round(rate / alone.setdefault(strategy, rate) / num_devices, 3),
                "compile_s": round(first - seconds, 2),
                "jax": jax.__version__,
            }
            print(json.dumps(line), flush=True)
        num_devices *= 2


if __name__ == "__main__":
    main()
