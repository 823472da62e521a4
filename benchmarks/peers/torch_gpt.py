"""A transformer that predicts the next token in PyTorch (D2L 11.9), trained by plain SGD.

A case's function returns the model, its optimiser, `loss(model, *batch)` and the batches.
"""

import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
from torch import nn  # pyright: ignore[reportMissingImports]


class Block(nn.Module):
    """Causal attention and a network for each position, norms first; queries, keys and values in one product."""

    def __init__(self, features, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(features), nn.LayerNorm(features)
        self.query_key_value = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        self.feed_forward = nn.Sequential(
            nn.Linear(features, 4 * features), nn.GELU(approximate="tanh"), nn.Linear(4 * features, features)
        )

    def forward(self, x):
        """Maps `[batch, time, features]` to the same shape."""
        heads = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [batch, heads, time, depth]
        pooled = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(pooled.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.feed_forward_norm(x))


class GPT(nn.Module):
    """Embeddings of tokens and positions, blocks, a norm, and logits by the embedding of tokens."""

    def __init__(self, vocab_size, max_length, features, num_heads, num_blocks):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, features), nn.Embedding(max_length, features)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(features, num_heads) for _ in range(num_blocks)))
        self.norm = nn.LayerNorm(features)

    def forward(self, tokens):
        """Maps `[batch, time]` to `[batch, time, vocab]`."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def loss(model, tokens):
    """Mean cross-entropy of each token from those before it."""
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def transformer(batch_size, num_batches):
    """256 features, 4 heads, 2 blocks, 128 tokens of 1,000."""
    model = GPT(1000, 128, 256, 4, 2)
    batches = [(torch.randint(1000, (batch_size, 129)),) for _ in range(num_batches)]
    return model, torch.optim.SGD(model.parameters(), lr=0.1), loss, batches
