"""Greedy generation in PyTorch, one token after the other in a Python loop: characters by an LSTM, tokens by a GPT."""

import time

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

CHARACTERS, HIDDEN = 28, 256
VOCAB, FEATURES, HEADS, BLOCKS, PROMPT = 96, 128, 4, 4, 16


class Generator:
    """One way to run the loop of steps; `tokens` of each sequence, `batch_size` sequences side by side."""

    def __init__(self, step, batch_size, tokens, compiled):
        self.batch_size, self.tokens = batch_size, tokens
        self.step = torch.compile(step) if compiled else step
        self.generate(3)  # compiles

    def generate(self, tokens):
        """Tokens `[tokens, batch]`."""
        raise NotImplementedError

    def run(self, passes):
        """Milliseconds a token."""
        start = time.perf_counter()
        for _ in range(passes):
            self.generate(self.tokens)
        return (time.perf_counter() - start) * 1e3 / (passes * self.tokens)


class LSTMGenerator(Generator):
    """Characters; `layer` is `nn.LSTM`, called with one time step, or `nn.LSTMCell`."""

    def __init__(self, layer, batch_size, tokens, *, compiled=False):
        self.recurrent, self.head = layer(CHARACTERS, HIDDEN), nn.Linear(HIDDEN, CHARACTERS)
        self.num_parameters = sum(p.numel() for part in (self.recurrent, self.head) for p in part.parameters())
        self.one_hot = torch.eye(CHARACTERS)
        self.shape = (batch_size, HIDDEN) if layer is nn.LSTMCell else (1, batch_size, HIDDEN)
        super().__init__(self.one_step, batch_size, tokens, compiled)

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


class GrowingCache:
    """Keys and values are concatenated."""

    def __init__(self, batch_size, size):
        self.key = self.value = torch.empty(batch_size, HEADS, 0, FEATURES // HEADS)

    def add(self, key, value, positions):
        """What is to be seen, and a mask."""
        self.key, self.value = torch.cat([self.key, key], 2), torch.cat([self.value, value], 2)
        return self.key, self.value, None


class SlicedCache:
    """Keys and values are written into arrays of the final size, of which the part in use is read."""

    def __init__(self, batch_size, size):
        self.key, self.value = (torch.zeros(batch_size, HEADS, size, FEATURES // HEADS) for _ in range(2))
        self.end = 0

    def add(self, key, value, positions):
        """As `GrowingCache`."""
        start, self.end = self.end, self.end + key.shape[2]
        self.key[:, :, start : self.end], self.value[:, :, start : self.end] = key, value
        return self.key[:, :, : self.end], self.value[:, :, : self.end], None


class WholeCache:
    """The same, read as a whole under a mask: shapes stay as they are, so a step is compiled once."""

    def __init__(self, batch_size, size):
        self.key, self.value = (torch.zeros(batch_size, HEADS, size, FEATURES // HEADS) for _ in range(2))

    def add(self, key, value, positions):
        """As `GrowingCache`."""
        self.key.index_copy_(2, positions, key)
        self.value.index_copy_(2, positions, value)
        return self.key, self.value, torch.arange(self.key.shape[2])[None] <= positions[:, None]


class Block(nn.Module):
    """Norms first, as in GPT-2; one product gives query, key and value."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(FEATURES), nn.LayerNorm(FEATURES)
        self.projections, self.out = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, FEATURES)
        self.up, self.down = nn.Linear(FEATURES, 4 * FEATURES), nn.Linear(4 * FEATURES, FEATURES)

    def forward(self, x, cache, positions):
        """Maps `[batch, time, features]` to the same."""
        heads = self.projections(self.norm_1(x)).unflatten(2, (3 * HEADS, FEATURES // HEADS)).transpose(1, 2)
        query, key, value = heads.chunk(3, 1)
        key, value, mask = cache.add(key, value, positions)
        causal = mask is None and x.shape[1] > 1
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """The model, with one matrix for embeddings and scores."""

    def __init__(self, max_length):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, FEATURES), nn.Embedding(max_length, FEATURES)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, tokens, caches, positions):
        """The likeliest next token `[batch]` after `[batch, time]`."""
        x = self.tokens(tokens) + self.positions(positions)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache, positions)
        return functional.linear(self.norm(x[:, -1]), self.tokens.weight).argmax(-1)


class GPTGenerator(Generator):
    """Tokens after a prompt, with one of the caches."""

    def __init__(self, cache, batch_size, tokens, *, compiled=False):
        self.cache, self.size = cache, PROMPT + tokens
        self.model = GPT(self.size).eval()
        self.num_parameters = sum(p.numel() for p in self.model.parameters())
        self.prompt = torch.randint(VOCAB, (batch_size, PROMPT))
        super().__init__(self.one_step, batch_size, tokens, compiled)

    def one_step(self, token, caches, position):
        """The next token and its position."""
        return self.model(token[:, None], caches, position), position + 1

    @torch.inference_mode()
    def generate(self, tokens):
        """Tokens `[tokens, batch]`, which follow the prompt."""
        caches = [self.cache(self.batch_size, self.size) for _ in range(BLOCKS)]
        generated = [self.model(self.prompt, caches, torch.arange(PROMPT))]
        position = torch.tensor([PROMPT])
        for _ in range(tokens - 1):
            token, position = self.step(generated[-1], caches, position)
            generated.append(token)
        return torch.stack(generated)


CASES = {
    "generation_lstm": {
        "lstm": (LSTMGenerator, nn.LSTM, False),
        "cell": (LSTMGenerator, nn.LSTMCell, False),
        "lstm_compile": (LSTMGenerator, nn.LSTM, True),
        "cell_compile": (LSTMGenerator, nn.LSTMCell, True),
    },
    "generation_gpt": {
        "growing": (GPTGenerator, GrowingCache, False),
        "sliced": (GPTGenerator, SlicedCache, False),
        "whole": (GPTGenerator, WholeCache, False),
        "whole_compile": (GPTGenerator, WholeCache, True),
    },
}


def prepare(case, batch_size, tokens):
    """Builds every variant that works; returns them, why others do not, and the number of parameters."""
    variants, failures = {}, {}
    for name, (generator, layer, compiled) in CASES[case].items():
        torch.manual_seed(0)
        try:
            variants[name] = generator(layer, batch_size, tokens, compiled=compiled)
        except Exception as error:  # whatever a compiler can fail with is said, and the others go on
            failures[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return variants, failures, next(iter(variants.values())).num_parameters
