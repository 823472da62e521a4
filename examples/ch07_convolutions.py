"""Convolutions (D2L 7.1 to 7.5): edges, a kernel that is learned, padding and strides, channels, pooling, fields.

    python examples/ch07_convolutions.py
    python examples/ch07_convolutions.py --strategy shard --precision bfloat16 --accumulate 2

On two cores of an AMD EPYC it takes 18 s of processor time, most of it to compile. It prints and draws that

- the kernel [1, -1] finds the vertical edges of a bar, and gradient descent finds that kernel: after ten steps from
  zeros it is [0.98847, -0.98847]; the training that the flags are for finds Sobel's kernel from digits and their edges;
- without padding a corner pixel is seen by one output of a 3 x 3 convolution, a central one by nine;
- a shift by a pixel changes the edges of a digit by 48 %, max-pooled over 4 x 4 by 25 %;
- a unit of VGG-11's last convolution can see 134 x 134 pixels, and three quarters of its squared gradient lie in the
  middle quarter of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import experiment, nn, plotting, training
from jaxdl.data import DeviceData, load, resize
from jaxdl.vision import LeNet, Window, receptive_field, vgg11_small

EDGE: Any = np.array([[1, -1]], np.float32)
KERNELS: dict[str, Any] = {
    "blur": np.full((3, 3), 1 / 9, np.float32),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32),
    "vertical edges": np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32),  # Sobel's
    "horizontal edges": np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], np.float32),
    "outline": np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32),
}

# Kernel, padding and strides of height and width, on 8 x 8 pixels (D2L 7.3).
CASES = {
    "kernel 3 x 3": ((3, 3), (0, 0), (1, 1)),
    "kernel 3 x 3, padding 1": ((3, 3), (1, 1), (1, 1)),
    "kernel 5 x 3, padding 2 x 1": ((5, 3), (2, 1), (1, 1)),
    "kernel 3 x 3, padding 1, strides 2": ((3, 3), (1, 1), (2, 2)),
    "kernel 3 x 5, padding 0 x 1, strides 3 x 4": ((3, 5), (0, 1), (3, 4)),
}

# The windows of each layer, from the input to the last convolution or pooling: size, stride, padding.
CONV_3X3, POOL_2X2 = Window(3, 1, 1), Window(2, 2)
LAYERS = {
    "LeNet": [Window(5, 1, 2), POOL_2X2, Window(5), POOL_2X2],
    "AlexNet": [Window(11, 4, 1), Window(3, 2), Window(5, 1, 2), Window(3, 2), *[CONV_3X3] * 3, Window(3, 2)],
    "VGG-11": [layer for convolutions in (1, 1, 2, 2, 2) for layer in (*[CONV_3X3] * convolutions, POOL_2X2)],
}


@dataclass(frozen=True)
class Config(experiment.RunConfig):
    """Looks at what convolutions compute, and learns a kernel from images and their edges."""

    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 0.1
    """Of Adam; it falls to zero along a cosine."""
    digit: int = 23
    """Which of the images of the evaluation is filtered and drawn."""
    folder: Path | None = None
    """Where the pictures go; default: a new run's folder."""


def parameters_of_layers(figures: dict[str, float]) -> None:
    """7.1: from dense layers to convolutions, counted without making them."""
    delta = 10

    def count(layer: flax.linen.Module, *input_shape: int) -> int:
        shape = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        return nn.parameter_count(jax.eval_shape(layer.init, jax.random.key(0), shape))

    conv = partial(flax.linen.Conv, 1, use_bias=False)
    figures["parameters/dense"] = count(flax.linen.Dense(1000 * 1000, use_bias=False), 1000 * 1000)
    figures["parameters/translation"] = count(conv((2000, 2000)), 1000, 1000, 1)
    figures["parameters/locality"] = count(conv((2 * delta, 2 * delta)), 1000, 1000, 1)
    print("7.1  Weights from 1000 x 1000 pixels to 1000 x 1000 hidden units")
    print(f"  dense                                 {figures['parameters/dense']:>20,}")
    print(f"  the same everywhere (a convolution)   {figures['parameters/translation']:>20,}")
    print(f"  nothing farther than {delta} pixels        {figures['parameters/locality']:>20,}\n")


