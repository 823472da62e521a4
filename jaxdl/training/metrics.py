"""Metrics are sums that merge: add two of them and you have the metric of both batches, or of both devices."""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class Metric(Protocol):
    """A pytree of sums; adding two leaf by leaf merges them, and `compute` turns the sums into the figure to report."""

    def compute(self) -> Any:
        """The figure: a scalar, or a mapping of scalars by name."""
        ...


class Mean(NamedTuple):
    """A weighted mean as its two sums. (A NamedTuple: `+` concatenates; merge with `merge_metrics`.)"""

    total: Any
    count: Any

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array | None = None) -> "Mean":
        """Sums `values` over every axis.

        Args:
          values: per-example (or per-token) figures, any shape, floating point; below float32 they are added in it.
          mask: of the same shape; 1 counts, 0 is padding (whatever stands there, NaN too), other numbers are weights.

        Raises:
          ValueError: if the shapes differ: a `[batch]` mask never broadcasts over `[batch, time]` values by accident.

        >>> Mean.of(jnp.array([1.0, 2.0, 9.0]), jnp.array([1, 1, 0])).compute().item()
        1.5
        """
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"values: expected a floating dtype, got {values.dtype}")
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        if mask is None:
            return cls(values.sum(), jnp.full((), values.size, values.dtype))
        if mask.shape != values.shape:
            raise ValueError(f"mask: expected the shape of values {values.shape}, got {mask.shape}")
        weights = mask.astype(values.dtype)
        return cls(jnp.where(weights != 0, values * weights, 0).sum(), weights.sum())

    def compute(self) -> Any:
        """`total / count`; NaN when nothing was counted."""
        return self.total / self.count


def merge_metrics(a: Any, b: Any) -> Any:
    """Adds two pytrees of sums leaf by leaf."""
    return jax.tree.map(operator.add, a, b)


def compute_metrics(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Turns host sums into plain floats by name; those of a metric that computes several are named `metric/figure`.

    Raises:
      ValueError: if a metric computes to something else than a scalar or a mapping of scalars.
    """
    figures: dict[str, float] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, metric in metrics.items():
            value = metric.compute()
            parts = {f"{name}/{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
            for part, figure in parts.items():
                if np.ndim(figure) != 0:
                    raise ValueError(f"metric {part!r}: compute() should give a scalar, got shape {np.shape(figure)}")
                figures[part] = float(figure)
    return figures


class HostSums:
    """Adds metrics up on the host in float64 (float32 stops counting at 2^24), fetching from the device in bulk.

    `push` only remembers device arrays, so the device never waits; `fetch` copies all of them over at once.
    `stacked`: the pushed leaves carry a leading axis of steps.
    """

    def __init__(self, *, stacked: bool) -> None:
        self.stacked = stacked
        self.pending: list[Mapping[str, Metric]] = []
        self.clear()

    def clear(self) -> None:
        """Starts again from zero."""
        self._sums: Any = None
        self._carried: list[Any] = []

    def push(self, metrics: Mapping[str, Metric]) -> None:
        """Remembers metrics that may still be under computation."""
        self.pending.append(metrics)

    def fetch(self) -> list[Mapping[str, Metric]]:
        """Adds all that is pending and returns it as NumPy arrays, oldest first."""
        fetched, self.pending = jax.device_get(self.pending), []
        for metrics in fetched:
            sums = jax.tree.map(lambda x: np.sum(x, axis=0 if self.stacked else (), dtype=np.float64), metrics)
            if self._carried:
                carried, self._carried = self._carried, []
                self._sums = jax.tree.unflatten(jax.tree.structure(sums), [np.asarray(x, np.float64) for x in carried])
            self._sums = sums if self._sums is None else merge_metrics(self._sums, sums)
        return fetched

    def compute(self) -> dict[str, float]:
        """The figures of all that was fetched, by name."""
        return compute_metrics(self._sums or {})

    def leaves(self) -> list[Any]:
        """The sums as nested lists of floats, for a checkpoint."""
        return [np.asarray(x).tolist() for x in jax.tree.leaves(self._sums)] or self._carried

    def carry_over(self, leaves: list[Any]) -> None:
        """Goes on from the `leaves` of an interrupted run."""
        self._carried = leaves
