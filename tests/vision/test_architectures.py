"""What holds for every architecture: dtypes, fields that reach every layer, state, errors."""

from functools import partial

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reduced_models import REDUCED

from jaxdl.vision.alexnet import AlexNet
from jaxdl.vision.nin import NiN
from jaxdl.vision.vgg import VGG

NORMALISED = [name for name, model in REDUCED.items() if hasattr(model, "axis_name")]
IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)

every_architecture = pytest.mark.parametrize("name", REDUCED)


def layers(model):
    """The convolutions, dense layers and normalisations of a model, by kind."""
    found = {"Conv": [], "Dense": [], "BatchNorm": []}

    def record(next_call, args, kwargs, context):
        found.get(type(context.module).__name__, []).append(context.module)
        return next_call(*args, **kwargs)

    with flax.linen.intercept_methods(record):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    return found


def random_variables(model, images):
    """As `model.init` makes them, without its compilation."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if path[-1].key == "kernel":
            return rng.normal(scale=np.sqrt(2 / np.prod(shape.shape[:-1])), size=shape.shape).astype(np.float32)
        return np.full(shape.shape, path[-1].key in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(model.init, jax.random.key(0), images))


@every_architecture
def test_half_precision_computes_in_half_and_keeps_parameters_and_statistics_in_float32(name):
    model = REDUCED[name].clone(dtype=jnp.bfloat16)

    def run(key, images):
        variables = model.init(key, images)
        logits, state = model.apply(
            variables, images, train=True, mutable=True, capture_intermediates=True, rngs={"dropout": key}
        )
        return logits, state.pop("intermediates"), variables, state

    logits, outputs, variables, state = jax.eval_shape(run, jax.random.key(0), IMAGES)
    assert (logits.shape, logits.dtype) == ((2, model.num_classes), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, state))} == {jnp.dtype("float32")}


@every_architecture
def test_the_initialiser_reaches_every_kernel(name):
    def kernel_init(key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    found = layers(REDUCED[name].clone(kernel_init=kernel_init))
    assert len(found["Conv"]) >= 2
    assert all(layer.kernel_init is kernel_init for layer in found["Conv"] + found["Dense"])


@pytest.mark.parametrize("name", NORMALISED)
def test_the_axis_reaches_every_normalisation(name):
    norms = layers(REDUCED[name].clone(axis_name="data"))["BatchNorm"]
    assert len(norms) >= 2
    assert {norm.axis_name for norm in norms} == {"data"}


@pytest.mark.parametrize("name", [name for name in NORMALISED if hasattr(REDUCED[name], "use_bias")])
@pytest.mark.parametrize("use_bias", [True, False])
def test_convolutions_have_biases_if_asked(name, use_bias):
    convolutions = layers(REDUCED[name].clone(use_bias=use_bias))["Conv"]
    assert {layer.use_bias for layer in convolutions} == {use_bias}


@every_architecture
def test_training_touches_everything_and_evaluation_nothing(name):
    """Each parameter has a gradient; but a bias before a normalisation has none, whatever the images."""
    model, images = REDUCED[name], jax.random.normal(jax.random.key(1), (4, 32, 32, 1))

    def loss(params, state, train):
        logits, state = model.apply(
            {"params": params, **state},
            images,
            train=train,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )
        return (logits * jnp.linspace(-1, 1, model.num_classes).reshape(1, -1)).sum(), state

    @jax.jit
    def run(params, state):
        gradients, trained = jax.grad(loss, has_aux=True)(params, state, train=True)
        return gradients, trained, loss(params, state, train=False)[1]

    state = random_variables(model, images)
    gradients, trained, evaluated = run(state.pop("params"), state)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        names = [entry.key for entry in path]
        if not (names[-1] == "bias" and names[-2].startswith(("Conv", "Dense")) and name in NORMALISED):
            assert jnp.abs(gradient).max() > 0, names
    assert ("batch_stats" in state) == (name in NORMALISED)
    for new, moved in ((trained, True), (evaluated, False)):
        pairs = zip(*map(jax.tree.leaves, (state, new)), strict=True)
        assert all(bool((a == b).all()) != moved for a, b in pairs)


@pytest.mark.parametrize(
    "model",
    [
        AlexNet(widths=(8, 8, 8, 8, 8), dense_widths=(32, 32), stem_strides=1),
        VGG(blocks=((1, 8),), dense_widths=(32,)),
        NiN(widths=(8, 8, 16), stem_strides=1),
    ],
    ids=lambda model: type(model).__name__,
)
def test_dropout_is_random_in_training_only(model):
    images = jax.random.normal(jax.random.key(1), (4, 25, 25, 1))
    variables = random_variables(model, images)

    @partial(jax.jit, static_argnames="train")
    def apply(key, train):
        _, state = model.apply(variables, images, train=train, rngs={"dropout": key}, capture_intermediates=True)
        (outputs, *_) = state["intermediates"]["Dropout_0"]["__call__"]
        return outputs

    first, again, other = (apply(jax.random.key(seed), train=True) for seed in (0, 0, 1))
    evaluated = apply(jax.random.key(0), train=False)
    assert (first == again).all()
    assert (first != other).any()
    assert (evaluated != first).any()
    with pytest.raises(flax.errors.InvalidRngError):
        jax.eval_shape(partial(model.apply, train=True), variables, images)
    jax.eval_shape(partial(model.apply, train=False), variables, images)
    with pytest.raises(ValueError, match=r"dropout: expected a number in \[0, 1\], got 1.5"):
        model.clone(dropout=1.5)


@every_architecture
def test_no_images_no_logits(name):
    logits, _ = jax.eval_shape(REDUCED[name].init_with_output, jax.random.key(0), jnp.zeros((0, 32, 32, 3)))
    assert logits.shape == (0, REDUCED[name].num_classes)


@every_architecture
def test_bad_input_is_named(name):
    with pytest.raises(ValueError, match="num_classes: expected at least 1, got 0"):
        REDUCED[name].clone(num_classes=0)
    for shape in ((32, 32, 1), (1, 0, 32, 1)):
        with pytest.raises(ValueError, match=r"images: expected .* got \["):
            jax.eval_shape(REDUCED[name].init, jax.random.key(0), jnp.zeros(shape))
