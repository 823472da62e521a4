"""How a model is put together and filled with numbers (D2L 6.1 to 6.5), in JAX's terms.

    python examples/ch06_builders_guide.py
    python examples/ch06_builders_guide.py --seed 1 --plot weights.png

A tour to read from top to bottom, a function a section. The one idea: a Linen module holds hyperparameters only, its
numbers are a pytree beside it, and `apply` takes both. `ch06_files_and_devices.py` goes on with 6.6 and 6.7.

It takes about 10 s on two cores of an AMD EPYC. Inputs of standard deviation 1 leave a layer of 256
units with 0.16 under Normal(0.01), 1.00 under Flax's default and Xavier, and 86 to 87 under the book's own initialiser
(three seeds).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from flax.errors import ScopeParamShapeError
from jax.nn import initializers

from jaxdl import experiment, nn, plotting

Figures = dict[str, float]


@dataclass(frozen=True)
class Config:
    """Walks through the builder's guide."""

    seed: int = 0
    """Of every random number."""
    plot: Path | None = None
    """Where the histograms of initial weights go; default: a new folder under runs."""


# 6.1 Layers and modules


class MLP(linen.Module):
    """A hidden layer of 256 units and 10 outputs; `jaxdl.nn.MLP([256, 10])`, written by hand."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, inputs]` to `[batch, 10]`."""
        x = linen.relu(linen.Dense(256)(x))
        return linen.Dense(10)(x)


def halve_until_small(x: jax.Array) -> jax.Array:
    """Halves `x` until its absolute values sum to 1 or less.

    `jax.grad` cannot go back through a `while_loop` that carries `x` itself: it would have to keep a number of
    intermediate values that nobody knows beforehand. This loop finds the factor, and the product has a gradient.
    """
    scale = jax.lax.while_loop(lambda scale: jnp.abs(x * scale).sum() > 1, lambda scale: scale / 2, 1.0)
    return x * scale


class FixedHiddenMLP(linen.Module):
    """A trained layer that is used twice, random weights that are never trained, and control flow."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, 20]` to one number."""
        dense = linen.Dense(20)
        fixed = self.variable("constants", "kernel", lambda: jax.random.uniform(self.make_rng("params"), (20, 20)))
        x = linen.relu(dense(x) @ fixed.value + 1)
        return halve_until_small(dense(x)).sum()  # the same kernel and bias again


class NestMLP(linen.Module):
    """Modules inside a module."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, inputs]` to `[batch, 16]`."""
        net = linen.Sequential([linen.Dense(64), linen.relu, linen.Dense(32), linen.relu])
        return linen.Dense(16)(net(x))


def layers_and_modules(key: jax.Array) -> Figures:
    """A module is its class and its hyperparameters; what it computes is decided by the numbers handed to it."""
    data_key, init_key = jax.random.split(key)  # what is drawn from one key twice is the same
    x = jax.random.uniform(data_key, (2, 20))
    sequential = linen.Sequential([linen.Dense(256), linen.relu, linen.Dense(10)])
    params = MLP().init(init_key, x)["params"]
    renamed = {"layers_0": params["Dense_0"], "layers_2": params["Dense_1"]}
    gap = largest_gap(MLP().apply({"params": params}, x), sequential.apply({"params": renamed}, x))
    print(f"MLP and Sequential, given the same numbers, differ by {gap}")

    variables = FixedHiddenMLP().init(init_key, x)
    print("FixedHiddenMLP: the layer used twice is there once, the fixed weights are not among the parameters")
    print(nn.parameter_table(variables))
    small, pullback = jax.vjp(halve_until_small, jnp.array([3.0, 4.0]))
    (slope,) = pullback(jnp.ones(2))
    print(f"[3, 4] halved until its absolute values sum to 1 or less: {small}; gradient of the sum: {slope}")

    chimera = linen.Sequential([NestMLP(), linen.Dense(20), FixedHiddenMLP()])
    value: Any = chimera.apply(chimera.init(init_key, x), x)
    print(f"a chimera of all three gives {value:.4f}; its layers, in the order in which they finish:")
    for layer in nn.layer_shapes(chimera, x.shape):
        print(f"  {layer.path or '(the whole)':<32} {layer.kind:<16} {layer.input_shape} -> {layer.output_shape}")
    return {
        "sequential_gap": gap,
        "fixed_hidden_parameters": nn.parameter_count(variables),
        "halved_l1_norm": float(jnp.abs(small).sum()),
        "halved_slope": float(slope[0]),
        "chimera_output": float(value),
    }


