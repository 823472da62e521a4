"""Models that the tests of the searches decode from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

A, B, C, EOS = range(4)

# The book's two tables (D2L 10.8): rows A, B, C, <eos>; columns are the steps. The second holds after A, C.
TABLE_1 = np.array([[0.5, 0.1, 0.2, 0.0], [0.2, 0.4, 0.2, 0.2], [0.2, 0.3, 0.4, 0.2], [0.1, 0.2, 0.2, 0.6]])
TABLE_2 = np.array([[0.5, 0.1, 0.1, 0.1], [0.2, 0.4, 0.6, 0.2], [0.2, 0.3, 0.2, 0.1], [0.1, 0.2, 0.1, 0.6]])


def book_step(state, tokens):
    """The tables as a step; the state is the step's number and whether C was chosen second, per row."""
    t, changed = state["t"], state["changed"]
    changed = jnp.where(t == 2, tokens == C, changed)
    columns = jnp.stack([jnp.asarray(TABLE_1), jnp.asarray(TABLE_2)])[changed.astype(int), :, t]
    return jnp.log(columns), {"t": t + 1, "changed": changed}


def book_state(batch=1):
    return {"t": jnp.int32(0), "changed": jnp.zeros(batch, bool)}


class MarkovModel:
    """Random logits that depend on the row's table, the step, and all tokens so far (by a hash in the state)."""

    def __init__(self, seed, batch, vocab, scale=2.0, hashes=64):
        self.tables = scale * np.random.default_rng(seed).normal(size=(batch, hashes, vocab))
        self.batch, self.vocab, self.hashes = batch, vocab, hashes

    def step(self, state, tokens):
        """One step of all rows."""
        code = (7 * state["code"] + tokens + 1) % self.hashes
        return jnp.asarray(self.tables)[state["row"], code], state | {"code": code, "t": state["t"] + 1}

    def state(self, rows=None):
        """Of some rows of the batch; a leaf of each kind: per row and shared."""
        rows = jnp.arange(self.batch) if rows is None else jnp.asarray(rows)
        return {"row": rows, "code": jnp.zeros_like(rows), "t": jnp.int32(0)}

    def log_probability(self, row, start, tokens):
        """In NumPy, of one sequence after the start token."""
        code, total, last = 0, 0.0, start
        for token in tokens:
            code = (7 * code + last + 1) % self.hashes
            logits = self.tables[row, code]
            total += logits[token] - np.log(np.exp(logits).sum())
            last = token
        return total

    def all_sequences(self, row, start, limit, eos, alpha):
        """Every complete sequence with its score, best first."""
        ordinary = [token for token in range(self.vocab) if token != eos]
        complete = [(*p, eos) for n in range(limit) for p in itertools.product(ordinary, repeat=n)]
        complete += [*itertools.product(ordinary, repeat=limit)]
        scored = [(self.log_probability(row, start, s) / len(s) ** alpha, s) for s in complete]
        return sorted(scored, key=lambda pair: -pair[0])


def valid(decoded, *index):
    """The tokens of one decoded sequence, as a tuple."""
    return tuple(np.asarray(decoded.tokens[index])[: int(decoded.lengths[index])].tolist())


def jitted(search, model, **options):
    """A search over a model as one compiled function of the state and the start tokens."""
    return jax.jit(lambda state, start, **arrays: search(model.step, state, start, **options, **arrays))
