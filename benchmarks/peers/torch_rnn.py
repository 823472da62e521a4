"""Recurrent networks over characters in PyTorch (D2L 9.6, 10.1, 10.2), trained by plain SGD.

A case's function returns the model, its optimiser, `loss(model, *batch)` and the batches.
"""

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]


class CharacterModel(nn.Module):
    """A recurrent layer, and at each step the scores of 28 characters."""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.hidden_size, 28)

    def forward(self, x):
        """Maps `[batch, time, in]` to `[batch, time, 28]`."""
        return self.head(self.recurrent(x)[0])


def training(layer, size, hidden, time, batch_size, num_batches):
    """Adds the optimiser, the loss and random batches."""
    model = CharacterModel(layer(size, hidden, batch_first=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(batch_size, time, size), torch.randint(28, (batch_size, time))) for _ in range(num_batches)]
    return model, optimizer, loss, batches


def loss(model, x, labels):
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(x).flatten(0, 1), labels.flatten())


def rnn_small(batch_size, num_batches):
    """28 to 32, 35 steps."""
    return training(nn.RNN, 28, 32, 35, batch_size, num_batches)


def gru_small(batch_size, num_batches):
    """The same of gated recurrent units."""
    return training(nn.GRU, 28, 32, 35, batch_size, num_batches)


def lstm_small(batch_size, num_batches):
    """The same of long short-term memory."""
    return training(nn.LSTM, 28, 32, 35, batch_size, num_batches)


def lstm(batch_size, num_batches):
    """28 to 256, 64 steps."""
    return training(nn.LSTM, 28, 256, 64, batch_size, num_batches)


def rnn_large(batch_size, num_batches):
    """650 to 650, 35 steps."""
    return training(nn.RNN, 650, 650, 35, batch_size, num_batches)


def gru_large(batch_size, num_batches):
    """The same of gated recurrent units."""
    return training(nn.GRU, 650, 650, 35, batch_size, num_batches)


def lstm_large(batch_size, num_batches):
    """The same of long short-term memory."""
    return training(nn.LSTM, 650, 650, 35, batch_size, num_batches)
