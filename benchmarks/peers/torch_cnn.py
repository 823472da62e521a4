"""Convolutional networks in PyTorch, trained by plain SGD: LeNet as the book has it, and with ReLU and max pooling."""

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]


def lenet(batch_size, num_batches, activation=nn.Sigmoid, pool=nn.AvgPool2d):
    """Returns the model (D2L 7.6), its optimiser, `loss(model, *batch)` and the batches."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), activation(), pool(2)),
        *(nn.Conv2d(6, 16, 5), activation(), pool(2), nn.Flatten()),
        *(nn.Linear(400, 120), activation()),
        *(nn.Linear(120, 84), activation()),
        nn.Linear(84, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.rand(batch_size, 1, 28, 28), torch.randint(10, (batch_size,))) for _ in range(num_batches)]
    return model, optimizer, loss, batches


def lenet_relu_max(batch_size, num_batches):
    """The same with ReLU and max pooling, the default of `jaxdl.vision.LeNet`."""
    return lenet(batch_size, num_batches, nn.ReLU, nn.MaxPool2d)


def loss(model, images, labels):
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(images), labels)
