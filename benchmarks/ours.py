"""Our side of a comparison: a case's step compiled by the library's public path, with its batches on the device."""

import time

import jax
from cases import Case

from jaxdl import training


class CompiledCase:
    """A case at one setting of `steps_per_call`.

    Raises:
      ValueError: if `steps_per_call` does not divide the case's number of batches.
    """

    def __init__(self, case: Case, steps_per_call: int) -> None:
        if case.num_batches % steps_per_call:
            raise ValueError(f"steps_per_call: expected a divisor of {case.num_batches}, got {steps_per_call}")
        self.case = case
        self.steps_per_call = steps_per_call
        self.compiled = training.jit_step(case.step, steps_per_call=steps_per_call)
        leading = (case.batch_size,) if steps_per_call == 1 else (steps_per_call, case.batch_size)
        examples = case.examples(case.num_batches * case.batch_size)
        stacks = {name: x.reshape(-1, *leading, *x.shape[1:]) for name, x in examples.items()}
        self.batches = [
            self.compiled.place_batch({name: stack[i] for name, stack in stacks.items()})
            for i in range(case.num_batches // steps_per_call)
        ]
        first, second = self._one_call(), self._one_call()
        self.compile_seconds = max(0.0, first - second)

    def run(self, passes: int) -> float:
        """Milliseconds a step, over `passes` over the batches after one that is not timed, from the initial state."""
        state = jax.block_until_ready(self._one_pass(self.compiled.place_state(self.case.state)))
        start = time.perf_counter()
        for _ in range(passes):
            state = self._one_pass(state)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) * 1e3 / (passes * self.case.num_batches)

    def _one_pass(self, state: training.TrainState) -> training.TrainState:
        for batch in self.batches:
            state, _ = self.compiled(state, batch)
        return state

    def _one_call(self) -> float:
        state = jax.block_until_ready(self.compiled.place_state(self.case.state))
        start = time.perf_counter()
        jax.block_until_ready(self.compiled(state, self.batches[0]))
        return time.perf_counter() - start
