"""PyTorch's side of the parity tests: the same networks with torchvision's names, weights and statistics at random."""

import torch
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(channels_in, channels, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    def __init__(self, channels_in, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(channels_in, 4 * width, stride)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + self.downsample(x))


def shortcut(channels_in, channels, stride):
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class ResNet(nn.Module):
    def __init__(self, block, expansion, stage_sizes, widths, num_classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False), nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = widths[0]
        for i, (size, width) in enumerate(zip(stage_sizes, widths, strict=True)):
            blocks = []
            for j in range(size):
                blocks.append(block(channels, width, 2 if i > 0 and j == 0 else 1))
                channels = expansion * width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.num_stages = len(widths)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(self.num_stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, blocks, channels_in, pixels, hidden, num_classes):
        super().__init__()
        layers = []
        for num_convs, channels in blocks:
            for _ in range(num_convs):
                layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()]
                channels_in = channels
            layers.append(nn.MaxPool2d(2))
            pixels //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(channels_in * pixels**2, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class DenseLayer(nn.Module):
    def __init__(self, channels_in, growth):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels_in), nn.Conv2d(channels_in, growth, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


def densenet(channels_in, channels, growth, sizes, num_classes):
    """The book's (D2L 8.7): no bottlenecks, transitions that halve channels and pixels."""
    layers = [nn.Conv2d(channels_in, channels, 7, 2, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for i, size in enumerate(sizes):
        for _ in range(size):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        if i < len(sizes) - 1:
            transition = [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1), nn.AvgPool2d(2)]
            layers.append(nn.Sequential(*transition))
            channels //= 2
    head = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Linear(channels, num_classes))


class Inception(nn.Module):
    """GoogLeNet's block as the book has it (D2L 8.4)."""

    def __init__(self, channels_in, c1, c2, c3, c4):
        super().__init__()
        self.b1 = nn.Conv2d(channels_in, c1, 1)
        self.b2_1, self.b2_2 = nn.Conv2d(channels_in, c2[0], 1), nn.Conv2d(c2[0], c2[1], 3, padding=1)
        self.b3_1, self.b3_2 = nn.Conv2d(channels_in, c3[0], 1), nn.Conv2d(c3[0], c3[1], 5, padding=2)
        self.b4_1, self.b4_2 = nn.MaxPool2d(3, 1, 1), nn.Conv2d(channels_in, c4, 1)

    def forward(self, x):
        branches = [
            self.b1(x),
            self.b2_2(torch.relu(self.b2_1(x))),
            self.b3_2(torch.relu(self.b3_1(x))),
            self.b4_2(self.b4_1(x)),
        ]
        return torch.relu(torch.cat(branches, 1))


def randomize(model, seed=0):
    """Weights of a scale that neither vanish nor explode, and statistics that are not the initial ones."""
    torch.manual_seed(seed)
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif tensor.ndim >= 2:
            tensor.copy_(torch.randn_like(tensor) * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor) * 0.2 + (1 if tensor.ndim and "bias" not in name else 0))
    return model.eval()
