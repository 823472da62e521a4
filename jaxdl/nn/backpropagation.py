"""The multilayer perceptron with its backward pass written out (D2L 5.3): what `jax.grad` does for you elsewhere.

Layer i maps its input `Z_i` to the pre-activation `U_i = Z_i W_i + b_i` and to `Z_{i+1} = sigma(U_i)`, the last layer
to the outputs `O = U_L`. With `J` the sum of the examples' losses plus the penalty `lambda / 2 * sum_i |W_i|^2`,
`mlp_backward` walks from the last layer to the first:

    dJ/dU_L = dJ/dO
    dJ/dU_i = G_{i+1} * sigma'(U_i)                 G_i = dJ/dZ_i = dJ/dU_i W_i^T
    dJ/dW_i = Z_i^T dJ/dU_i + lambda W_i            dJ/db_i = sum of dJ/dU_i over the examples

| the book, one example (columns)       | systems course, a batch (rows) | here                               |
|---------------------------------------|--------------------------------|------------------------------------|
| `x`                                   | `Z_1`                          | `x`, `intermediates.inputs[0]`     |
| `W^(1)`, `W^(2)` (transposed), no `b` | `W_i`, no bias                 | `params[i]["kernel"]`, `["bias"]`  |
| `z = W^(1) x`                         | `Z_i W_i`                      | `intermediates.preactivations[i]`  |
| `h = phi(z)`                          | `Z_{i+1} = sigma(Z_i W_i)`     | `intermediates.inputs[i + 1]`      |
| `o`, `dJ/do`                          | `Z_{L+1}`, `G_{L+1}`           | `outputs`, `output_gradient`       |
| `dJ/dh`                               | `G_i`                          | `input_gradient`                   |
| `dJ/dz`                               | `G_{i+1} * sigma'(Z_i W_i)`    | `preactivation_gradient`           |
| `lambda`                              |                                | `weight_penalty`                   |

Everything is a pure function of arrays: nothing is recorded, the intermediates are passed along.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

LayerParams = Mapping[str, jax.Array]  # {"kernel": [in, out], "bias": [out]}


class Activation(NamedTuple):
    """A function and its derivative, element by element, both of the pre-activation."""

    function: Callable[[jax.Array], jax.Array]
    derivative: Callable[[jax.Array], jax.Array]


RELU = Activation(jax.nn.relu, lambda u: (u > 0).astype(u.dtype))  # 0 at 0, by convention
SIGMOID = Activation(jax.nn.sigmoid, lambda u: jax.nn.sigmoid(u) * jax.nn.sigmoid(-u))  # s (1 - s) without cancellation
TANH = Activation(jnp.tanh, lambda u: 1 - jnp.tanh(u) ** 2)


class Intermediates(NamedTuple):
    """What the forward pass keeps for the backward pass: two entries a layer."""

    inputs: list[jax.Array]  # of layer i: [batch, in]
    preactivations: list[jax.Array]  # of layer i: [batch, out]


def mlp_forward(
    params: Sequence[LayerParams], x: jax.Array, activation: Activation = RELU
) -> tuple[jax.Array, Intermediates]:
    """Runs the layers, with the activation between them.

    Args:
      params: for each layer `{"kernel": [in, out], "bias": [out]}`; `out` of one layer is `in` of the next.
      x: `[batch, in]`, floating, of the dtype of the parameters.
      activation: after every layer but the last: `RELU`, `SIGMOID`, `TANH` or your own.

    Returns:
      The outputs of the last layer, `[batch, out]`, and what `mlp_backward` needs.

    Raises:
      ValueError: if there is no layer, or the shapes or dtypes do not fit.
    """
    _check_params(params, x)
    inputs, preactivations = [], []
    for i, layer in enumerate(params):
        inputs.append(x if i == 0 else activation.function(preactivations[-1]))
        preactivations.append(inputs[-1] @ layer["kernel"] + layer["bias"][None])
    return preactivations[-1], Intermediates(inputs, preactivations)


def mlp_backward(
    params: Sequence[LayerParams],
    intermediates: Intermediates,
    output_gradient: jax.Array,
    activation: Activation = RELU,
    weight_penalty: float | jax.Array = 0.0,
) -> list[dict[str, jax.Array]]:
    """The gradient of the loss in every parameter, by the chain rule.

    Args:
      params: as given to `mlp_forward`.
      intermediates: from `mlp_forward`.
      output_gradient: `[batch, out]`, the derivative of the loss in the outputs, such as `cross_entropy_gradient`. Rows
        of zeros leave examples out; divided by the batch size, it makes the loss an average.
      activation: as given to `mlp_forward`.
      weight_penalty: `lambda`, a scalar: the penalty `lambda / 2 * |W|^2` on every kernel (not on biases) is part of
        the loss.

    Returns:
      For each layer `{"kernel": [in, out], "bias": [out]}`, in the dtype of the parameters.

    Raises:
      ValueError: if there is no layer, or the shapes or dtypes do not fit.
    """
    lengths = [len(arrays) for arrays in intermediates]
    if not params or lengths != [len(params)] * 2:
        raise ValueError(f"intermediates: expected two arrays a layer of {len(params)} (1 or more), got {lengths}")
    _check_params(params, intermediates.inputs[0])
    outputs = intermediates.preactivations[-1]
    if (output_gradient.shape, output_gradient.dtype) != (outputs.shape, outputs.dtype):
        raise ValueError(
            f"output_gradient: expected the outputs' {outputs.dtype}{list(outputs.shape)}, "
            f"got {output_gradient.dtype}{list(output_gradient.shape)}"
        )
    gradients: list[dict[str, jax.Array]] = []
    preactivation_gradient = output_gradient  # the last layer has no activation
    for i in reversed(range(len(params))):
        kernel = params[i]["kernel"]
        kernel_gradient = intermediates.inputs[i].T @ preactivation_gradient + weight_penalty * kernel
        gradients.append({"kernel": kernel_gradient.astype(kernel.dtype), "bias": preactivation_gradient.sum(0)})
        if i > 0:
            input_gradient = preactivation_gradient @ kernel.T  # [batch, in]
            preactivation_gradient = input_gradient * activation.derivative(intermediates.preactivations[i - 1])
    return gradients[::-1]


def squared_loss_gradient(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The derivative of `(outputs - targets)^2 / 2` in the outputs: their difference.

    Args:
      outputs: floating, any shape.
      targets: of the same shape and dtype.

    Raises:
      ValueError: if the shapes or dtypes differ, or are not floating.
    """
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"outputs: expected a floating dtype, got {outputs.dtype}")
    if (targets.shape, targets.dtype) != (outputs.shape, outputs.dtype):
        raise ValueError(
            f"targets: expected the outputs' {outputs.dtype}{list(outputs.shape)}, "
            f"got {targets.dtype}{list(targets.shape)}"
        )
    return outputs - targets


def _check_params(params: Sequence[LayerParams], x: jax.Array) -> None:
    if not params:
        raise ValueError("params: expected at least one layer, got none")
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected floating [batch, in], got {x.dtype}{list(x.shape)}")
    width = x.shape[1]
    for i, layer in enumerate(params):
        if set(layer) != {"kernel", "bias"}:
            raise ValueError(f"params[{i}]: expected 'kernel' and 'bias', got {sorted(layer)}")
        kernel, bias = layer["kernel"], layer["bias"]
        if kernel.ndim != 2 or kernel.shape[0] != width:
            raise ValueError(f"params[{i}]['kernel']: expected [{width}, out], got {list(kernel.shape)}")
        width = kernel.shape[1]
        if bias.shape != (width,):
            raise ValueError(f"params[{i}]['bias']: expected [{width}], got {list(bias.shape)}")
        for name, array in layer.items():
            if array.dtype != x.dtype:
                raise ValueError(f"params[{i}][{name!r}]: expected the dtype of x, {x.dtype}, got {array.dtype}")
