"""Image models, one architecture a file: Linen modules that take NHWC images and return logits.

`num_classes=10` comes first, then the architecture's own fields; call `model.apply(variables, images, train=False)`.
"""

from jaxdl.vision.lenet import LeNet
from jaxdl.vision.resnet import ResidualBlock, ResNet, resnet18, resnet34

__all__ = ["LeNet", "ResNet", "ResidualBlock", "resnet18", "resnet34"]
