"""Trains the book's decoder with attention (D2L 11.4) in PyTorch; `torch_seq2seq.py` says how it is started."""

import sys

from torch_seq2seq import draw_xavier, main, nn, pack_padded_sequence, torch  # pyright: ignore[reportAttributeAccessIssue]  # without torch it ends there


class AttentionSeq2Seq(nn.Module):
    """Two GRUs; before each word the decoder's last layer looks at all outputs of the encoder."""

    def __init__(self, source_vocab_size, target_vocab_size, embed_size, hidden_size, num_layers, dropout_rate):
        super().__init__()
        self.source_embedding = nn.Embedding(source_vocab_size, embed_size)
        self.target_embedding = nn.Embedding(target_vocab_size, embed_size)
        self.encoder = nn.GRU(embed_size, hidden_size, num_layers, dropout=dropout_rate, batch_first=True)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.score = nn.Linear(hidden_size, 1, bias=False)
        self.dropout = nn.Dropout(dropout_rate)
        self.decoder = nn.GRU(embed_size + hidden_size, hidden_size, num_layers, dropout=dropout_rate, batch_first=True)
        self.output = nn.Linear(hidden_size, target_vocab_size)
        draw_xavier(self)

    def encode(self, source, length):
        """The outputs `[batch, source_time, hidden]`, which of them are real, and the state of each layer."""
        embedded = self.source_embedding(source)
        packed, final = self.encoder(pack_padded_sequence(embedded, length, batch_first=True, enforce_sorted=False))
        memory = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=source.shape[1])[0]
        return memory, torch.arange(source.shape[1]) < length[:, None], final

    def decode(self, state, tokens):
        """Logits `[batch, time, target_vocab_size]` and the new state."""
        memory, real, layers = state
        keys, outputs = self.key(memory), []
        for embedded in self.target_embedding(tokens).unbind(1):
            scores = self.score(torch.tanh(self.query(layers[-1])[:, None] + keys))[..., 0]
            weights = self.dropout(scores.masked_fill(~real, -torch.inf).softmax(-1))
            context = (weights[:, :, None] * memory).sum(1)
            output, layers = self.decoder(torch.cat([context, embedded], -1)[:, None], layers)
            outputs.append(output)
        return self.output(torch.cat(outputs, 1)), (memory, real, layers)


if __name__ == "__main__":
    main(sys.argv[1], AttentionSeq2Seq)
