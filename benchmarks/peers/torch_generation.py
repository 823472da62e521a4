"""Greedy generation of characters by an LSTM in PyTorch, one token after the other in a Python loop."""

import time

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]

CHARACTERS, HIDDEN = 28, 256


class Generator:
    """One way to run the loop.

    Args:
      layer: `nn.LSTM`, called with one time step, or `nn.LSTMCell`.
      batch_size: sequences side by side.
      tokens: length of each.
      compiled: compile the step.
    """

    def __init__(self, layer, batch_size, tokens, *, compiled):
        torch.manual_seed(0)
        self.recurrent, self.head = layer(CHARACTERS, HIDDEN), nn.Linear(HIDDEN, CHARACTERS)
        self.one_hot = torch.eye(CHARACTERS)
        self.batch_size, self.tokens = batch_size, tokens
        self.shape = (batch_size, HIDDEN) if layer is nn.LSTMCell else (1, batch_size, HIDDEN)
        self.step = torch.compile(self.one_step) if compiled else self.one_step
        self.generate(3)  # compiles

    def one_step(self, token, hidden, cell):
        """The next token and state."""
        x = self.one_hot[token]
        if isinstance(self.recurrent, nn.LSTMCell):
            y, cell = self.recurrent(x, (hidden, cell))
            return self.head(y).argmax(-1), y, cell
        _, (hidden, cell) = self.recurrent(x[None], (hidden, cell))
        return self.head(hidden[0]).argmax(-1), hidden, cell

    @torch.inference_mode()
    def generate(self, tokens):
        """Tokens `[tokens, batch]`, which follow the first character."""
        token = torch.zeros(self.batch_size, dtype=torch.long)
        hidden, cell = torch.zeros(self.shape), torch.zeros(self.shape)
        generated = []
        for _ in range(tokens):
            token, hidden, cell = self.step(token, hidden, cell)
            generated.append(token)
        return torch.stack(generated)

    def run(self, passes):
        """Milliseconds a token."""
        start = time.perf_counter()
        for _ in range(passes):
            self.generate(self.tokens)
        return (time.perf_counter() - start) * 1e3 / (passes * self.tokens)


def prepare(batch_size, tokens):
    """Builds every variant that works; returns them, why others do not, and the number of parameters."""
    variants, failures = {}, {}
    for name, layer, compiled in (
        ("lstm", nn.LSTM, False),
        ("cell", nn.LSTMCell, False),
        ("lstm_compile", nn.LSTM, True),
        ("cell_compile", nn.LSTMCell, True),
    ):
        try:
            variants[name] = Generator(layer, batch_size, tokens, compiled=compiled)
        except Exception as error:  # whatever a compiler can fail with is said, and the others go on
            failures[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    model = variants["lstm"]
    return variants, failures, sum(p.numel() for part in (model.recurrent, model.head) for p in part.parameters())
