"""Where torchvision keeps the weights of the models that it shares with us, for `jaxdl.nn.torch_weights.convert`."""

from flax import linen as nn

from jaxdl.vision.residual_blocks import BottleneckBlock, ResidualBlock
from jaxdl.vision.resnet import ResNet
from jaxdl.vision.vgg import VGG


def torchvision_names(model: nn.Module) -> dict[str, str]:
    """The name in torchvision of each layer of a model.

        state = torch_weights.read("resnet18.safetensors")
        model = resnet18(1000, use_bias=False)
        like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
        variables = torch_weights.convert(state, like, torchvision_names(model))

    Args:
      model: a `ResNet` of residual or bottleneck blocks with `use_bias=False`, or a `VGG`, whose first dense layer also
        needs `flattened={"Dense_0": (7, 7)}` at 224 x 224 pixels.

    Returns:
      Paths of our layers with their names.

    Raises:
      ValueError: if torchvision has no such model.
    """
    if isinstance(model, ResNet) and not model.use_bias and model.block in (ResidualBlock, BottleneckBlock):
        return _resnet_names(model)
    if isinstance(model, VGG):
        return _vgg_names(model)
    raise ValueError(f"model: expected a VGG, or a ResNet without biases and pre-activation, got {model!r}")


def _resnet_names(model: ResNet) -> dict[str, str]:
    names = {"Conv_0": "conv1", "BatchNorm_0": "bn1", "Dense_0": "fc"}
    num_convs = 3 if model.block is BottleneckBlock else 2
    blocks = [f"layer{stage}.{i}" for stage, size in enumerate(model.stage_sizes, start=1) for i in range(size)]
    for block, theirs in enumerate(blocks):
        ours = f"{model.block.__name__}_{block}"
        for i in range(num_convs):
            names |= {f"{ours}/Conv_{i}": f"{theirs}.conv{i + 1}", f"{ours}/BatchNorm_{i}": f"{theirs}.bn{i + 1}"}
        names |= {  # the 1 x 1 convolution along the shortcut, where there is one
            f"{ours}/Conv_{num_convs}": f"{theirs}.downsample.0",
            f"{ours}/BatchNorm_{num_convs}": f"{theirs}.downsample.1",
        }
    return names


def _vgg_names(model: VGG) -> dict[str, str]:
    names, place, conv = {}, 0, 0
    for num_convs, _ in model.blocks:
        for _ in range(num_convs):
            names[f"Conv_{conv}"] = f"features.{place}"
            place, conv = place + 2, conv + 1  # a ReLU follows
        place += 1  # the pooling
    for dense in range(len(model.dense_widths) + 1):
        names[f"Dense_{dense}"] = f"classifier.{3 * dense}"  # ReLU and dropout follow
    return names
