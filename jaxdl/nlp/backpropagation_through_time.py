"""Backpropagation through time: in full, truncated, and truncated at random (D2L 9.7).

In h_t = f(x_t, h_{t-1}, w) the gradient reaches earlier steps through h_{t-1} alone. A factor xi_t on that way decides
how far back it goes:

    dh_t/dw = df/dw + xi_t df/dh_{t-1} dh_{t-1}/dw

| factors `[time]`                                       | gradient                                      |
|--------------------------------------------------------|-----------------------------------------------|
| `jnp.ones(num_steps)`                                  | full                                          |
| `regular_truncation(num_steps, every)`                 | of blocks of equal length; biased             |
| `randomized_truncation(key, num_steps, probability)`   | of blocks of random length; right on average  |

In training on a long text the blocks are batches, and `RNNLanguageModel(carry_state=True)` is the regular truncation.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def truncated_scan(
    step: Callable[[Any, Any], tuple[Any, Any]], state: Any, inputs: Any, factors: jax.Array
) -> tuple[Any, Any]:
    """`jax.lax.scan` over one sequence, with a factor on the gradient from each step to the state before it.

    The values are those of `jax.lax.scan`.

    Args:
      step: `(state, input) -> (state, output)`.
      state: before the first step, a pytree of arrays.
      inputs: a pytree of arrays `[time, ...]`.
      factors: floating `[time]`; the gradient of step t with respect to the state before it is multiplied by
        `factors[t]`. 1 leaves it alone, 0 is `jax.lax.stop_gradient`.

    Returns:
      The state after the last step, and the outputs `[time, ...]`.

    Raises:
      ValueError: if `factors` is not floating `[time]`, or an input has another number of steps.
    """
    if factors.ndim != 1 or not jnp.issubdtype(factors.dtype, jnp.floating):
        raise ValueError(f"factors: expected floating [time], got {factors.dtype}{list(factors.shape)}")
    for x in jax.tree.leaves(inputs):
        if x.shape[:1] != factors.shape:
            raise ValueError(f"inputs: expected {len(factors)} steps, as many as factors; got {list(x.shape)}")

    def scaled_step(state: Any, input_and_factor: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        x, factor = input_and_factor
        return step(jax.tree.map(lambda s: _scale_gradient(s, factor), state), x)

    return jax.lax.scan(scaled_step, state, (inputs, factors))


def regular_truncation(num_steps: int, every: int) -> jax.Array:
    """Factors that stop the gradient at steps `every`, `2 * every` and so on, float32 `[num_steps]`.

    Raises:
      ValueError: if a number is below 1.

    >>> regular_truncation(5, 2)
    Array([1., 1., 0., 1., 0.], dtype=float32)
    """
    for name, number in (("num_steps", num_steps), ("every", every)):
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    steps = jnp.arange(num_steps)
    return 1 - ((steps % every == 0) & (steps > 0)).astype(jnp.float32)


def randomized_truncation(key: jax.Array, num_steps: int, keep_probability: float) -> jax.Array:
    """Factors that stop the gradient at random and weigh what passes, so that the gradient is unbiased.

    Each is 0 with probability `1 - keep_probability`, else `1 / keep_probability`: 1 on average, and independent of the
    others (Tallec and Ollivier, 2017, "Unbiasing Truncated Backpropagation Through Time"). Long memories are rare and
    weigh more.

    Args:
      key: typed.
      num_steps: how many factors.
      keep_probability: in (0, 1]; blocks are `1 / (1 - keep_probability)` steps long on average.

    Returns:
      Float32 `[num_steps]`. The first is 1: the state before the sequence is the caller's to stop.

    Raises:
      ValueError: if `num_steps` is below 1 or the probability out of range.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}")
    if not 0 < keep_probability <= 1:
        raise ValueError(f"keep_probability: expected a number in (0, 1], got {keep_probability}")
    kept = jax.random.bernoulli(key, keep_probability, (num_steps,))
    return (kept.astype(jnp.float32) / keep_probability).at[0].set(1)


def linear_rnn_gradients(
    W_hx: jax.Array,
    W_hh: jax.Array,
    W_qh: jax.Array,
    inputs: jax.Array,
    output_gradients: jax.Array,
    factors: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of a recurrent network without activation, in closed form (D2L 9.7.2).

    `h_t = W_hx x_t + W_hh h_{t-1}` from `h_0 = 0`, `o_t = W_qh h_t`; x, h and o are column vectors, as in the book.
    With `g_t = dL/do_t`,

        dL/dh_t = sum over i >= t of (W_hh^T)^(i-t) W_qh^T g_i

    whose powers shrink or grow with the eigenvalues of `W_hh`. Time and memory are quadratic in the number of steps.

    Args:
      W_hx: `[hidden, features]`.
      W_hh: `[hidden, hidden]`.
      W_qh: `[outputs, hidden]`.
      inputs: x, `[time, features]`.
      output_gradients: g, `[time, outputs]`.
      factors: of the truncation, `[time]`; the term of t and i is multiplied by those of t+1 to i. Default 1.

    Returns:
      `dL/dW_hx`, `dL/dW_hh`, `dL/dW_qh`.

    Raises:
      ValueError: if the shapes do not fit.
    """
    num_steps = inputs.shape[0]
    factors = jnp.ones(num_steps, W_hh.dtype) if factors is None else factors
    shapes = {
        "W_hh": (W_hh.shape, W_hx.shape[:1] * 2),
        "W_qh": (W_qh.shape[1:], W_hx.shape[:1]),
        "inputs": (inputs.shape, (num_steps, *W_hx.shape[1:])),
        "output_gradients": (output_gradients.shape, (num_steps, W_qh.shape[0])),
        "factors": (factors.shape, (num_steps,)),
    }
    for name, (shape, expected) in shapes.items():
        if shape != expected:
            raise ValueError(f"{name}: expected shape {list(expected)} to fit the others, got {list(shape)}")

    def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = W_hx @ x + W_hh @ h
        return h, h

    _, hidden = jax.lax.scan(step, jnp.zeros_like(W_hh, shape=W_hh.shape[:1]), inputs)  # [time, hidden], from h_1 on
    _, terms = jax.lax.scan(  # terms[k, i] is (W_hh^T)^k W_qh^T g_i
        lambda term, _: (term @ W_hh, term), output_gradients @ W_qh, length=num_steps
    )
    t, i = jnp.meshgrid(jnp.arange(num_steps), jnp.arange(num_steps), indexing="ij")
    passed = jnp.cumprod(jnp.where(i > t, factors[None], 1), axis=1) * (i >= t)  # [t, i]
    hidden_gradients = jnp.einsum("ti,tih->th", passed, terms[jnp.maximum(i - t, 0), i])
    previous = jnp.concatenate([jnp.zeros_like(hidden[:1]), hidden[:-1]])
    return hidden_gradients.T @ inputs, hidden_gradients.T @ previous, output_gradients.T @ hidden


def _scale_gradient(x: Any, factor: jax.Array) -> Any:
    """`x`, whose gradient is multiplied by `factor`."""
    if not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return x
    return _scaled(x, factor.astype(x.dtype))


@jax.custom_jvp
def _scaled(x: jax.Array, factor: jax.Array) -> jax.Array:
    return x


@_scaled.defjvp
def _scaled_jvp(primals: Any, tangents: Any) -> Any:
    x, factor = primals
    return x, factor * tangents[0]
