"""How much memory a compiled function takes on each device, as the compiler planned it."""

from typing import NamedTuple

import jax


class MemoryReport(NamedTuple):
    """Bytes on each device. Printed, it is a table."""

    arguments: int
    outputs: int
    aliased: int  # counted in both: outputs written into donated arguments
    temporaries: int  # activations, gradients and workspace, while the function runs
    code: int

    @property
    def total(self) -> int:
        """What must fit: arguments, outputs, temporaries and code, the aliased bytes once."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code

    def __str__(self) -> str:
        rows = {**self._asdict(), "total": self.total}
        return "\n".join(f"{name:<11} {size:>18,} bytes  {size / 2**20:>12,.3f} MiB" for name, size in rows.items())


def memory_report(compiled: jax.stages.Compiled) -> MemoryReport:
    """Reads the compiler's plan of a function's memory; nothing runs.

    Args:
      compiled: from `jax.jit(f).lower(*args).compile()`; the arguments may be `jax.ShapeDtypeStruct`. Of a
        `CompiledStep`: `memory_report(compiled_step.call.lower(state, batch).compile())` with a placed state and batch.

    Returns:
      Bytes per device. A sharded array counts the part that one device holds.

    Raises:
      ValueError: if it is not a compiled function, or the backend does not say.

    Note: temporaries are the whole of the workspace that the compiler reserves (`temp_size_in_bytes`). They change with
    XLA's optimisations: a debugging flag that turns these off turns the report into another one.

    >>> import jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((256, 4), jnp.float32)
    >>> memory_report(jax.jit(lambda x: x * 2).lower(x).compile()).arguments
    4096
    """
    if not isinstance(compiled, jax.stages.Compiled):
        raise ValueError(f"compiled: expected jax.jit(f).lower(*args).compile(), got a {type(compiled).__name__}")
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise ValueError("compiled: this backend has no memory analysis")
    return MemoryReport(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        code=analysis.generated_code_size_in_bytes,
    )
