"""A tape in plain NumPy, and a two-layer network trained with it (systems course, 23.1 and 23.3).

    python examples/ch23_tape.py

Each operation on a `Tensor` computes its value at once and remembers its operands and how to pull an adjoint back to
them. `backward` goes through the operations from the last to the first and adds up what arrives at each.

The network is relu(X W1) W2 with the softmax cross-entropy. Its gradients are also written out by hand; the two differ
by at most 8e-17. On digits, 20 epochs of SGD end at a test accuracy of 0.978 (mean of seeds 0 to 4; 0.972 to 0.983),
and 0.93 is passed between the third and the sixth. It takes 5 s.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxdl import experiment, plotting
from jaxdl.data import load

Array = np.ndarray


@dataclass(eq=False)
class Tensor:
    """An array that remembers where it came from."""

    value: Array
    operands: tuple["Tensor", ...] = ()
    pull: Callable[[Array], tuple[Array, ...]] = lambda adjoint: ()
    """From the adjoint of this tensor to what it contributes to the adjoints of the operands."""
    adjoint: Array = field(default_factory=lambda: np.zeros(()))

    def __add__(self, other: "Tensor") -> "Tensor":
        return Tensor(self.value + other.value, (self, other), lambda g: (fold(g, self), fold(g, other)))

    def __sub__(self, other: "Tensor") -> "Tensor":
        return Tensor(self.value - other.value, (self, other), lambda g: (fold(g, self), fold(-g, other)))

    def __mul__(self, other: "Tensor") -> "Tensor":
        x, y = self.value, other.value
        return Tensor(x * y, (self, other), lambda g: (fold(g * y, self), fold(g * x, other)))

    def __matmul__(self, other: "Tensor") -> "Tensor":
        x, w = self.value, other.value
        return Tensor(x @ w, (self, other), lambda g: (g @ w.T, x.T @ g))

    def relu(self) -> "Tensor":
        """Zero where negative."""
        return Tensor(np.maximum(self.value, 0), (self,), lambda g: (g * (self.value > 0),))

    def exp(self) -> "Tensor":
        """Element by element."""
        y = np.exp(self.value)
        return Tensor(y, (self,), lambda g: (g * y,))

    def log(self) -> "Tensor":
        """The natural one, element by element."""
        return Tensor(np.log(self.value), (self,), lambda g: (g / self.value,))

    def sum(self, axis: int | None = None) -> "Tensor":
        """Over an axis, which stays with length 1, or over all."""
        total = self.value.sum(axis, keepdims=axis is not None)
        return Tensor(total, (self,), lambda g: (np.broadcast_to(g, self.value.shape),))

    def backward(self) -> None:
        """Sets `adjoint`, the derivative of this scalar, on every tensor that it was computed from."""
        order = topological_order(self)
        for tensor in order:
            tensor.adjoint = np.zeros_like(tensor.value)
        self.adjoint = np.ones_like(self.value)
        for tensor in reversed(order):
            for operand, contribution in zip(tensor.operands, tensor.pull(tensor.adjoint), strict=True):
                operand.adjoint = operand.adjoint + contribution


def fold(adjoint: Array, operand: Tensor) -> Array:
    """Sums over the axes along which NumPy repeated the operand: they share its adjoint."""
    shape = operand.value.shape
    adjoint = adjoint.sum(tuple(range(adjoint.ndim - len(shape))))
    return adjoint.sum(tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def topological_order(last: Tensor) -> list[Tensor]:
    """Everything that a tensor was computed from, operands before what uses them, without recursion."""
    order, seen, stack = [], set(), [(last, False)]
    while stack:
        tensor, operands_done = stack.pop()
        if operands_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack += [(tensor, True), *((operand, False) for operand in tensor.operands)]
    return order


def cross_entropy(logits: Tensor, one_hot: Array) -> Tensor:
    """Mean over the batch of log sum exp minus the logit of the label."""
    shifted = logits - Tensor(logits.value.max(1, keepdims=True))  # a constant: no exponential overflows
    log_normalizer = shifted.exp().sum(axis=1).log()
    total = (log_normalizer - (shifted * Tensor(one_hot)).sum(axis=1)).sum()
    return total * Tensor(np.array(1 / len(one_hot)))


def network(x: Array, w1: Tensor, w2: Tensor) -> Tensor:
    """Two layers."""
    return (Tensor(x) @ w1).relu() @ w2


def gradients_by_hand(x: Array, one_hot: Array, w1: Array, w2: Array) -> tuple[Array, Array]:
    """The same gradients as matrix products (23.3): G2 = S - I_y, G1 = 1{Z1 > 0} * (G2 W2^T)."""
    hidden = np.maximum(x @ w1, 0)
    exponentials = np.exp(hidden @ w2 - (hidden @ w2).max(1, keepdims=True))
    g2 = exponentials / exponentials.sum(1, keepdims=True) - one_hot
    g1 = (hidden > 0) * (g2 @ w2.T)
    return x.T @ g1 / len(x), hidden.T @ g2 / len(x)


@dataclass(frozen=True)
class Config:
    """Trains a two-layer network on digits with a tape of our own."""

    hidden: int = 100
    """Width of the hidden layer."""
    epochs: int = 20
    """Passes over the training data."""
    batch_size: int = 100
    """Examples a step."""
    learning_rate: float = 0.2
    """Of SGD."""
    seed: int = 0
    """Of the weights and the order of the data."""
    plot: Path | None = None
    """Where the learning curve goes; default: inside the run's folder."""

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


