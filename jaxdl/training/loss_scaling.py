"""Dynamic loss scaling for float16 (Micikevicius et al., 2018, "Mixed Precision Training", section 3.2).

float16 has no numbers between 0 and 6e-8, where many gradients lie, and none above 65,504. So the loss is multiplied by
a scale before it is differentiated, and the gradients are divided by it. The scale is as large as overflow allows: a
step that overflows is skipped and halves it, a long run of good steps doubles it.

    grad_fn = scaled_sum_gradients(loss_fn)  # then accumulate, all_reduce as ever
    step = loss_scaling(make_step(grad_fn, optimizer, skip_nonfinite=True))
    state = with_loss_scale(init_state(init, optimizer, key))

The scale lives in `model_state["loss_scale"]`, so it is checkpointed and replicated with the rest. bfloat16 has the
range of float32 and needs none of this.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.training.metrics import Mean
from jaxdl.training.step import Batch, GradFn, LossFn, Metrics, Step, Sums, TrainState, sum_gradients

COLLECTION = "loss_scale"


def with_loss_scale(state: TrainState, scale: float = 2.0**15) -> TrainState:
    """Adds the collection `loss_scale` to a state (or starts it again).

    It holds `scale` and `good_steps`, the steps without overflow since the scale last changed. Both are float32,
    because `all_reduce` averages model state.

    Raises:
      ValueError: if `scale` is not a positive finite number.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: expected a positive finite number, got {scale}")
    collection = {"scale": jnp.asarray(scale, jnp.float32), "good_steps": jnp.zeros((), jnp.float32)}
    return state._replace(model_state={**state.model_state, COLLECTION: collection})


def scaled_sum_gradients(loss_fn: LossFn) -> GradFn:
    """`sum_gradients` for a model that computes in float16: differentiates `scale * loss.total`, then divides.

    The sums it returns are on the scale of the loss, as those of `sum_gradients`, and merge in the same way. A gradient
    that overflowed stays infinite or NaN, for `make_step(..., skip_nonfinite=True)` to see. `loss_fn` does not see the
    collection `loss_scale`.

    Raises:
      ValueError: at trace time, if the model state has no collection `loss_scale`.
    """

    def grad_fn(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Sums, Any]:
        collection = _loss_scale(model_state)
        scale = collection["scale"]

        def scaled_loss_fn(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Mean, tuple[Any, Any]]:
            loss, (metrics, model_state) = loss_fn(params, model_state, batch, key)
            scaled = Mean(loss.total * scale, loss.count) if isinstance(loss, Mean) else loss
            return scaled, ({"unscaled loss": loss, "metrics": metrics}, model_state)

        others = {name: collection for name, collection in model_state.items() if name != COLLECTION}
        sums, others = sum_gradients(scaled_loss_fn)(params, others, batch, key)
        grads = jax.tree.map(lambda g: (g / scale).astype(g.dtype), sums.grads)
        return Sums(grads, sums.metrics["unscaled loss"], sums.metrics["metrics"]), {**others, COLLECTION: collection}

    return grad_fn


def loss_scaling(
    step: Step,
    *,
    growth_interval: int = 2000,
    factor: float = 2.0,
    min_scale: float = 2.0**-10,
    max_scale: float = 2.0**24,
) -> Step:
    """Adjusts the scale after each step, and reports the one the step used as the metric `loss_scale`.

    Args:
      step: from `make_step(grad_fn, optimizer, skip_nonfinite=True)` with a `scaled_sum_gradients`.
      growth_interval: after so many steps without overflow the scale is multiplied by `factor`.
      factor: after a skipped step the scale is divided by it. A power of 2 makes scaling exact.
      min_scale: the scale never falls below. Less than 1, because what is scaled here is a sum: over `n` examples or
        tokens, a scale of `1 / n` is what a scale of 1 is to those who differentiate the average.
      max_scale: the scale never grows above.

    Raises:
      ValueError: if `growth_interval` is below 1, `factor` not above 1, or the bounds are not `0 < min <= max < inf`;
        at trace time, if the state has no collection `loss_scale` (`with_loss_scale` adds it), or the step reports no
        metric `skipped` or already one called `loss_scale`.
    """
    if growth_interval < 1:
        raise ValueError(f"growth_interval: expected at least 1 step, got {growth_interval}")
    if not 1 < factor < math.inf:
        raise ValueError(f"factor: expected a finite number above 1, got {factor}")
    if not 0 < min_scale <= max_scale < math.inf:
        raise ValueError(f"min_scale, max_scale: expected 0 < min <= max < inf, got {min_scale} and {max_scale}")

    def scaling_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        scale, good_steps = (_loss_scale(state.model_state)[name] for name in ("scale", "good_steps"))
        state, metrics = step(state, batch)
        if "skipped" not in metrics:
            raise ValueError(
                "step: expected one that reports 'skipped', from make_step(..., skip_nonfinite=True); "
                f"got one that reports {sorted(metrics)}"
            )
        if COLLECTION in metrics:
            raise ValueError(f"metrics: loss scaling itself reports {COLLECTION!r}; give the metric another name")
        skipped = metrics["skipped"].total > 0
        good_steps = jnp.where(skipped, 0, good_steps + 1)
        grow = good_steps >= growth_interval
        change = jnp.where(skipped, 1 / factor, jnp.where(grow, factor, 1.0)).astype(scale.dtype)
        collection = {
            "scale": jnp.clip(scale * change, min_scale, max_scale),
            "good_steps": jnp.where(grow, 0, good_steps),
        }
        state = state._replace(model_state={**state.model_state, COLLECTION: collection})
        return state, {**metrics, COLLECTION: Mean.of(scale)}

    return scaling_step


def _loss_scale(model_state: Any) -> Any:
    if COLLECTION not in model_state:
        raise ValueError(
            f"model_state: expected the collection {COLLECTION!r}, which with_loss_scale(state) adds; "
            f"got {sorted(model_state)}"
        )
    return model_state[COLLECTION]