def edge_image() -> jax.Array:
    """6 x 8 pixels, white with a black bar."""
    return jnp.ones((6, 8)).at[:, 2:6].set(0)


def edges(image: jax.Array, folder: Path, figures: dict[str, float]) -> None:
    """7.2: a kernel that finds vertical edges, and classic kernels on a digit."""
    bar = edge_image()
    found, transposed = nn.corr2d(bar, EDGE), nn.corr2d(bar.T, EDGE)
    print("7.2  Kernel [1, -1] on a bar: 1 from white to black, -1 back. Each row:", *found[0].astype(int))
    print(f"     On the bar transposed, whose edges are horizontal: at most {float(abs(transposed).max()):g}\n")
    figures["edges/found"] = float(abs(found).sum())
    figures["edges/transposed"] = float(abs(transposed).max())

    panels: dict[str, Any] = {"bar": bar, "[1, -1]": found, "bar transposed": bar.T, "[1, -1] ": transposed}
    panels |= {"digit": image} | {name: nn.corr2d(image, kernel) for name, kernel in KERNELS.items()}
    draw_images(panels, folder / "edges.png", "Images and what kernels make of them", columns=5)


def draw_images(panels: Mapping[str, Any], path: Path, title: str, columns: int) -> None:
    """Images of different sizes, from black for 0 to white; where a kernel made pixels negative, 0 is grey."""
    rows = -(-len(panels) // columns)
    picture = plotting.figure(2.0 * columns, 2.2 * rows + 0.3)
    picture.suptitle(title)
    grid = picture.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, panel) in zip(grid, panels.items(), strict=True):
        largest, signed = float(abs(panel).max()) or 1.0, panel.min() < 0 or panel.max() == 0
        axes.imshow(panel, cmap="gray", vmin=-largest if signed else 0, vmax=largest)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=9)
    picture.savefig(path, dpi=120)


