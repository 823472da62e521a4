"""Residual networks: shapes and counts (D2L 8.6, 13.6), the formula, synchronised statistics, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn
from jaxdl.data import DeviceData, load
from jaxdl.training import (
    all_reduce,
    evaluate,
    init_state,
    jit_step,
    make_step,
    sum_gradients,
    supervised,
)
from jaxdl.vision.resnet import ResidualBlock, ResNet, resnet18, resnet34


def count(model, *image_shape):
    return nn.parameter_count(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image_shape))))


def test_parameter_counts():
    assert count(resnet18(), 96, 96, 1) == 11_178_378  # the book's
    assert count(resnet18(stem="small"), 32, 32, 3) == 11_176_970  # the book's in 13.6
    assert count(resnet18(1000, use_bias=False), 224, 224, 3) == 11_689_512  # torchvision's
    assert count(resnet34(1000, use_bias=False), 224, 224, 3) == 21_797_672


@pytest.mark.parametrize(
    ("stem", "pixels", "sides"), [("imagenet", 96, [24, 24, 12, 6, 3]), ("small", 32, [32, 32, 16, 8, 4])]
)
def test_stage_shapes_are_the_books(stem, pixels, sides):
    layers = nn.layer_shapes(resnet18(stem=stem), (1, pixels, pixels, 3))
    blocks = [layer for layer in layers if layer.kind == "ResidualBlock"]
    assert blocks[0].input_shape == (1, sides[0], sides[0], 64)  # what the stem gives
    stages = [(1, side, side, width) for side, width in zip(sides[1:], (64, 128, 256, 512), strict=True)]
    assert [block.output_shape for block in blocks] == [stage for stage in stages for _ in range(2)]
    assert layers[-1].output_shape == (1, 10)


def test_block_shapes():
    for strides, features, want in ((1, 3, (4, 6, 6, 3)), (2, 6, (4, 3, 3, 6))):
        block = ResidualBlock(features, strides)
        out, variables = jax.eval_shape(block.init_with_output, jax.random.key(0), jnp.zeros((4, 6, 6, 3)))
        assert out.shape == want
        assert ("Conv_2" in variables["params"]) == (strides == 2)
    variables = jax.eval_shape(ResidualBlock(3, 2).init, jax.random.key(0), jnp.zeros((4, 1, 1, 3)))
    assert "Conv_2" in variables["params"]  # by its strides, whatever the images


def random_variables(model, images, seed=0):
    """Every parameter and statistic away from its initial value."""
    variables = model.init(jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape, scale=0.5)), variables)
    positive = jax.tree_util.tree_map_with_path(
        lambda path, v: v**2 + 0.5 if path[-1].key == "var" else v, variables["batch_stats"]
    )
    return {**variables, "batch_stats": positive}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("stem", "use_bias"), [("imagenet", True), ("small", False)])
def test_it_is_the_formula(x64, stem, use_bias, train):
    """Against convolution, pooling and normalisation written over windows in NumPy."""
    model = ResNet(3, stage_sizes=(2, 1), widths=(4, 5), stem=stem, use_bias=use_bias)
    images = jax.random.normal(jax.random.key(1), (3, 11, 12, 2))
    variables = random_variables(model, images)

    def windows(x, size, stride, pad, fill=0.0):
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
        return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]

    def conv(x, layer, stride=1):
        size = layer["kernel"].shape[0]
        y = np.einsum("bhwcij,ijco->bhwo", windows(x, size, stride, size // 2), layer["kernel"])
        assert ("bias" in layer) == use_bias
        return y + layer.get("bias", 0.0)

    def norm(x, params, stats):
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (stats["mean"], stats["var"])
        return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]

    def block(x, params, stats, stride):
        y = np.maximum(norm(conv(x, params["Conv_0"], stride), params["BatchNorm_0"], stats["BatchNorm_0"]), 0)
        y = norm(conv(y, params["Conv_1"]), params["BatchNorm_1"], stats["BatchNorm_1"])
        if "Conv_2" in params:
            x = conv(x, params["Conv_2"], stride)
            if not use_bias:
                x = norm(x, params["BatchNorm_2"], stats["BatchNorm_2"])
        return np.maximum(x + y, 0)

    params, stats = (jax.tree.map(np.asarray, variables[name]) for name in ("params", "batch_stats"))
    x = conv(np.asarray(images), params["Conv_0"], 2 if stem == "imagenet" else 1)
    x = np.maximum(norm(x, params["BatchNorm_0"], stats["BatchNorm_0"]), 0)
    if stem == "imagenet":
        x = windows(x, 3, 2, 1, fill=-np.inf).max((-1, -2))
    for i, stride in enumerate((1, 1, 2)):
        x = block(x, params[f"ResidualBlock_{i}"], stats[f"ResidualBlock_{i}"], stride)
    want = x.mean((1, 2)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    got, _ = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"]))(variables, images)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


TINY = {"stage_sizes": (1, 1), "widths": (8, 16), "stem": "small", "use_bias": False}


def classification(model):
    return supervised(
        model,
        "image",
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["label"]),
        scores={"accuracy": lambda logits, batch: nn.accuracy(logits, batch["label"])},
    )


def test_synchronised_over_eight_devices_a_step_is_that_of_the_whole_batch(x64):
    optimizer = optax.sgd(0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    batch = {"image": jnp.asarray(rng.normal(size=(16, 4, 4, 1))), "label": jnp.asarray(rng.integers(0, 10, 16))}
    batch["image"] *= jnp.arange(1.0, 17)[:, None, None, None]  # devices differ

    def one_step(axis_name, wrap):
        model = ResNet(**TINY, axis_name=axis_name)
        loss_fn, _ = classification(model)
        variables = random_variables(model, batch["image"][:1])
        state = init_state(lambda key: variables, optimizer, jax.random.key(0))
        step = make_step(wrap(sum_gradients(loss_fn)), optimizer)
        if axis_name is None:
            return jax.jit(step)(state, batch)
        per_device = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
        return jax.pmap(step, axis_name=axis_name, in_axes=(None, 0), out_axes=None)(state, per_device)

    want, want_metrics = one_step(None, lambda grad_fn: grad_fn)
    got, metrics = one_step("data", lambda grad_fn: all_reduce(grad_fn, "data"))
    assert float(metrics["loss"].total) == pytest.approx(float(want_metrics["loss"].total), rel=1e-12)
    for a, b in zip(*(jax.tree.leaves(s._replace(key=0)) for s in (got, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_training_moves_the_statistics_and_evaluation_does_not():
    model, images = ResNet(**TINY), jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    for train in (True, False):
        _, state = model.apply(variables, images, train=train, mutable=["batch_stats"])
        pairs = zip(*map(jax.tree.leaves, (variables["batch_stats"], state["batch_stats"])), strict=True)
        assert {bool((old == new).all()) for old, new in pairs} == {not train}


def held_out_accuracy(shuffle):
    train, test = load("digits", "train[:768]"), load("digits", "test")
    if shuffle:
        train["label"] = np.random.default_rng(0).permutation(train["label"])
    model, optimizer = ResNet(**TINY), optax.adam(5e-3)
    loss_fn, eval_fn = classification(model)
    step = jit_step(make_step(sum_gradients(loss_fn), optimizer))
    state = init_state(lambda key: model.init(key, train["image"][:1]), optimizer, jax.random.key(0))
    state, data = step.place_state(state), DeviceData(train, 64, train=True)
    for epoch in range(6):
        for batch in data.batches(epoch):
            state, _ = step(state, batch)
    return evaluate(eval_fn, state, DeviceData(test, 360, train=False))["accuracy"]


def test_it_learns_and_shuffled_labels_teach_nothing():
    assert held_out_accuracy(shuffle=False) > 0.85
    assert held_out_accuracy(shuffle=True) < 0.3


def test_half_precision_computes_in_half_and_keeps_parameters_and_statistics_in_float32():
    model = ResNet(**TINY, dtype=jnp.bfloat16)

    def run(key, x):
        variables = model.init(key, x)
        logits, state = model.apply(variables, x, train=True, mutable=True, capture_intermediates=True)
        return logits, state.pop("intermediates"), variables, state

    logits, layers, variables, state = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
    assert logits.shape == (2, 10)
    assert {leaf.dtype for leaf in jax.tree.leaves(layers)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, state))} == {jnp.dtype("float32")}


def test_kernels_start_as_asked():
    init = jax.nn.initializers.normal(0.01)
    params = ResNet(**TINY, kernel_init=init).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    kernels = [v for path, v in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"]
    assert len(kernels) == 7
    assert all(0.005 < float(kernel.std()) < 0.015 for kernel in kernels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 0}, "num_classes: expected at least 1, got 0"),
        ({"stage_sizes": ()}, r"stage_sizes: expected one or more numbers of at least 1, got \[\]"),
        ({"widths": (64, 0, 1, 1)}, r"widths: expected one or more numbers of at least 1, got \[64, 0, 1, 1\]"),
        ({"widths": (64, 128)}, "widths: expected one for each of 4 stages, got 2"),
        ({"stem": "cifar"}, "stem: expected 'imagenet' or 'small', got 'cifar'"),
    ],
)
def test_bad_fields_fail_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**fields)


def test_bad_blocks_fail_at_construction():
    for fields in ({"features": 0}, {"features": 4, "strides": 0}):
        with pytest.raises(ValueError, match=f"{[*fields][-1]}: expected at least 1, got 0"):
            ResidualBlock(**fields)


def test_images_without_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"x: expected \[batch, height, width, channels\], got \[8, 8, 1\]"):
        ResidualBlock(4).init(jax.random.key(0), jnp.zeros((8, 8, 1)))
    with pytest.raises(ValueError, match=r"images: expected \[batch, height, width, channels\], got \[8, 8, 1\]"):
        ResNet().init(jax.random.key(0), jnp.zeros((8, 8, 1)))
