"""Deep learning as pure JAX functions: every chapter of *Dive into Deep Learning*, on Flax Linen and Optax.

A model is a frozen dataclass with `init` and `apply`; a loss returns sums; training is a pure `Step` from state and
batch to state and metrics. The rooms load when they are first used, so `import jaxdl` costs next to nothing:

- `jaxdl.data`: where batches come from.
- `jaxdl.nn`: layers, losses, scores, initialisers.
- `jaxdl.training`: the training contract, `fit`, evaluation, checkpoints.
- `jaxdl.parallel`: one device to many: pmap, sharded jit.
- `jaxdl.vision`: image models.
- `jaxdl.nlp`: language models, translation, decoding, scores.
- `jaxdl.optim`: optimisers and schedules from their equations.
- `jaxdl.probability`: information theory, statistics, classic learners.
- `jaxdl.kernels`: attention, in forms that agree.
- `jaxdl.autodiff`: automatic differentiation from scratch, gradient checks.
- `jaxdl.rl`: reinforcement learning.
- `jaxdl.recsys`: recommender systems.
- `jaxdl.cpu`: settings for training on a CPU.
- `jaxdl.experiment`: the common flags of the example scripts.
- `jaxdl.plotting`: curves, images.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdl import (
        autodiff,
        cpu,
        data,
        experiment,
        kernels,
        nlp,
        nn,
        optim,
        parallel,
        plotting,
        probability,
        recsys,
        rl,
        training,
        vision,
    )

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "autodiff",
    "cpu",
    "data",
    "experiment",
    "kernels",
    "nlp",
    "nn",
    "optim",
    "parallel",
    "plotting",
    "probability",
    "recsys",
    "rl",
    "training",
    "vision",
]


def __getattr__(name: str) -> Any:
    """Loads a room on first use."""
    if name in __all__:
        return importlib.import_module(f"jaxdl.{name}")
    raise AttributeError(f"module 'jaxdl' has no attribute {name!r}; its rooms are {', '.join(__all__[1:])}")


def __dir__() -> list[str]:
    return __all__
