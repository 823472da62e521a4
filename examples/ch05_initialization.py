"""What initial weights do to a deep network (D2L 5.4): signals and gradients vanish, explode or keep their size.

    python examples/ch05_initialization.py

Ten networks of 50 layers of 256 units; 16 s on two busy cores of an AMD EPYC (13 of processor time). What a layer
multiplies the mean square of the signal by on its way forward, and that of the gradient on its way back (in brackets:
infinitely wide layers):

    linear   Xavier           0.9923  (1.0000)    0.9946  (1.0000)    1/n keeps linear layers
    ReLU     Xavier           0.5030  (0.5000)    0.5028  (0.5000)    and halves ReLU layers
    ReLU     Kaiming          1.0059  (1.0000)    1.0057  (1.0000)    2/n keeps those
    sigmoid  Xavier           0.9918  (0.9836)    0.0551  (0.0555)    sigmoid's derivative is at most 1/4
    ReLU     Gaussian (0.01)  0.0129  (0.0128)    0.0129  (0.0128)    256 * 0.01^2 / 2

A product of 100 Gaussian 4 x 4 matrices has a norm of about 1e24, as the theory says. Four hidden units that start with
equal weights stay one unit for ever: the loss ends at 2.10, from a random start at 0.20. Weights that start at zero
never move.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import experiment, nn, plotting

INITIALIZERS = {
    "Gaussian (0.01)": jax.nn.initializers.normal(0.01),
    "Xavier": nn.xavier_normal(),
    "Kaiming": nn.kaiming_normal(),
}
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda u: u,
    "ReLU": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}


@dataclass(frozen=True)
class Config:
    """Follows signals and gradients through deep networks, from several initial weights."""

    width: int = 256
    """Units a layer."""
    depth: int = 50
    """Layers."""
    num_seeds: int = 10
    """Networks to average over."""
    num_matrices: int = 100
    """Factors of the product of random matrices."""
    steps: int = 300
    """Of gradient descent, for the networks whose units start equal."""
    seed: int = 0
    """Of all that is random."""
    plot: Path | None = None
    """Where the picture goes; default: in the run's folder."""

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 2), ("num_seeds", 1), ("num_matrices", 2), ("steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


def propagate(weights: jax.Array, key: jax.Array, activation: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Mean squares in one network of the pre-activations and of the gradients in them, from random signs.

    Args:
      weights: `[depth, width, width]`.
      key: of the signs that enter at the first layer (the signal) and at the last (the gradient).
      activation: between the layers.

    Returns:
      `[2, depth]`: signal and gradient.
    """
    x, output_gradient = jax.random.rademacher(key, (2, weights.shape[1]), weights.dtype)

    def layer(x: jax.Array, weights_and_shift: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        weights, shift = weights_and_shift
        u = x @ weights + shift
        return activation(u), u

    def project(shifts: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, u = jax.lax.scan(layer, x, (weights, shifts))
        return u[-1] @ output_gradient, u

    # The gradient in something added to a pre-activation is the gradient in the pre-activation.
    gradients, u = jax.grad(project, has_aux=True)(jnp.zeros(weights.shape[:2], weights.dtype))
    return jnp.stack([(u**2).mean(1), (gradients**2).mean(1)])


def measure(config: Config) -> dict[tuple[str, str], np.ndarray]:
    """The mean squares of every activation under every initialiser, `[num_seeds, 2, depth]`."""
    shape = (config.width, config.width)

    def network(key: jax.Array, initializer: jax.nn.initializers.Initializer) -> list[jax.Array]:
        signs_key, weights_key = jax.random.split(key)
        keys = jax.random.split(weights_key, config.depth)
        weights = jax.vmap(lambda key: initializer(key, shape, jnp.float64))(keys)
        return [propagate(weights, signs_key, activation) for activation in ACTIVATIONS.values()]

    keys, measured = jax.random.split(jax.random.key(config.seed), config.num_seeds), {}
    for name, initializer in INITIALIZERS.items():
        # map, not vmap: the weights of one network at a time
        moments = jax.jit(lambda keys, i=initializer: jax.lax.map(lambda key: network(key, i), keys))(keys)
        measured |= {(activation, name): np.asarray(m) for activation, m in zip(ACTIVATIONS, moments, strict=True)}
    return measured


def theory(activation: str, initializer: str, config: Config) -> np.ndarray:
    """The same mean squares in infinitely wide layers, `[2, depth]`.

    There a pre-activation u is normal with variance q, so with v the width times the variance of a weight
    q_1 = v, q_{i+1} = v E[f(u)^2], and a gradient's mean square shrinks by v E[f'(u)^2] from layer i + 1 to layer i.
    """
    kernel_variance = {"Gaussian (0.01)": 1e-4, "Xavier": 1 / config.width, "Kaiming": 2 / config.width}[initializer]
    v, f = config.width * kernel_variance, ACTIVATIONS[activation]
    points, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()  # of a standard normal distribution

    signal, gradient_factors = [v], []
    for _ in range(config.depth - 1):
        u = jnp.asarray(math.sqrt(signal[-1]) * points)
        signal.append(v * float(weights @ np.asarray(f(u)) ** 2))
        gradient_factors.append(v * float(weights @ np.asarray(jax.vmap(jax.grad(f))(u)) ** 2))
    gradient = np.cumprod([1.0, *gradient_factors[::-1]])[::-1]
    return np.stack([signal, gradient])


def layer_factors(moments: np.ndarray) -> np.ndarray:
    """What a layer multiplies the signal by on its way forward and the gradient on its way back: `[..., 2]`, means."""
    signal, gradient = moments[..., 0, :], moments[..., 1, :]
    forward, backward = signal[..., 1:] / signal[..., :-1], gradient[..., :-1] / gradient[..., 1:]
    return np.stack([forward.mean(-1), backward.mean(-1)], axis=-1)


def signals_and_gradients(config: Config, figures: dict[str, float]) -> dict[tuple[str, str], np.ndarray]:
    """Measures every activation under every initialiser, and prints it beside the theory."""
    measured = measure(config)
    print(f"{config.num_seeds} networks of {config.depth} layers of {config.width} units.")
    print("In mean square, a layer multiplies the signal by (theory)   the gradient by (theory)")
    for (activation, initializer), moments in measured.items():
        signal, gradient = layer_factors(moments).mean(0)
        expected = layer_factors(theory(activation, initializer, config))
        row = f"{signal:>19.4f}  ({expected[0]:.4f}){gradient:>18.4f}  ({expected[1]:.4f})"
        print(f"  {activation:<8} {initializer:<16}{row}")
        figures |= {f"{activation}/{initializer}/signal": signal, f"{activation}/{initializer}/gradient": gradient}
    key, ratio = jax.random.key(config.seed), 2 / (784 + 256)
    figures["xavier/std"] = float(nn.xavier_normal()(key, (784, 256)).std())
    figures["xavier/bound"] = float(jnp.abs(nn.xavier_uniform()(key, (784, 256))).max())
    print(f"Xavier, 784 x 256: standard deviation {figures['xavier/std']:.7f} ({math.sqrt(ratio):.7f}),")
    print(f"                   largest uniform number {figures['xavier/bound']:.7f} ({math.sqrt(3 * ratio):.7f})")
    return measured


def growth_of_products(size: int = 4) -> float:
    """What a factor multiplies the norm of a long product by: `exp((ln 2 + digamma(size / 2)) / 2)` (Newman, 1986)."""
    return math.exp((math.log(2) + float(jax.scipy.special.digamma(size / 2))) / 2)


def products_of_matrices(config: Config, figures: dict[str, float], size: int = 4) -> np.ndarray:
    """Norms of the products of 1, 2, ... matrices `[size, size]` of standard normal numbers: `[num_seeds, factors]`."""

    def norms(key: jax.Array) -> jax.Array:
        def multiply(product: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
            product = product @ matrix
            return product, jnp.linalg.norm(product)

        return jax.lax.scan(multiply, jnp.eye(size), jax.random.normal(key, (config.num_matrices, size, size)))[1]

    products = np.asarray(jax.jit(jax.vmap(norms))(jax.random.split(jax.random.key(config.seed), config.num_seeds)))
    growth = np.exp(np.log(products[:, -1] / products[:, 0]).mean() / (config.num_matrices - 1))
    figures |= {"products/norm": float(np.median(products[:, -1])), "products/growth": float(growth)}
    print(f"Products of {config.num_matrices} Gaussian {size} x {size} matrices:")
    print(
        f"  norm {figures['products/norm']:.1e} (median), growth {growth:.3f} a factor ({growth_of_products(size):.3f})"
    )
    return products


def descend(kernel_init: jax.nn.initializers.Initializer, activation: Any, config: Config) -> tuple[Any, jax.Array]:
    """Fits x_1^2 - x_2 with four hidden units by gradient descent.

    Returns:
      The parameters before each step, with a leading axis, and the losses, `[steps]`.
    """
    data_key, init_key = jax.random.split(jax.random.key(config.seed))
    x = jax.random.normal(data_key, (128, 2))
    y = x[:, :1] ** 2 - x[:, 1:]
    model = nn.MLP([4, 1], activation=activation, kernel_init=kernel_init)

    def mean_square(params: Any) -> jax.Array:
        outputs: Any = model.apply({"params": params}, x)
        return ((outputs - y) ** 2).mean()

    def step(params: Any, _: None) -> tuple[Any, tuple[Any, jax.Array]]:
        loss, gradients = jax.value_and_grad(mean_square)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), (params, loss)

    params = model.init(init_key, x)["params"]
    return jax.jit(lambda params: jax.lax.scan(step, params, length=config.steps))(params)[1]


def equal_units(config: Config, figures: dict[str, float]) -> dict[str, np.ndarray]:
    """The weights of four hidden units during training, `[steps, 2, 4]`, by how they start."""
    starts = {"all 0": 0.0, "all 0.5": 0.5}
    initializers = {name: jax.nn.initializers.constant(value) for name, value in starts.items()}
    kernels = {}
    print(f"Four hidden units after {config.steps} steps, by their start:")
    for name, initializer in (initializers | {"Xavier": nn.xavier_normal()}).items():
        params, losses = descend(initializer, jnp.tanh, config)
        kernels[name] = np.asarray(params["Dense_0"]["kernel"])
        difference = float(np.ptp(kernels[name][-1], axis=1).max())
        figures |= {f"{name}/difference": difference, f"{name}/loss": float(losses[-1])}
        print(f"  {name:<8} largest difference between two units {difference:.3f}, loss {losses[-1]:.3f}")
    return kernels


def draw(
    config: Config,
    moments: dict[tuple[str, str], np.ndarray],
    products: np.ndarray,
    kernels: dict[str, np.ndarray],
    path: Path,
) -> None:
    """Four panels: signals, gradients, products of matrices, units that start equal."""
    picture = plotting.figure(11, 8)
    (signals, gradients), (growth, units) = picture.subplots(2, 2)
    layers, factors = np.arange(1, config.depth + 1), np.arange(1, config.num_matrices + 1)

    series = {name: moments["ReLU", name][:, 0].mean(0) for name in INITIALIZERS}
    plotting.lines(layers, series, xlabel="layer", ylabel="mean square of the signal", yscale="log", axes=signals)
    series = {name: moments[name, "Xavier"][:, 1].mean(0) for name in ACTIVATIONS}
    plotting.lines(layers, series, xlabel="layer", ylabel="mean square of the gradient", yscale="log", axes=gradients)
    series = {"theory": growth_of_products() ** factors}
    plotting.lines(factors, series, xlabel="factors", ylabel="norm", yscale="log", axes=growth)
    growth.plot(factors, products.T, "C7", linewidth=0.7, zorder=1)
    for name in INITIALIZERS:
        signals.plot(layers, theory("ReLU", name, config)[0], "k:")
    for name in ACTIVATIONS:
        gradients.plot(layers, theory(name, "Xavier", config)[1], "k:")
    for axes in (signals, gradients):
        axes.lines[-1].set_label("theory")
        axes.legend()
    for (name, kernel), color, width in zip(kernels.items(), ("C0", "C1", "C2"), (3, 3, 1), strict=True):
        lines = units.plot(kernel[:, 0], color, linewidth=width)  # the weights of the first input
        lines[0].set_label(name)
    units.set(xlabel="step", ylabel="a weight of each of four hidden units")
    units.legend(title="start")
    units.grid(alpha=0.3)

    signals.set_title("ReLU: only Kaiming's weights keep the signal")
    gradients.set_title("Xavier: the gradient on its way back")
    growth.set_title("Products of Gaussian 4 x 4 matrices explode")
    units.set_title("Units that start equal stay equal")
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Measures, prints, draws, and returns the figures."""
    path = config.plot or experiment.run_folder("ch05_initialization") / "initialization.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    with jax.enable_x64(True):  # 50 layers of N(0, 0.01^2) shrink a signal below the smallest float32
        moments = signals_and_gradients(config, figures)
        products = products_of_matrices(config, figures)
        draw(config, moments, products, equal_units(config, figures), path)
    print(f"picture: {path}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
