"""How a model is trained: a loss of sums, one pure step, one loop.

Start with `step.py`, the contract: `sum_gradients(loss_fn)` gives sums that merge, `make_step` divides once and
updates, `jit_step` compiles, `fit` feeds it, logs, evaluates, checkpoints and resumes. Nothing here knows a model.
Around it: how sure a measured accuracy is, and weights for data whose distribution shifts.
"""

from jaxdl.training.callbacks import Callback, EarlyStopping, TensorBoard
from jaxdl.training.checkpoint import Checkpointer, CheckpointError, CheckpointWarning, Restored
from jaxdl.training.compiled import CompiledStep, jit_step
from jaxdl.training.confidence import accuracy_interval, hoeffding_sample_size
from jaxdl.training.distribution_shift import covariate_shift_weights, label_shift_prior, label_shift_weights
from jaxdl.training.evaluate import evaluate, predict
from jaxdl.training.fit import Data, NonFiniteLoss, fit
from jaxdl.training.flops import count_flops
from jaxdl.training.history import History
from jaxdl.training.loss_scaling import loss_scaling, scaled_sum_gradients, with_loss_scale
from jaxdl.training.memory import MemoryReport, memory_report
from jaxdl.training.metrics import Mean, Metric, merge_metrics
from jaxdl.training.monitor import averaged_params, parameter_average, record_gradient_norm, report_optimizer
from jaxdl.training.step import (
    Batch,
    EvalFn,
    GradFn,
    LossFn,
    Step,
    Sums,
    TrainState,
    accumulate,
    all_reduce,
    init_state,
    make_step,
    sum_gradients,
)
from jaxdl.training.supervised import supervised

__all__ = [
    "Batch",
    "Callback",
    "CheckpointError",
    "CheckpointWarning",
    "Checkpointer",
    "CompiledStep",
    "Data",
    "EarlyStopping",
    "EvalFn",
    "GradFn",
    "History",
    "LossFn",
    "Mean",
    "MemoryReport",
    "Metric",
    "NonFiniteLoss",
    "Restored",
    "Step",
    "Sums",
    "TensorBoard",
    "TrainState",
    "accumulate",
    "accuracy_interval",
    "all_reduce",
    "averaged_params",
    "count_flops",
    "covariate_shift_weights",
    "evaluate",
    "fit",
    "hoeffding_sample_size",
    "init_state",
    "jit_step",
    "label_shift_prior",
    "label_shift_weights",
    "loss_scaling",
    "make_step",
    "memory_report",
    "merge_metrics",
    "parameter_average",
    "predict",
    "record_gradient_norm",
    "report_optimizer",
    "scaled_sum_gradients",
    "sum_gradients",
    "supervised",
    "with_loss_scale",
]
