"""Small pieces to watch and average a run; each is an Optax transformation or wraps a `Step`.

optimizer = optax.chain(
    record_gradient_norm(),
    optax.clip_by_global_norm(1.0),
    optax.inject_hyperparams(optax.adam)(learning_rate=schedule),
    parameter_average(0.999),
)
step = report_optimizer(make_step(grad_fn, optimizer), "gradient_norm", "learning_rate")
evaluate(eval_fn, state._replace(params=averaged_params(state)), data)
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.training.metrics import Mean
from jaxdl.training.step import Batch, Metrics, Step, TrainState


class GradientNormState(NamedTuple):
    """Optimiser state of `record_gradient_norm`."""

    gradient_norm: jax.Array


def record_gradient_norm() -> optax.GradientTransformation:
    """Passes gradients through and keeps their global L2 norm in the optimiser state as `gradient_norm`.

    Put it before a clipping transformation to see the norm before clipping.
    """

    def init(params: Any) -> GradientNormState:
        return GradientNormState(jnp.zeros(()))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, GradientNormState]:
        norm = optax.tree.norm(_at_least_float32(updates))
        return updates, GradientNormState(norm.astype(state.gradient_norm.dtype))

    return optax.GradientTransformation(init, update)


def report_optimizer(step: Step, *names: str) -> Step:
    """Adds figures from the optimiser state to a step's metrics: the mean over the reported steps.

    Args:
      step: from `make_step`.
      names: fields of the optimiser state, such as `gradient_norm` (of `record_gradient_norm`) or `learning_rate` (of
        `optax.inject_hyperparams`).

    Raises:
      ValueError: at trace time, if the optimiser state has no array of that name.
    """

    def reporting_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics = step(state, batch)
        figures = {}
        for name in names:
            value = optax.tree.get(state.opt_state, name, filtering=lambda path, leaf: isinstance(leaf, jax.Array))
            if value is None:
                raise ValueError(f"names: the optimiser state has no array {name!r}")
            figures[name] = Mean.of(value)
        return state, {**metrics, **figures}

    return reporting_step


def _at_least_float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)), tree)


class ParameterAverageState(NamedTuple):
    """Optimiser state of `parameter_average`."""

    parameter_average: Any
    average_count: jax.Array


def parameter_average(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters in the optimiser state; put it last in the chain.

    The average after t steps is `sum_i (1 - decay) decay^(t-i) params_i / (1 - decay^t)`: corrected for its start at
    zero, as Adam's moments are (Kingma and Ba, 2015, section 3). Of parameters in half precision it is float32,
    in which small steps do not vanish. Read it with `averaged_params`.

    Raises:
      ValueError: if `decay` is not in [0, 1); from `update`, without the parameters.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay: expected a number in [0, 1), got {decay}")

    def init(params: Any) -> ParameterAverageState:
        zeros = jax.tree.map(jnp.zeros_like, _at_least_float32(params))
        return ParameterAverageState(zeros, jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ParameterAverageState]:
        if params is None:
            raise ValueError("params: expected the parameters, update(updates, state, params), got None")
        count = state.average_count + 1
        # Of the newest, in the corrected average. In float32, 1 - decay**count loses the digits that matter.
        weight = (1 - decay) / -jnp.expm1(count * math.log(decay)) if decay else 1.0
        newest = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: (a + weight * (p - a)).astype(a.dtype), state.parameter_average, newest)
        return updates, ParameterAverageState(average, count)

    return optax.GradientTransformation(init, update)


def averaged_params(state: TrainState) -> Any:
    """The average that `parameter_average` has kept (zeros before the first step).

    Raises:
      ValueError: if the optimiser has no `parameter_average`.
    """
    average = optax.tree.get(state.opt_state, "parameter_average")
    if average is None:
        raise ValueError("state: its optimiser keeps no parameter_average")
    return average
