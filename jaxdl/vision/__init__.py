"""Image models, one architecture a file: Linen modules that take NHWC images and return logits.

`num_classes=10` comes first, then the architecture's own fields; call `model.apply(variables, images, train=False)`.
"""

from jaxdl.vision.alexnet import AlexNet
from jaxdl.vision.anynet import AnyNet, compatible_widths
from jaxdl.vision.batch_norm_lenet import BatchNormLeNet
from jaxdl.vision.densenet import DenseBlock, DenseNet, TransitionBlock
from jaxdl.vision.design_space import AnyNetSpace, error_edf, multiply_adds, sample_anynet
from jaxdl.vision.googlenet import GoogLeNet, InceptionBlock
from jaxdl.vision.lenet import LeNet
from jaxdl.vision.nin import NiN, NiNBlock
from jaxdl.vision.receptive_field import ReceptiveField, Window, receptive_field
from jaxdl.vision.regnet import RegNetX, quantized_linear_widths, regnetx_32
from jaxdl.vision.residual_blocks import BottleneckBlock, PreActResidualBlock, ResidualBlock
from jaxdl.vision.resnet import ResNet, resnet18, resnet34, resnet50
from jaxdl.vision.resnext import ResNeXt, ResNeXtBlock
from jaxdl.vision.torchvision import torchvision_names
from jaxdl.vision.vgg import VGG, vgg11, vgg11_small, vgg16, vgg19
from jaxdl.vision.vit import ViT

__all__ = [
    "VGG",
    "AlexNet",
    "AnyNet",
    "AnyNetSpace",
    "BatchNormLeNet",
    "BottleneckBlock",
    "DenseBlock",
    "DenseNet",
    "GoogLeNet",
    "InceptionBlock",
    "LeNet",
    "NiN",
    "NiNBlock",
    "PreActResidualBlock",
    "ReceptiveField",
    "RegNetX",
    "ResNeXt",
    "ResNeXtBlock",
    "ResNet",
    "ResidualBlock",
    "TransitionBlock",
    "ViT",
    "Window",
    "compatible_widths",
    "error_edf",
    "multiply_adds",
    "quantized_linear_widths",
    "receptive_field",
    "regnetx_32",
    "resnet18",
    "resnet34",
    "resnet50",
    "sample_anynet",
    "torchvision_names",
    "vgg11",
    "vgg11_small",
    "vgg16",
    "vgg19",
]
