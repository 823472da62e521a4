"""The training contract: a loss gives sums, gradients of sums add up, and one step divides once.

    LossFn = (params, model_state, batch, key) -> (Mean, (metrics, model_state))
    GradFn = (params, model_state, batch, key) -> (Sums, model_state)
    Step   = (TrainState, batch) -> (TrainState, metrics)

Because a `GradFn` returns sums, merging micro-batches (`accumulate`) and merging devices (`all_reduce`) are the same
addition, exact under masks and uneven shards. Averages of per-device averages are not.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.training.metrics import Mean, merge_metrics

Batch = Mapping[str, Any]  # named arrays, leading axis = examples; "mask" [batch] is reserved: 1 real, 0 padding
Metrics = Mapping[str, Any]  # a Metric by name
LossFn = Callable[[Any, Any, Batch, jax.Array], tuple[Mean, tuple[Metrics, Any]]]
EvalFn = Callable[[Any, Any, Batch], Any]


class Sums(NamedTuple):
    """What a `GradFn` returns: everything in it may be added across micro-batches and devices."""

    grads: Any  # gradient of loss.total
    loss: Mean
    metrics: Metrics


GradFn = Callable[[Any, Any, Batch, jax.Array], tuple[Sums, Any]]


class TrainState(NamedTuple):
    """All that training changes, as plain pytrees; no functions inside."""

    params: Any
    model_state: Any  # the other Linen collections, by name: {"batch_stats": ...}; {} if there are none
    opt_state: Any
    step: jax.Array  # int32 []
    key: jax.Array  # typed key [], never changed; step t uses fold_in(key, t)


Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def init_state(
    init: Callable[[jax.Array], Mapping[str, Any]], optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Creates the state of a run, in one compiled call.

    Args:
      init: key -> Linen variables, such as `lambda key: model.init(key, images)`. The collection `params` is trained,
        the others become `model_state`.
      optimizer: an Optax transformation.
      key: a typed key, `jax.random.key(seed)`.

    Raises:
      ValueError: if the key is not a typed key, or `init` returns no collection `params`.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise ValueError(f"key: expected one typed key such as jax.random.key(0), got {key!r}")

    def create(key: jax.Array) -> TrainState:
        init_key, base_key = jax.random.split(key)
        model_state = dict(init(init_key))
        if "params" not in model_state:
            raise ValueError(f"init: expected variables with a collection 'params', got {sorted(model_state)}")
        params = model_state.pop("params")
        return TrainState(params, model_state, optimizer.init(params), jnp.zeros((), jnp.int32), base_key)

    return jax.jit(create)(key)


def sum_gradients(loss_fn: LossFn) -> GradFn:
    """Differentiates `loss.total`, the sum over the batch (not the average)."""

    def grad_fn(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Sums, Any]:
        def total(params: Any) -> tuple[jax.Array, Any]:
            loss, (metrics, new_model_state) = loss_fn(params, model_state, batch, key)
            if not isinstance(loss, Mean) or jnp.ndim(loss.total) != 0:
                raise ValueError(f"loss_fn: expected a Mean of two scalars, the total and the count; got {loss}")
            return loss.total, (loss, metrics, new_model_state)

        grads, (loss, metrics, new_model_state) = jax.grad(total, has_aux=True)(params)
        return Sums(grads, loss, metrics), new_model_state

    return grad_fn


def accumulate(grad_fn: GradFn, num_micro_batches: int) -> GradFn:
    """Runs `grad_fn` on micro-batches one after the other and adds: activations of one micro-batch at a time.

    Example i goes to micro-batch `i % num_micro_batches`, so that every shard of a batch split over devices feeds every
    micro-batch. Model state passes from one micro-batch to the next; the key is folded with the micro-batch's index.

    Raises:
      ValueError: if `num_micro_batches` does not divide the batch, or the model carries per-example state (`carry`).
    """
    if num_micro_batches < 1:
        raise ValueError(f"num_micro_batches: expected at least 1, got {num_micro_batches}")
    if num_micro_batches == 1:
        return grad_fn

    def split(name: str, x: jax.Array) -> jax.Array:
        if x.shape[0] % num_micro_batches:
            raise ValueError(
                f"batch[{name!r}]: {x.shape[0]} examples do not divide into {num_micro_batches} micro-batches"
            )
        return x.reshape(x.shape[0] // num_micro_batches, num_micro_batches, *x.shape[1:]).swapaxes(0, 1)

    def accumulated(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Sums, Any]:
        if "carry" in model_state:
            raise ValueError(
                "model_state: a model with per-example state in 'carry' cannot be split into micro-batches"
            )
        micro_batches = {name: split(name, x) for name, x in batch.items()}
        first = {name: x[0] for name, x in micro_batches.items()}
        shapes, _ = jax.eval_shape(grad_fn, params, model_state, first, key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def body(carry: tuple[Any, Sums], index_and_batch: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Sums], None]:
            model_state, acc = carry
            index, batch = index_and_batch
            sums, model_state = grad_fn(params, model_state, batch, jax.random.fold_in(key, index))
            return (model_state, merge_metrics(acc, sums)), None

        indices = jnp.arange(num_micro_batches)
        (model_state, sums), _ = jax.lax.scan(body, (model_state, zeros), (indices, micro_batches))
        return sums, model_state

    return accumulated


def all_reduce(grad_fn: GradFn, axis_name: str) -> GradFn:
    """Adds the sums of all devices along a mapped axis (`pmap`, `shard_map`, `vmap`).

    The key is folded with the device's index, so dropout differs between devices. Model state is averaged, except the
    collection `carry`, which belongs to the examples.
    """

    def reduced(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Sums, Any]:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        sums, model_state = grad_fn(params, model_state, batch, key)
        model_state = {
            name: collection if name == "carry" else jax.lax.pmean(collection, axis_name)
            for name, collection in model_state.items()
        }
        return jax.lax.psum(sums, axis_name), model_state

    return reduced


def make_step(grad_fn: GradFn, optimizer: optax.GradientTransformation, *, skip_nonfinite: bool = False) -> Step:
    """The training step: gradients of the sum, divided by the count once, then the optimiser.

    A batch whose every example is masked has count 0 and gives zero gradients.

    Args:
      grad_fn: from `sum_gradients`, `accumulate`, `all_reduce`.
      optimizer: an Optax transformation.
      skip_nonfinite: leave parameters, model state and optimiser state as they were when the loss or a gradient is NaN
        or infinite; that step's metrics count nothing, and the metric `skipped` is the share of such steps.

    Raises:
      ValueError: at trace time, if the loss function returns a metric called `loss` or `skipped`.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        sums, model_state = grad_fn(state.params, state.model_state, batch, key)
        if taken := {"loss", "skipped"} & set(sums.metrics):
            raise ValueError(f"metrics: the step itself reports {sorted(taken)}; give the metric another name")
        metrics = {"loss": sums.loss, **sums.metrics}
        count = jnp.where(sums.loss.count == 0, 1, sums.loss.count)
        grads = jax.tree.map(lambda g: (g / count).astype(g.dtype), sums.grads)  # the one division
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        if skip_nonfinite:
            finite = jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves((sums.loss, grads))]))
            new, old = (params, model_state, opt_state), (state.params, state.model_state, state.opt_state)
            params, model_state, opt_state = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
            metrics = jax.tree.map(lambda m: jnp.where(finite, m, jnp.zeros_like(m)), metrics)
            metrics["skipped"] = Mean(jnp.where(finite, 0.0, 1.0), jnp.ones(()))
        return TrainState(params, model_state, opt_state, state.step + 1, state.key), metrics

    return step
