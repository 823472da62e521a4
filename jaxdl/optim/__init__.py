"""Optimisers and schedules from their equations (D2L 12; systems course, 23.4 and 23.9), as Optax transformations.

Each method is a function of its hyperparameters that returns an `optax.GradientTransformation`; a learning rate may be
a number or a schedule, and each file opens with the equations. Optax has most of them too: these are to be read, and
the tests hold that both agree. Beside them stand schedules, second-order steps and line searches, which need the
function itself, steps that stay in a set, and `trajectory`, which keeps the path.
"""

from jaxdl.optim.adadelta import adadelta
from jaxdl.optim.adagrad import adagrad
from jaxdl.optim.adam import adam, adamw
from jaxdl.optim.large_batch import lamb, lars
from jaxdl.optim.line_search import backtracking_line_search, bisection_line_search
from jaxdl.optim.momentum import averaged_momentum, momentum, nesterov
from jaxdl.optim.newton import hessian_diagonal, newton_step, preconditioned_step
from jaxdl.optim.projected import projected
from jaxdl.optim.rmsprop import rmsprop
from jaxdl.optim.schedules import (
    cosine_decay,
    cosine_restarts,
    exponential_decay,
    factor_decay,
    multi_factor_decay,
    per_epoch,
    polynomial_decay,
    square_root_decay,
    warm_up,
)
from jaxdl.optim.sgd import sgd
from jaxdl.optim.trajectory import trajectory
from jaxdl.optim.yogi import yogi

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "averaged_momentum",
    "backtracking_line_search",
    "bisection_line_search",
    "cosine_decay",
    "cosine_restarts",
    "exponential_decay",
    "factor_decay",
    "hessian_diagonal",
    "lamb",
    "lars",
    "momentum",
    "multi_factor_decay",
    "nesterov",
    "newton_step",
    "per_epoch",
    "polynomial_decay",
    "preconditioned_step",
    "projected",
    "rmsprop",
    "sgd",
    "square_root_decay",
    "trajectory",
    "warm_up",
    "yogi",
]