def digits(split: str) -> tuple[Array, Array]:
    """Images `[n, 64]` in [0, 1] and labels `[n]`."""
    arrays = load("digits", split)
    return arrays["image"].reshape(-1, 64).astype(np.float64), arrays["label"]


def main(config: Config) -> dict[str, float]:
    """Trains, draws the learning curve, and returns the last loss and accuracy, and how far both gradients differ."""
    rng = np.random.default_rng(config.seed)
    (x, labels), (test_x, test_labels) = digits("train"), digits("test")
    w1 = Tensor(rng.normal(size=(64, config.hidden)) / np.sqrt(config.hidden))
    w2 = Tensor(rng.normal(size=(config.hidden, 10)) / np.sqrt(10))
    one_hot = np.eye(10)[labels]

    cross_entropy(network(x, w1, w2), one_hot).backward()
    by_hand = gradients_by_hand(x, one_hot, w1.value, w2.value)
    difference = max(float(np.abs(w.adjoint - g).max()) for w, g in zip((w1, w2), by_hand, strict=True))
    print(f"the tape's gradients and those by hand differ by at most {difference:.1e}")

    losses, accuracies = [], []
    for _ in range(config.epochs):
        batches = np.split(rng.permutation(len(x)), range(config.batch_size, len(x), config.batch_size))
        total = 0.0
        for batch in batches:
            loss = cross_entropy(network(x[batch], w1, w2), one_hot[batch])
            loss.backward()
            w1, w2 = (Tensor(w.value - config.learning_rate * w.adjoint) for w in (w1, w2))
            total += float(loss.value) * len(batch)
        losses.append(total / len(x))
        accuracies.append(float((network(test_x, w1, w2).value.argmax(1) == test_labels).mean()))
    print(f"after {config.epochs} epochs: training loss {losses[-1]:.4f}, test accuracy {accuracies[-1]:.4f}")

    picture = config.plot or experiment.run_folder("ch23_tape") / "curve.png"
    curves = {"training loss": losses, "test accuracy": accuracies}
    plotting.lines(range(1, config.epochs + 1), curves, picture, xlabel="epoch", title="a two-layer network on digits")
    print(f"picture: {picture}")
    return {"train_loss": losses[-1], "eval_accuracy": accuracies[-1], "gradient_difference": difference}


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