# 6.2 Parameters


def parameters(key: jax.Array) -> Figures:
    """Parameters are a pytree: reached by path, and every operation on them is a function of trees."""
    data_key, init_key = jax.random.split(key)
    x, model = jax.random.uniform(data_key, (2, 4)), linen.Sequential([linen.Dense(8), linen.relu, linen.Dense(1)])
    params: Any = model.init(init_key, x)["params"]
    print(f"one by its path: params['layers_2']['bias'] = {params['layers_2']['bias']}")
    norms = jax.tree.map(jnp.linalg.norm, params)
    for path, norm in jax.tree_util.tree_leaves_with_path(norms):
        print(f"  {jax.tree_util.keystr(path, simple=True, separator='/'):<16} norm {norm:.4f}")
    print(f"{nn.parameter_count({'params': params})} numbers, norm of them all {optax.tree.norm(params):.4f}")

    before, grads = jax.value_and_grad(loss)(params, model, x)
    after = loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), model, x)
    print(f"a step of gradient descent is one tree.map: loss {before:.4f} -> {after:.4f}")

    tied, tied_grads, untied_grads = tied_gradients(init_key, x)
    both = jax.tree.map(jnp.add, untied_grads["layers_2"], untied_grads["layers_4"])
    gap = largest_gap(tied_grads["layers_2"], both)
    print(f"a layer used twice is one entry of {', '.join(sorted(tied))};")
    print(f"its gradient is the sum of what two layers of the same numbers get, to within {gap}")
    return {
        "parameters": nn.parameter_count({"params": params}),
        "norm_gap": float(optax.tree.norm(params) - optax.tree.norm(norms)),
        "loss_decrease": float(before - after),
        "tied_parameters": nn.parameter_count({"params": tied}),
        "tied_gradient_gap": gap,
    }


def tied_gradients(key: jax.Array, x: jax.Array) -> tuple[Any, Any, Any]:
    """Parameters and gradients of a model that uses one layer twice, and gradients of its copy with two layers."""

    def model(second: linen.Module, third: linen.Module) -> linen.Sequential:
        return linen.Sequential(
            [linen.Dense(8), linen.relu, second, linen.relu, third, linen.relu, linen.Dense(1)]  # layers_0, 2, 4, 6
        )

    shared = linen.Dense(8)
    tied, untied = model(shared, shared), model(linen.Dense(8), linen.Dense(8))
    params: Any = tied.init(key, x)["params"]
    copied = params | {"layers_4": params["layers_2"]}
    return params, jax.grad(loss)(params, tied, x), jax.grad(loss)(copied, untied, x)


# 6.3 Initialisation


