"""Layers and the functions around them: losses and scores per example, initialisers, tables of shapes and sizes.

Models are Flax Linen modules. Losses and scores return one figure per example; `jaxdl.training.Mean` sums them.
"""

from jaxdl.nn import torch_weights
from jaxdl.nn.batch_norm import BatchNorm, batch_norm
from jaxdl.nn.initializers import kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform
from jaxdl.nn.inspection import LayerShape, layer_shapes, parameter_count, parameter_table
from jaxdl.nn.losses import absolute_error, binary_cross_entropy, cross_entropy, huber_loss, squared_error
from jaxdl.nn.mlp import MLP
from jaxdl.nn.penalties import l1_penalty, l2_penalty, weight_mask
from jaxdl.nn.repeated_blocks import RepeatedBlocks
from jaxdl.nn.scores import accuracy

__all__ = [
    "MLP",
    "BatchNorm",
    "LayerShape",
    "RepeatedBlocks",
    "absolute_error",
    "accuracy",
    "batch_norm",
    "binary_cross_entropy",
    "cross_entropy",
    "huber_loss",
    "kaiming_normal",
    "kaiming_uniform",
    "l1_penalty",
    "l2_penalty",
    "layer_shapes",
    "parameter_count",
    "parameter_table",
    "squared_error",
    "torch_weights",
    "weight_mask",
    "xavier_normal",
    "xavier_uniform",
]
