"""Convolutional networks in PyTorch as the book has them (D2L 7.6 and chapter 8), trained by plain SGD.

A case's function returns the model, its optimiser, `loss(model, *batch)` and the batches.
"""

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]


def lenet(batch_size, num_batches):
    """LeNet (D2L 7.6)."""
    return training(lenet_model(nn.Sigmoid, nn.AvgPool2d), 28, 0.1, batch_size, num_batches)


def lenet_relu_max(batch_size, num_batches):
    """The same with ReLU and max pooling, the default of `jaxdl.vision.LeNet`."""
    return training(lenet_model(nn.ReLU, nn.MaxPool2d), 28, 0.1, batch_size, num_batches)


def lenet_model(activation, pool):
    """LeNet alone."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), activation(), pool(2)),
        *(nn.Conv2d(6, 16, 5), activation(), pool(2), nn.Flatten()),
        *(nn.Linear(400, 120), activation()),
        *(nn.Linear(120, 84), activation()),
        nn.Linear(84, 10),
    )


def vgg(batch_size, num_batches):
    """VGG-11 with a quarter of the channels, which the book trains (8.2)."""
    layers, channels_in = [], 1
    for convolutions, channels in ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()]
            channels_in = channels
        layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(
        *(*layers, nn.Flatten()),
        *(nn.Linear(128 * 3 * 3, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(4096, 10),
    )
    return modern(model, batch_size, num_batches)


def nin(batch_size, num_batches):
    """Network in network (8.3)."""

    def block(channels_in, channels, size, stride=1, padding=0):
        return (
            *(nn.Conv2d(channels_in, channels, size, stride, padding), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 1), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 1), nn.ReLU()),
        )

    model = nn.Sequential(
        *(*block(1, 96, 11, 4), nn.MaxPool2d(3, 2)),
        *(*block(96, 256, 5, padding=2), nn.MaxPool2d(3, 2)),
        *(*block(256, 384, 3, padding=1), nn.MaxPool2d(3, 2), nn.Dropout(0.5)),
        *(*block(384, 10, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    return modern(model, batch_size, num_batches)


class Inception(nn.Module):
    """Four paths side by side."""

    def __init__(self, channels_in, c1, c2, c3, c4):
        super().__init__()

        def conv(channels_in, channels, size):
            return nn.Sequential(nn.Conv2d(channels_in, channels, size, padding=size // 2), nn.ReLU())

        self.paths = nn.ModuleList(
            [
                conv(channels_in, c1, 1),
                nn.Sequential(conv(channels_in, c2[0], 1), conv(c2[0], c2[1], 3)),
                nn.Sequential(conv(channels_in, c3[0], 1), conv(c3[0], c3[1], 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(channels_in, c4, 1)),
            ]
        )

    def forward(self, x):
        """Concatenates their channels."""
        return torch.cat([path(x) for path in self.paths], 1)


def googlenet(batch_size, num_batches):
    """GoogLeNet (8.4)."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        *(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        Inception(192, 64, (96, 128), (16, 32), 32),
        Inception(256, 128, (128, 192), (32, 96), 64),
        nn.MaxPool2d(3, 2, 1),
        Inception(480, 192, (96, 208), (16, 48), 64),
        Inception(512, 160, (112, 224), (24, 64), 64),
        Inception(512, 128, (128, 256), (24, 64), 64),
        Inception(512, 112, (144, 288), (32, 64), 64),
        Inception(528, 256, (160, 320), (32, 128), 128),
        nn.MaxPool2d(3, 2, 1),
        Inception(832, 256, (160, 320), (32, 128), 128),
        Inception(832, 384, (192, 384), (48, 128), 128),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 10)),
    )
    return modern(model, batch_size, num_batches)


def stem():
    """The first layers of ResNet and DenseNet."""
    return nn.Conv2d(1, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)


class Residual(nn.Module):
    """Two convolutions whose output is added to the input, which a 1 x 1 convolution takes along where needed."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels_in, channels, 3, stride, 1), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, 1, 1), nn.BatchNorm2d(channels)),
        )
        same = stride == 1 and channels_in == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride)

    def forward(self, x):
        """Adds both."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet18(batch_size, num_batches):
    """ResNet-18 (8.6)."""
    blocks = [Residual(64, 64, 1), Residual(64, 64, 1)]
    for channels in (128, 256, 512):
        blocks += [Residual(channels // 2, channels, 2), Residual(channels, channels, 1)]
    model = nn.Sequential(*stem(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return modern(model, batch_size, num_batches)


class Dense(nn.Module):
    """A convolution whose output is appended to its input."""

    def __init__(self, channels_in, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels_in), nn.ReLU(), nn.Conv2d(channels_in, channels, 3, padding=1)
        )

    def forward(self, x):
        """Concatenates both."""
        return torch.cat([x, self.layers(x)], 1)


def densenet(batch_size, num_batches):
    """DenseNet (8.7)."""
    layers: list[nn.Module] = [*stem()]
    channels = 64
    for block in range(4):
        if block > 0:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1), nn.AvgPool2d(2, 2)]
            channels //= 2
        for _ in range(4):
            layers.append(Dense(channels, 32))
            channels += 32
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return modern(nn.Sequential(*layers), batch_size, num_batches)


def modern(model, batch_size, num_batches):
    """The networks of chapter 8: images of 96 x 96."""
    return training(model, 96, 0.01, batch_size, num_batches)


def training(model, pixels, learning_rate, batch_size, num_batches):
    """Adds the optimiser, the loss and random batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    batches = [
        (torch.rand(batch_size, 1, pixels, pixels), torch.randint(10, (batch_size,))) for _ in range(num_batches)
    ]
    return model, optimizer, loss, batches


def loss(model, images, labels):
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(images), labels)