def two_sided_uniform(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
    """The book's own: from U(-10, -5) or U(5, 10) with probability 1/4 each, else 0. Any such function will do."""
    weights = jax.random.uniform(key, shape, dtype, -10, 10)
    return jnp.where(jnp.abs(weights) >= 5, weights, 0)


INITIALIZERS: dict[str, Callable[..., jax.Array]] = {
    "normal(0.01)": initializers.normal(0.01),
    "lecun_normal (default)": initializers.lecun_normal(),
    "xavier_uniform": nn.xavier_uniform(),
    "two_sided_uniform (ours)": two_sided_uniform,
}


def initialization(key: jax.Array, plot: Path) -> Figures:
    """An initialiser is a function `(key, shape, dtype) -> array`, chosen layer by layer; an edit makes a new tree."""
    data_key, init_key = jax.random.split(key)
    inputs = jax.random.normal(data_key, (256, 256))
    picture, stds = plotting.figure(9, 5.2), {}
    kernels = {name: initializer(init_key, (256, 256)) for name, initializer in INITIALIZERS.items()}
    print("256 units to 256:            std    share of zeros   std of the outputs, for inputs of std 1")
    for axes, (name, kernel) in zip(picture.subplots(2, 2).ravel(), kernels.items(), strict=True):
        out = stds[name] = float((inputs @ kernel).std())
        print(f"  {name:<25} {kernel.std():7.4f}    {(kernel == 0).mean():.3f}           {out:.2f}")
        axes.hist(np.ravel(kernel), bins=40, weights=np.full(kernel.size, 1 / kernel.size))
        axes.set(title=f"{name}\nweights of std {kernel.std():.3g}, outputs of std {out:.2f}")
        axes.set(xlabel="weight", ylabel="share of the weights")
    picture.suptitle("Initial weights of a layer from 256 units to 256, and its outputs for inputs of std 1")
    picture.savefig(plot, dpi=120)
    print(f"histograms: {plot}")

    x = inputs[:2, :4]
    hidden = linen.Dense(8, kernel_init=nn.xavier_uniform())
    model = linen.Sequential([hidden, linen.tanh, linen.Dense(1, kernel_init=initializers.constant(42.0))])
    params: Any = model.init(init_key, x)["params"]
    print(f"each layer its own: first within {jnp.abs(params['layers_0']['kernel']).max():.4f}, ", end="")
    print(f"second all {params['layers_2']['kernel'][0, 0]}")

    all_ones = jax.tree.map(lambda leaf: jnp.ones_like(leaf) if leaf.ndim == 2 else leaf, params)
    units = jax.grad(loss)(all_ones, model, x)["layers_0"]["kernel"]  # [inputs, units]
    spread = jnp.abs(units - units[:, :1]).max()
    print(f"weights that are all 1 never part: the gradients of the 8 units differ by {spread}")

    kernel = params["layers_0"]["kernel"]
    edited = params | {"layers_0": params["layers_0"] | {"kernel": (kernel + 1).at[0, 0].set(42)}}
    print(f"all + 1, and one set to 42: {edited['layers_0']['kernel'][0, :3]}; the old tree still has {kernel[0, :3]}")
    return {
        **{f"output_std of {name}": std for name, std in stds.items()},
        "xavier_bound": float(jnp.abs(kernel).max()),
        "second_layer": float(params["layers_2"]["kernel"].mean()),
        "zero_share": float((kernels["two_sided_uniform (ours)"] == 0).mean()),
        "unit_spread": float(spread),
        "edited": float(edited["layers_0"]["kernel"][0, 0]),
    }


# 6.4 Lazy initialisation


def lazy_shapes(key: jax.Array) -> Figures:
    """A module never states its input width: `init` reads it from an example, and `eval_shape` needs only its shape.

    Flax's kernels are `[inputs, outputs]`; PyTorch's weights are `[outputs, inputs]`.
    """
    x = jax.ShapeDtypeStruct((2, 20), jnp.float32)
    shapes = jax.eval_shape(MLP().init, key, x)
    print(f"MLP on 20 inputs, before a number is drawn:\n{nn.parameter_table(shapes)}")
    huge = jax.eval_shape(nn.MLP([10**6, 10**6]).init, key, x)
    print(f"a model of {nn.parameter_count(huge):,} numbers fits no machine, but its shapes cost nothing")
    variables = MLP().init(key, jnp.ones((2, 20)))
    try:
        MLP().apply(variables, jnp.ones((2, 30)))
    except ScopeParamShapeError as error:
        print(f"once the numbers are there the width is fixed; 30 inputs: {str(error).split(' (http')[0]}")
    return {
        "first_kernel_rows": shapes["params"]["Dense_0"]["kernel"].shape[0],
        "first_kernel_columns": shapes["params"]["Dense_0"]["kernel"].shape[1],
        "huge_parameters": nn.parameter_count(huge),
    }


# 6.5 Custom layers


class CenteredLayer(linen.Module):
    """Subtracts the mean; a layer without parameters."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the mean is over everything."""
        return x - x.mean()


class DenseReLU(linen.Module):
    """A dense layer with ReLU, from `self.param(name, initialiser, shape)`.

    Args:
      features: width of the output.
    """

    features: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, inputs]` to `[batch, features]`."""
        kernel = self.param("kernel", initializers.lecun_normal(), (x.shape[-1], self.features))
        bias = self.param("bias", initializers.zeros, (self.features,))
        return linen.relu(x @ kernel + bias[None, :])


class CallCounter(linen.Module):
    """Passes its input on and counts its calls; `apply` must name the collection as mutable, and gives it back."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape."""
        calls = self.variable("statistics", "calls", jnp.zeros, (), jnp.int32)
        if not self.is_initializing():
            calls.value += 1
        return x


def custom_layers(key: jax.Array) -> Figures:
    """A layer of one's own is a module like the others; what changes in a call is a collection that `apply` returns."""
    centred: Any = CenteredLayer().apply({}, jnp.arange(1.0, 6.0))
    print(f"CenteredLayer on 1 to 5: {centred}")
    data_key, init_key = jax.random.split(key)
    x = jax.random.normal(data_key, (2, 64))
    params = DenseReLU(3).init(init_key, x[:, :5])["params"]
    library = linen.Sequential([linen.Dense(3), linen.relu]).apply({"params": {"layers_0": params}}, x[:, :5])
    gap = largest_gap(DenseReLU(3).apply({"params": params}, x[:, :5]), library)
    print(f"DenseReLU(3) on 5 inputs differs by {gap} from Flax's Dense and ReLU with the same numbers")

    model = linen.Sequential([DenseReLU(8), CallCounter(), DenseReLU(1)])
    variables = model.init(init_key, x)
    _, changed = model.apply(variables, x, mutable=["statistics"])
    (before,), (after,) = (jax.tree.leaves(tree) for tree in (variables["statistics"], changed["statistics"]))
    print(f"64 -> 8 -> 1: {nn.parameter_count(variables)} parameters; calls {before} before and {after} after one")
    return {
        "centred_first": float(centred[0]),
        "custom_dense_gap": gap,
        "custom_parameters": nn.parameter_count(variables),
        "calls": int(after),
        "calls_before": int(before),
    }


def loss(params: Any, model: Any, x: jax.Array) -> jax.Array:
    """How far the outputs are from 1, squared, on average."""
    return jnp.square(model.apply({"params": params}, x) - 1).mean()


def largest_gap(a: Any, b: Any) -> float:
    """The largest difference between two pytrees of arrays."""
    return float(max(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.abs(x - y).max(), a, b))))


def main(config: Config) -> Figures:
    """Runs the sections in order, and returns their figures."""
    plot = config.plot or experiment.run_folder("ch06_builders_guide") / "initial_weights.png"
    plot.parent.mkdir(parents=True, exist_ok=True)
    key = jax.random.key(config.seed)
    figures: Figures = {}
    print("6.1 Layers and modules")
    figures |= layers_and_modules(key)
    print("\n6.2 Parameters")
    figures |= parameters(key)
    print("\n6.3 Initialisation")
    figures |= initialization(key, plot)
    print("\n6.4 Lazy initialisation")
    figures |= lazy_shapes(key)
    print("\n6.5 Custom layers")
    figures |= custom_layers(key)
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
