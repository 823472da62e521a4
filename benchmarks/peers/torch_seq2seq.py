"""Trains the book's encoder and decoder (D2L 10.7) in PyTorch on the batches it is given, and translates.

Started as `python torch_seq2seq.py FILE.npz` by any Python that has torch and numpy; needs nothing of jaxdl. Prints one
JSON line, `{"eval_loss": ..., "translations": [[ids], ...], "versions": ...}`, or `{"absent": reason}`.
The translations are greedy, without `<eos>`, of the evaluation's sources in their order.

The file holds `source`, `source_length`, `target`, `target_length` as `jaxdl.data.encode_pairs` makes them, the same
with `eval_` before, `rows` `[steps, batch]` (the examples of each batch), and `settings` as JSON: sizes (arguments of
the network), learning_rate, max_gradient_norm, eos_id, seed, threads.

The other peers that translate, `torch_bahdanau.py` and `torch_transformer.py`, are started alike and take `main` from
here. A network of theirs has the methods

    encode(source, length) -> state
    decode(state, tokens [batch, time]) -> (logits [batch, time, target_vocab_size], state)
"""

import json
import platform
import sys

try:
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn.functional import cross_entropy  # pyright: ignore[reportMissingImports]
    from torch.nn.utils.rnn import pack_padded_sequence  # pyright: ignore[reportMissingImports]
except ImportError as error:
    print(json.dumps({"absent": f"{sys.executable}: {error}"}))
    sys.exit()


class Seq2Seq(nn.Module):
    """Two GRUs; the decoder sees the encoder's last state beside each word. (Padding is packed away, as in jaxdl.)"""

    def __init__(self, source_vocab_size, target_vocab_size, embed_size, hidden_size, num_layers, dropout_rate):
        super().__init__()
        self.source_embedding = nn.Embedding(source_vocab_size, embed_size)
        self.target_embedding = nn.Embedding(target_vocab_size, embed_size)
        self.encoder = nn.GRU(embed_size, hidden_size, num_layers, dropout=dropout_rate, batch_first=True)
        self.decoder = nn.GRU(embed_size + hidden_size, hidden_size, num_layers, dropout=dropout_rate, batch_first=True)
        self.output = nn.Linear(hidden_size, target_vocab_size)
        draw_xavier(self)

    def encode(self, source, length):
        """The final state of the last layer `[batch, hidden]`, and of each `[num_layers, batch, hidden]`."""
        embedded = self.source_embedding(source)
        final = self.encoder(pack_padded_sequence(embedded, length, batch_first=True, enforce_sorted=False))[1]
        return final[-1], final

    def decode(self, state, tokens):
        """Logits `[batch, time, target_vocab_size]` and the new state."""
        context, layers = state
        repeated = context[:, None].expand(-1, tokens.shape[1], -1)
        outputs, layers = self.decoder(torch.cat([self.target_embedding(tokens), repeated], -1), layers)
        return self.output(outputs), (context, layers)


def draw_xavier(model):
    """Draws all matrices but the embeddings, which are N(0, 1), as the book does."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "embedding" not in name:
            nn.init.xavier_uniform_(parameter)


def loss(model, source, source_length, target, target_length):
    """Mean cross-entropy of the tokens before the padding, under teacher forcing."""
    logits, labels = model.decode(model.encode(source, source_length), target[:, :-1])[0], target[:, 1:]
    real = torch.arange(labels.shape[1]) < target_length[:, None]
    return cross_entropy(logits[real], labels[real])


def train(model, pairs, rows, learning_rate, max_gradient_norm):
    """Adam with clipping by the global norm."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    model.train()
    for batch in rows:
        optimizer.zero_grad()
        loss(model, *(array[batch] for array in pairs)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
        optimizer.step()


def translate(model, source, length, start, max_length, eos_id):
    """Greedy search; the ids of each sentence before `<eos>`."""
    state, last, found = model.encode(source, length), start, []
    for _ in range(max_length):
        logits, state = model.decode(state, last[:, None])
        last = logits[:, -1].argmax(-1)
        found.append(last)
    rows = torch.stack(found, 1).tolist()
    return [row[: row.index(eos_id)] if eos_id in row else row for row in rows]


def main(path, network):
    """Trains `network(**sizes)` and answers."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    settings = json.loads(str(arrays.pop("settings")))
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    names = ("source", "source_length", "target", "target_length")
    pairs, eval_pairs = ([torch.as_tensor(arrays[p + name]).long() for name in names] for p in ("", "eval_"))
    model = network(**settings["sizes"])
    rows = torch.as_tensor(arrays["rows"]).long()
    train(model, pairs, rows, settings["learning_rate"], settings["max_gradient_norm"])
    model.eval()
    with torch.no_grad():
        source, source_length, target, _ = eval_pairs
        found = translate(model, source, source_length, target[:, 0], target.shape[1] - 1, settings["eos_id"])
        answer = {
            "eval_loss": float(loss(model, *eval_pairs)),
            "translations": found,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Seq2Seq)
