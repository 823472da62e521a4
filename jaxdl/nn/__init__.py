"""Layers and the functions around them: losses and scores per example, penalties, initialisers, tables of shapes.

Models are Flax Linen modules. Losses and scores return one figure per example; `jaxdl.training.Mean` sums them. What a
chapter teaches is written out beside the production form: `softmax`, `dropout`, `batch_norm`, `least_squares`, and the
backward pass of an MLP. `torch_weights` takes over what was trained in PyTorch.
"""

from jaxdl.nn import torch_weights
from jaxdl.nn.backpropagation import (
    RELU,
    SIGMOID,
    TANH,
    Activation,
    Intermediates,
    mlp_backward,
    mlp_forward,
    squared_loss_gradient,
)
from jaxdl.nn.batch_norm import BatchNorm, batch_norm
from jaxdl.nn.conv import Conv, ConvTranspose
from jaxdl.nn.convolution import convolution
from jaxdl.nn.convolution_from_scratch import (
    conv2d_im2col,
    conv2d_input_adjoint,
    conv2d_kernel_adjoint,
    conv2d_matmul,
    conv2d_naive,
    corr2d,
    strided_patches,
)
from jaxdl.nn.dropout import Dropout, dropout
from jaxdl.nn.initializers import kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform
from jaxdl.nn.inspection import LayerShape, layer_shapes, parameter_count, parameter_table
from jaxdl.nn.layer_norm import LayerNorm, layer_norm
from jaxdl.nn.linear_regression import least_squares
from jaxdl.nn.losses import absolute_error, binary_cross_entropy, cross_entropy, huber_loss, squared_error
from jaxdl.nn.mlp import MLP
from jaxdl.nn.penalties import l1_penalty, l2_penalty, weight_mask
from jaxdl.nn.pooling import avg_pool, max_pool
from jaxdl.nn.repeated_blocks import RepeatedBlocks
from jaxdl.nn.scores import accuracy
from jaxdl.nn.sigmoid import sigmoid
from jaxdl.nn.softmax import cross_entropy_gradient, log_softmax, log_sum_exp, softmax, softmax_regression_gradient

__all__ = [
    "MLP",
    "RELU",
    "SIGMOID",
    "TANH",
    "Activation",
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Intermediates",
    "LayerNorm",
    "LayerShape",
    "RepeatedBlocks",
    "absolute_error",
    "accuracy",
    "avg_pool",
    "batch_norm",
    "binary_cross_entropy",
    "conv2d_im2col",
    "conv2d_input_adjoint",
    "conv2d_kernel_adjoint",
    "conv2d_matmul",
    "conv2d_naive",
    "convolution",
    "corr2d",
    "cross_entropy",
    "cross_entropy_gradient",
    "dropout",
    "huber_loss",
    "kaiming_normal",
    "kaiming_uniform",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "layer_shapes",
    "least_squares",
    "log_softmax",
    "log_sum_exp",
    "max_pool",
    "mlp_backward",
    "mlp_forward",
    "parameter_count",
    "parameter_table",
    "sigmoid",
    "softmax",
    "softmax_regression_gradient",
    "squared_error",
    "squared_loss_gradient",
    "strided_patches",
    "torch_weights",
    "weight_mask",
    "xavier_normal",
    "xavier_uniform",
]
