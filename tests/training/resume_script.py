"""The run that test_resume.py kills: `python resume_script.py DIRECTORY MOMENT`, resuming what it finds there.

It writes the final state and history to DIRECTORY.result. `MOMENT` says when to kill itself: `step-N` before step N,
`sigterm-N` the same by SIGTERM, `writing` when the arrays of a save are on disk and its description is not, `kept` when
a save is complete and the old checkpoints are not yet deleted; `never`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.training import Checkpointer, Mean, checkpoint_format, fit, init_state, jit_step, make_step, sum_gradients
from jaxdl.training.checkpoint_format import copy_to_host

BATCHES = 8


def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)


class KillingData:
    """A shuffled epoch of batches that kills its process when asked for the batch of a certain step."""

    def __init__(self, checkpointer, at_step, signal_number):
        self.checkpointer = checkpointer
        self.at_step = at_step
        self.signal_number = signal_number

    def __len__(self):
        return BATCHES

    def batches(self, epoch, start=0):
        rng = np.random.default_rng(epoch)
        x = rng.normal(size=(BATCHES, 16, 4)).astype(np.float32)
        for i in range(start, BATCHES):
            if epoch * BATCHES + i + 1 == self.at_step:
                self.checkpointer.wait()  # so that what is on disk does not depend on the speed of this machine
                os.kill(os.getpid(), self.signal_number)
            yield {"x": x[i], "y": x[i].sum(axis=1)}


def noisy_loss(params, model_state, batch, key):
    noise = jax.random.normal(key, batch["x"].shape)
    prediction = jnp.tanh((batch["x"] + 0.1 * noise) @ params["w"]) @ params["v"]
    return Mean.of((prediction - batch["y"]) ** 2), ({}, model_state)


def init(key):
    keys = jax.random.split(key)
    return {"params": {"w": jax.random.normal(keys[0], (4, 8)), "v": jax.random.normal(keys[1], (8,))}}


def main(directory, moment):
    kind, _, at_step = moment.partition("-")
    if kind == "writing":
        mock.patch.object(checkpoint_format, "_digest", kill).start()
    elif kind == "kept":
        mock.patch.object(Checkpointer, "_ranked", kill).start()
    optimizer = optax.adam(0.05)
    step = jit_step(make_step(sum_gradients(noisy_loss), optimizer))
    with Checkpointer(directory, every=5, keep=2) as checkpointer:
        signal_number = signal.SIGTERM if kind == "sigterm" else signal.SIGKILL
        data = KillingData(checkpointer, int(at_step or 0), signal_number)
        state = init_state(init, optimizer, jax.random.key(0))
        state, history = fit(
            step, state, data, epochs=3, log_every=3, checkpointer=checkpointer, resume=True, progress=False
        )
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "examples_per_second")} for row in history.rows]
    leaves = {name: array.tobytes().hex() for name, array in copy_to_host(state).items()}
    Path(f"{directory}.result").write_text(json.dumps({"leaves": leaves, "rows": rows}))


if __name__ == "__main__":

    def previous_handler(signum, frame):
        raise AssertionError("fit should have caught the signal")

    signal.signal(signal.SIGTERM, previous_handler)
    try:
        main(*sys.argv[1:])
    finally:
        print("previous handler restored:", signal.getsignal(signal.SIGTERM) is previous_handler)
