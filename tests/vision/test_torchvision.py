"""Random networks of PyTorch, with torchvision's names, give PyTorch's logits here, to 1e-9 in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn import torch_weights
from jaxdl.vision.densenet import DenseNet
from jaxdl.vision.googlenet import InceptionBlock
from jaxdl.vision.resnet import resnet18, resnet50
from jaxdl.vision.torchvision import torchvision_names
from jaxdl.vision.vgg import VGG

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[bench]'")
import torch_models  # noqa: E402  # beside this file; it imports torch


def logits_of_both(torch_model, model, shape, names, **fields):
    """PyTorch's outputs and ours for the same weights and the same NHWC inputs of `shape`."""
    torch_model = torch_models.randomize(torch_model.double())
    images = np.random.default_rng(0).normal(size=shape)
    with torch.no_grad():
        theirs = torch_model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    state = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images))
    variables = torch_weights.convert(state, like, names, dtype=jnp.float64, **fields)
    ours = jax.jit(model.apply)(variables, jnp.asarray(images))
    return (theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs), ours


@pytest.mark.parametrize(
    ("model", "block", "expansion", "stage_sizes"),
    [
        (resnet18, "BasicBlock", 1, (2, 2, 2, 2)),
        (resnet50, "Bottleneck", 4, (3, 4, 6, 3)),
    ],
    ids=["resnet18", "resnet50"],
)
def test_resnets(x64, model, block, expansion, stage_sizes):
    widths = (16, 24, 32, 40)  # every layer is there, the channels are fewer
    peer = torch_models.ResNet(getattr(torch_models, block), expansion, stage_sizes, widths, 7)
    model = model(7, widths=widths, use_bias=False)
    theirs, ours = logits_of_both(peer, model, (2, 64, 64, 3), torchvision_names(model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_vgg(x64):
    blocks = ((1, 8), (1, 16), (2, 16))
    model = VGG(7, blocks, dense_widths=(32, 32))
    peer = torch_models.VGG(blocks, 3, 32, 32, 7)
    theirs, ours = logits_of_both(peer, model, (2, 32, 32, 3), torchvision_names(model), flattened={"Dense_0": (4, 4)})
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_densenet(x64):
    """The book's, whose layers have numbers in PyTorch."""
    peer = torch_models.densenet(3, 16, 8, (2, 2), 7)
    names = {"Conv_0": "0", "BatchNorm_0": "1", "BatchNorm_1": "9", "Dense_0": "13"}
    for block, places in enumerate(((4, 5), (7, 8))):
        for i, place in enumerate(places):
            names[f"DenseBlock_{block}/BatchNorm_{i}"] = f"{place}.norm"
            names[f"DenseBlock_{block}/Conv_{i}"] = f"{place}.conv"
    names |= {"TransitionBlock_0/BatchNorm_0": "6.0", "TransitionBlock_0/Conv_0": "6.2"}
    model = DenseNet(7, block_sizes=(2, 2), growth_rate=8, stem_width=16)
    theirs, ours = logits_of_both(peer, model, (2, 32, 32, 3), names)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_inception_block(x64):
    widths = (8, (4, 12), (2, 6), 5)
    names = {f"Conv_{i}": name for i, name in enumerate(("b1", "b2_1", "b2_2", "b3_1", "b3_2", "b4_2"))}
    peer = torch_models.Inception(6, *widths)
    theirs, ours = logits_of_both(peer, InceptionBlock(*widths), (2, 7, 9, 6), names)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_other_models_have_no_names():
    with pytest.raises(ValueError, match="model: expected a VGG, or a ResNet without biases"):
        torchvision_names(resnet18())