def learn_kernel(steps: int = 10, learning_rate: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """7.2: finds the kernel [1, -1] from an image and its edges, by gradient descent from zeros.

    Returns:
      The kernel before each step and after the last, `[steps + 1, 2]`, and the summed squared errors, `[steps + 1]`.
    """
    image = edge_image()
    target = nn.corr2d(image, EDGE)

    @jax.jit
    @jax.value_and_grad
    def squared_error(kernel: jax.Array) -> jax.Array:
        return ((nn.corr2d(image, kernel) - target) ** 2).sum()

    kernel, kernels, losses = jnp.zeros((1, 2)), [], []
    for _ in range(steps + 1):
        loss, gradient = squared_error(kernel)
        kernels.append(kernel[0])
        losses.append(loss)
        kernel = kernel - learning_rate * gradient
    return np.array(kernels), np.array(losses)


def learning(folder: Path, figures: dict[str, float]) -> None:
    """7.2: prints and draws how the kernel is learned."""
    kernels, losses = learn_kernel()
    print("7.2  The kernel learned from the bar and its edges\n  step   kernel               squared error")
    for step in (0, 1, 2, 9, 10):
        print(f"  {step:>4}   [{kernels[step, 0]:.5f}, {kernels[step, 1]:8.5f}]  {losses[step]:.5f}")
    print()
    figures |= {"learned/left": float(kernels[-1, 0]), "learned/right": float(kernels[-1, 1])}
    figures["learned/loss"] = float(losses[-1])
    picture, steps = plotting.figure(9, 3.4), np.arange(len(losses))
    left, right = picture.subplots(1, 2)
    series = {"left weight": kernels[:, 0], "right weight": kernels[:, 1]}
    plotting.lines(steps, series, xlabel="step", title="A kernel on its way to [1, -1]", axes=left)
    plotting.lines(
        steps, {"": losses}, xlabel="step", ylabel="summed squared error", yscale="log", title="Its error", axes=right
    )
    picture.savefig(folder / "learning.png", dpi=120)


def with_edges(images: np.ndarray) -> dict[str, np.ndarray]:
    """Images `[examples, height, width, 1]`, and their vertical edges, two pixels less each way."""
    if images.shape[-1] != 1:
        raise ValueError(f"data: expected images of one channel, got {list(images.shape)}")
    edges = nn.convolution(jnp.asarray(images), KERNELS["vertical edges"][..., None, None], padding="VALID")
    return {"image": images, "edges": np.asarray(edges)}


class OneKernel(flax.linen.Module):
    """A 3 x 3 kernel, as a model that `training.supervised` can train."""

    dtype: Any

    @flax.linen.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, 1]` to two pixels less each way."""
        return nn.Conv(1, (3, 3), padding="VALID", use_bias=False, dtype=self.dtype, name="conv")(images)


def learning_from_images(config: Config, folder: Path, figures: dict[str, float]) -> None:
    """7.2 as a training: a 3 x 3 convolution learns from images and their edges which kernel made them."""
    train_arrays, eval_arrays = (
        with_edges(load(config.data, split)["image"]) for split in (config.train_split, config.eval_split)
    )
    train_data = DeviceData(train_arrays, config.batch_size, train=True, seed=config.seed)
    eval_data = DeviceData(eval_arrays, 256, train=False)
    model = OneKernel(experiment.compute_dtype(config))
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.epochs * len(train_data)))
    loss_fn, eval_fn = training.supervised(
        model, "image", loss=lambda y, batch: jnp.square(y - batch["edges"]).mean((1, 2, 3)), scores={}
    )
    step = experiment.compile_step(experiment.make_step(loss_fn, optimizer, config), config)
    state = experiment.init_state(lambda key: model.init(key, train_arrays["image"][:1]), optimizer, config)
    print(f"7.2  Sobel's kernel learned from {len(train_arrays['image']):,} images and their edges")
    state, history = experiment.run(
        "ch07_convolutions", config, step, state, train_data, eval_fn=eval_fn, eval_data=eval_data, folder=folder
    )
    kernel = jnp.asarray(jax.device_get(state.params["conv"]["kernel"])[..., 0, 0])
    print("     " + np.array2string(np.asarray(kernel), precision=3, suppress_small=True, prefix="     ") + "\n")
    figures |= {"learned/eval_loss": history.rows[-1]["eval_loss"]}
    figures["learned/sobel"] = float(abs(kernel - KERNELS["vertical edges"]).max())

    image = jnp.asarray(eval_arrays["image"][config.digit, ..., 0])
    panels = {"image": image, "its edges": eval_arrays["edges"][config.digit, ..., 0]}
    panels |= {"edges by the learned kernel": nn.corr2d(image, kernel), "the learned kernel": kernel}
    draw_images(panels, folder / "learned_kernel.png", "A kernel learned from images and their edges", columns=4)


def output_size(n: int, kernel: int, padding: int, stride: int) -> int:
    """Pixels that a convolution leaves of n, with `padding` on both sides (D2L 7.3)."""
    return (n - kernel + 2 * padding + stride) // stride


def padding_and_strides(folder: Path, figures: dict[str, float]) -> None:
    """7.3: how large the output is, and how many outputs see each pixel (the gradient of their sum)."""
    picture = plotting.figure(2.6 * len(CASES), 3.2)
    picture.suptitle("How many outputs see each of 8 x 8 pixels")
    print("7.3  8 x 8 pixels become")
    for axes, (name, (size, padding, strides)) in zip(picture.subplots(1, len(CASES)), CASES.items(), strict=True):
        kernel, image = jnp.ones((*size, 1, 1)), jnp.ones((1, 8, 8, 1))
        output, pull_back = jax.vjp(partial(nn.conv2d_matmul, kernel=kernel, strides=strides, padding=padding), image)
        seen = np.asarray(pull_back(jnp.ones_like(output))[0][0, ..., 0])  # [8, 8]
        height, width = map(output_size, (8, 8), size, padding, strides)
        print(f"  {height} x {width}   {name}")
        figures |= {f"{name}/height": output.shape[1], f"{name}/width": output.shape[2]}
        figures |= {f"{name}/corner": float(seen[0, 0]), f"{name}/centre": float(seen[3, 3])}
        axes.imshow(seen, cmap="gray", vmin=0, vmax=15)
        for (row, column), count in np.ndenumerate(seen):
            color = "black" if count > 7 else "white"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, color=color)
        axes.set_title(name.replace(", ", "\n"), fontsize=9)
        axes.axis("off")
    print("     Without padding the corner is seen once, the centre 9 times; strides can leave pixels unseen\n")
    picture.savefig(folder / "padding.png", dpi=120)


def channels(figures: dict[str, float]) -> None:
    """7.4: sums over input channels, one kernel for each output channel, and the 1 x 1 convolution."""
    square, kernel = np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2)
    image = np.stack([square, square + 1], axis=-1)[None]  # [1, 3, 3, 2]
    two_in = np.stack([kernel, kernel + 1], axis=-1)  # [2, 2, in]
    three_out = np.stack([two_in, two_in + 1, two_in + 2], axis=-1)  # [2, 2, in, out]
    output = nn.conv2d_naive(image, three_out)[0]  # [2, 2, 3]
    print("7.4  Two input channels, three output channels:", *(output[..., i].astype(int).tolist() for i in range(3)))

    rng = np.random.default_rng(0)
    pixels, weights = rng.random((1, 3, 3, 3)), rng.random((3, 2))
    difference = float(abs(nn.conv2d_naive(pixels, weights[None, None]) - pixels @ weights).max())
    print(f"     A 1 x 1 convolution is a matrix product over channels: they differ by {difference:.0e}")

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 256, 256, 128), (5, 5, 128, 128))]
    flops = training.count_flops(partial(nn.conv2d_im2col, padding=2), *shapes)
    print(f"     5 x 5, 128 to 128 channels, 256 x 256 pixels: {flops:,} multiplications and additions\n")
    figures |= {f"channels/{i}": float(output[..., i].sum()) for i in range(3)}
    figures |= {"channels/one_by_one": difference, "channels/flops": flops}


def pooling(image: jax.Array, folder: Path, figures: dict[str, float]) -> None:
    """7.5: the maximum and the mean of windows, and what a shift by one pixel changes."""
    x = jnp.arange(16.0).reshape(4, 4, 1)
    rows = {
        "max 2 x 2 of 3 x 3": nn.max_pool(jnp.arange(9.0).reshape(3, 3, 1), (2, 2)),
        "mean 2 x 2 of 3 x 3": nn.avg_pool(jnp.arange(9.0).reshape(3, 3, 1), (2, 2)),
        "max 3 x 3 of 4 x 4, strides 3": nn.max_pool(x, (3, 3), (3, 3)),
        "max 3 x 3, padding 1, strides 2": nn.max_pool(x, (3, 3), (2, 2), 1),
        "max 2 x 3, padding 0 x 1, strides 2 x 3": nn.max_pool(x, (2, 3), (2, 3), (0, 1)),
    }
    print("7.5  Pooling 0, 1, 2, ...")
    for name, pooled in rows.items():
        print(f"  {name:<42}{pooled[..., 0].astype(int).tolist()}")
        figures[f"pooling/{name}"] = float(pooled.sum())

    kernel = KERNELS["vertical edges"]
    found, shifted = (abs(nn.corr2d(x, kernel))[..., None] for x in (image, jnp.roll(image, 1, axis=1)))
    for size in (1, 2, 4):
        a, b = (nn.max_pool(x, (size, size)) for x in (found, shifted))
        figures[f"pooling/shift/{size}"] = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(a))
    one, two, four = (f"{figures[f'pooling/shift/{size}']:.0%}" for size in (1, 2, 4))
    print(f"     Shifted by a pixel, the digit's edges change by {one}; pooled over 2 x 2 by {two}, 4 x 4 by {four}\n")
    panels = {"vertical edges": found, "max 2 x 2": nn.max_pool(found, (2, 2), (2, 2))}
    panels |= {"max 4 x 4": nn.max_pool(found, (4, 4), (4, 4)), "mean 4 x 4": nn.avg_pool(found, (4, 4), (4, 4))}
    panels = {name: panel[..., 0] for name, panel in panels.items()}
    draw_images(panels, folder / "pooling.png", "Pooling the edges of a digit", columns=4)


def gradient_of_centre(model: flax.linen.Module, layer: str, pixels: int, seed: int) -> tuple[np.ndarray, int]:
    """Which pixels move a layer's central unit: the root mean square of its channels' gradients, at the first weights.

    Returns:
      `[pixels, pixels]`, and the position of the unit along each axis.
    """
    image_key, init_key = jax.random.split(jax.random.key(seed))
    image = jax.random.normal(image_key, (1, pixels, pixels, 1))
    variables = jax.jit(model.init)(init_key, image)

    def output(image: jax.Array) -> jax.Array:
        kept: Any = {"capture_intermediates": lambda module, _: module.name == layer, "mutable": ["intermediates"]}
        state: Any = model.apply(variables, image, **kept)[1]
        return state["intermediates"][layer]["__call__"][0]

    centre = jax.eval_shape(output, image).shape[1] // 2
    gradients = jax.jit(jax.jacrev(lambda image: output(image)[0, centre, centre, :16]))(image)  # [16, 1, h, w, 1]
    return np.sqrt(np.square(np.asarray(gradients)).mean((0, 1, 4))), centre


def receptive_fields(config: Config, folder: Path, figures: dict[str, float]) -> None:
    """How many pixels a unit can see by the windows of the layers, and which ones it listens to by its gradient."""
    print("Receptive fields: pixels along each axis that a unit of the last layer sees")
    picture = plotting.figure(13, 4.2)
    curves, *panels = picture.subplots(1, 3)
    for name, layers in LAYERS.items():
        sizes = [receptive_field(layers[:depth]).size for depth in range(len(layers) + 1)]
        curves.plot(range(len(sizes)), sizes, ".-", label=name)
        print(f"  {name:<10}{sizes[-1]:>4}, in steps of {receptive_field(layers).stride}")
        figures[f"field/{name}"] = sizes[-1]
    curves.set(title="Receptive field", xlabel="convolutions and pooling layers", ylabel="pixels")
    curves.grid(alpha=0.3)
    curves.legend()

    models = {
        "LeNet": (LeNet(pool=nn.avg_pool), "Conv_1", 28),
        "VGG-11": (vgg11_small(dense_widths=(8,)), "Conv_7", 160),
    }
    for axes, (name, (model, layer, pixels)) in zip(panels, models.items(), strict=True):
        gradient, centre = gradient_of_centre(model, layer, pixels, config.seed)
        field = receptive_field(LAYERS[name][:-1])
        first = field.start + centre * field.stride
        inside, middle = slice(first, first + field.size), slice(first + field.size // 4, first + 3 * field.size // 4)
        outside, squared = gradient.copy(), gradient**2
        outside[inside, inside] = 0
        figures[f"field/{name}/outside"] = float(outside.max())
        figures[f"field/{name}/middle"] = share = float(squared[middle, middle].sum() / squared.sum())
        print(f"  {name}'s last convolution: {share:.0%} of the squared gradient is in the middle quarter of the field")
        axes.imshow(gradient, cmap="magma")
        a, b = first - 0.5, first + field.size - 0.5
        axes.plot([a, b, b, a, a], [a, a, b, b, a], "C2")
        axes.set_title(
            f"{name}, last convolution: the field of {field.size} x {field.size}\nand the central unit's gradient"
        )
        axes.axis("off")
    picture.savefig(folder / "receptive_fields.png", dpi=120)


def main(config: Config) -> dict[str, float]:
    """Runs all sections, draws their pictures, and returns the figures."""
    images = load(config.data, config.eval_split)["image"]
    if not 0 <= config.digit < len(images):
        raise ValueError(f"digit: expected a number from 0 to {len(images) - 1}, got {config.digit}")
    folder = config.folder or experiment.run_folder("ch07_convolutions")
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    image = jnp.asarray(resize(images[config.digit : config.digit + 1], (32, 32))[0, ..., 0])
    parameters_of_layers(figures)
    edges(image, folder, figures)
    learning(folder, figures)
    learning_from_images(config, folder, figures)
    padding_and_strides(folder, figures)
    channels(figures)
    pooling(image, folder, figures)
    receptive_fields(config, folder, figures)
    print(f"\npictures: {', '.join(str(path) for path in sorted(folder.glob('*.png')))}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
