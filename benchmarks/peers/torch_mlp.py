"""The multilayer perceptron 784-256-10 in PyTorch (D2L 5.1), trained by plain SGD."""

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]


def mlp(batch_size, num_batches):
    """Returns the model, its optimiser, `loss(model, *batch)` and the batches."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.rand(batch_size, 1, 28, 28), torch.randint(10, (batch_size,))) for _ in range(num_batches)]
    return model, optimizer, loss, batches


def loss(model, images, labels):
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(images), labels)
