"""Each architecture, small enough for images of 32 pixels and a test."""

from jaxdl.vision.alexnet import AlexNet
from jaxdl.vision.anynet import AnyNet
from jaxdl.vision.batch_norm_lenet import BatchNormLeNet
from jaxdl.vision.densenet import DenseNet
from jaxdl.vision.googlenet import GoogLeNet
from jaxdl.vision.lenet import LeNet
from jaxdl.vision.nin import NiN
from jaxdl.vision.regnet import RegNetX
from jaxdl.vision.residual_blocks import BottleneckBlock, PreActResidualBlock
from jaxdl.vision.resnet import ResNet
from jaxdl.vision.resnext import ResNeXt
from jaxdl.vision.vgg import VGG

INCEPTION = ((8, (8, 16), (4, 8), 8),), ((16, (16, 32), (8, 16), 16),)
REDUCED = {
    "lenet": LeNet(),
    "batch_norm_lenet": BatchNormLeNet(),
    "alexnet": AlexNet(widths=(4, 16, 32, 32, 32), dense_widths=(64, 64), stem_strides=1, dropout=0.1),
    "vgg": VGG(blocks=((1, 8), (1, 16), (2, 32)), dense_widths=(64,), dropout=0.1),
    # Ten channels of one pixel with a ReLU behind each of three layers: too many are dead from the start.
    "nin": NiN(num_classes=64, widths=(16, 32, 32), stem_strides=1, dropout=0.0, relu_logits=False),
    "googlenet": GoogLeNet(stem_widths=(16, 32), stages=INCEPTION),
    "resnet": ResNet(stage_sizes=(1, 1), widths=(8, 16)),
    "resnet_bottleneck": ResNet(stage_sizes=(1, 1), widths=(8, 16), block=BottleneckBlock, use_bias=False),
    "resnet_pre_activation": ResNet(stage_sizes=(1, 1), widths=(8, 16), block=PreActResidualBlock),
    "resnext": ResNeXt(stage_sizes=(1, 1), widths=(32, 64), cardinality=4, stem_width=16),
    "densenet": DenseNet(block_sizes=(2, 2), growth_rate=8, stem_width=16),
    "anynet": AnyNet(stem_width=16, depths=(2, 1), widths=(24, 48), group_widths=(8, 12), bottlenecks=(1, 0.5)),
    "regnetx": RegNetX(depth=3, initial_width=16, slope=8, width_multiplier=2, group_width=16, stem_width=16),
}
