"""Trains a recurrent language model in PyTorch on the batches of `benchmarks/quality.py`, and says how good it is.

Started as `python torch_language_model.py FILE.npz` by any Python that has torch and numpy; needs nothing of jaxdl.
Prints one JSON line, `{"initial": ..., "perplexity": ..., "versions": ...}` (both held out), or `{"absent": reason}`.

The file holds `train` and `eval` `[examples, num_steps + 1]`, `rows` `[steps, batch]` (the examples of each batch), the
initial weights by their PyTorch names, and `settings` as JSON: cell, vocab_size, hidden_size, learning_rate,
max_gradient_norm, threads.
"""

import json
import math
import platform
import sys

try:
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn.functional import cross_entropy, one_hot  # pyright: ignore[reportMissingImports]
except ImportError as error:
    print(json.dumps({"absent": f"{sys.executable}: {error}"}))
    sys.exit()

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class LanguageModel(nn.Module):
    """One-hot characters, one recurrent layer, logits (D2L 9.6)."""

    def __init__(self, cell, vocab_size, hidden_size):
        super().__init__()
        self.vocab_size = vocab_size
        self.rnn = CELLS[cell](vocab_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens):
        """Maps `[batch, num_steps]` to logits `[batch, num_steps, vocab_size]`."""
        return self.output(self.rnn(one_hot(tokens, self.vocab_size).float())[0])


def loss(model, tokens):
    """Mean cross-entropy of each next token."""
    return cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def train(model, tokens, rows, learning_rate, max_gradient_norm):
    """SGD with clipping by the global norm."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for batch in rows:
        optimizer.zero_grad()
        loss(model, tokens[batch]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
        optimizer.step()


def perplexity(model, tokens):
    """Of all tokens."""
    with torch.no_grad():
        total = sum(len(part) * float(loss(model, part)) for part in tokens.split(1000))
    return math.exp(total / len(tokens))


def main(path):
    """Trains and answers."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    settings = json.loads(str(arrays.pop("settings")))
    torch.set_num_threads(settings["threads"])
    train_tokens, eval_tokens, rows = (torch.as_tensor(arrays.pop(name)).long() for name in ("train", "eval", "rows"))
    model = LanguageModel(settings["cell"], settings["vocab_size"], settings["hidden_size"])
    model.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})
    before = perplexity(model, eval_tokens)
    train(model, train_tokens, rows, settings["learning_rate"], settings["max_gradient_norm"])
    answer = {
        "initial": before,
        "perplexity": perplexity(model, eval_tokens),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
