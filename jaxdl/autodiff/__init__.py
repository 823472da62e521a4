"""Automatic differentiation from scratch (systems course, 23.1 and 23.2): forward and reverse mode on jaxprs.

`jvp`, `vjp`, `grad`, `value_and_grad`, `jacobian` and `hessian` follow JAX's conventions and differentiate the models
of this library by rules of our own. `interpreter.py` is the core, two ways of reading a jaxpr; `rules.py` is how a rule
is written; the rules themselves lie in files named by meaning, and `register_rule` adds more. `ComputationGraph` draws
what goes on, and `check_gradients` holds any function's derivatives, ours or JAX's, against central differences.
"""

from jaxdl.autodiff.computation_graph import ComputationGraph, Node
from jaxdl.autodiff.gradient_check import Comparison, GradientError, check_gradients
from jaxdl.autodiff.rules import LinearMap, register_rule
from jaxdl.autodiff.transformations import grad, hessian, jacobian, jvp, value_and_grad, vjp

__all__ = [
    "Comparison",
    "ComputationGraph",
    "GradientError",
    "LinearMap",
    "Node",
    "check_gradients",
    "grad",
    "hessian",
    "jacobian",
    "jvp",
    "register_rule",
    "value_and_grad",
    "vjp",
]
