"""Layers and the functions around them: losses and scores per example, penalties, initialisers, tables of shapes.

Models are Flax Linen modules. Losses and scores return one figure per example; `jaxdl.training.Mean` sums them. What a
chapter teaches is written out beside the production form: `softmax`, `dropout`, `batch_norm`, `least_squares`, the
backward pass of an MLP, and the steps of the recurrent layers, `rnn_cell`, `gru_cell`, `lstm_cell`. What a
transformer repeats, `MultiHeadAttention` and `TransformerBlock`, stands on `jaxdl.kernels.attention`. `torch_weights`
takes over what was trained in PyTorch.
"""

from jaxdl.nn import torch_weights
from jaxdl.nn.additive_attention import AdditiveAttention
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
from jaxdl.nn.dense import Dense
from jaxdl.nn.dropout import Dropout, dropout
from jaxdl.nn.feed_forward import FeedForward
from jaxdl.nn.initializers import kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform
from jaxdl.nn.inspection import LayerShape, layer_shapes, parameter_count, parameter_table
from jaxdl.nn.kernel_regression import (
    boxcar_kernel,
    constant_kernel,
    epanechikov_kernel,
    gaussian_kernel,
    kernel_regression,
)
from jaxdl.nn.layer_norm import LayerNorm, layer_norm
from jaxdl.nn.linear_regression import least_squares
from jaxdl.nn.losses import absolute_error, binary_cross_entropy, cross_entropy, huber_loss, squared_error
from jaxdl.nn.masked_softmax import masked_softmax
from jaxdl.nn.mlp import MLP
from jaxdl.nn.multi_head_attention import KVCache, MultiHeadAttention
from jaxdl.nn.penalties import kernel_mask, l1_penalty, l2_penalty, weight_mask
from jaxdl.nn.pooling import avg_pool, max_pool
from jaxdl.nn.positions import LearnedPositions, relative_position_bias, rotary_positions, sinusoidal_positions
from jaxdl.nn.recurrent import GRU, LSTM, RNN
from jaxdl.nn.recurrent_cells import CellWeights, LSTMState, gru_cell, lstm_cell, rnn_cell
from jaxdl.nn.repeated_blocks import RepeatedBlocks
from jaxdl.nn.rms_norm import RMSNorm
from jaxdl.nn.scores import accuracy
from jaxdl.nn.sigmoid import sigmoid
from jaxdl.nn.softmax import cross_entropy_gradient, log_softmax, log_sum_exp, softmax, softmax_regression_gradient
from jaxdl.nn.transformer_block import STACKED_TENSOR_PARALLEL, TENSOR_PARALLEL, TransformerBlock

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "RELU",
    "RNN",
    "SIGMOID",
    "STACKED_TENSOR_PARALLEL",
    "TANH",
    "TENSOR_PARALLEL",
    "Activation",
    "AdditiveAttention",
    "BatchNorm",
    "CellWeights",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "FeedForward",
    "Intermediates",
    "KVCache",
    "LSTMState",
    "LayerNorm",
    "LayerShape",
    "LearnedPositions",
    "MultiHeadAttention",
    "RMSNorm",
    "RepeatedBlocks",
    "TransformerBlock",
    "absolute_error",
    "accuracy",
    "avg_pool",
    "batch_norm",
    "binary_cross_entropy",
    "boxcar_kernel",
    "constant_kernel",
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
    "epanechikov_kernel",
    "gaussian_kernel",
    "gru_cell",
    "huber_loss",
    "kaiming_normal",
    "kaiming_uniform",
    "kernel_mask",
    "kernel_regression",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "layer_shapes",
    "least_squares",
    "log_softmax",
    "log_sum_exp",
    "lstm_cell",
    "masked_softmax",
    "max_pool",
    "mlp_backward",
    "mlp_forward",
    "parameter_count",
    "parameter_table",
    "relative_position_bias",
    "rnn_cell",
    "rotary_positions",
    "sigmoid",
    "sinusoidal_positions",
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
