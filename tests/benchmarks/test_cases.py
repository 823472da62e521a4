"""Every case is the network that it is named after, and has a peer."""

import importlib.util
import re
import sys
from pathlib import Path

import jax
import pytest

from jaxdl import training

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNTS = {
    "mlp": 203_530,
    "lenet": 61_706,
    "lenet_relu_max": 61_706,
    "vgg": 43_093_322 - (7**2 - 3**2) * 128 * 4096,  # the book's at 96 pixels instead of 224
    "nin": 1_992_166,
    "googlenet": 5_977_530,
    "resnet18": 11_178_378,
    "densenet": 758_226,
    "rnn_small": 2_908,
    "gru_small": 6_876,
    "lstm_small": 8_860,
    "lstm": 300_060,
    "rnn_large": 864_528,
    "gru_large": 2_557_128,
    "lstm_large": 3_403_428,
    "transformer": 1000 * 256 + 128 * 256 + 2 * (12 * 256**2 + 13 * 256) + 2 * 256,
}
INPUTS = {  # batch size and shape of an example
    **dict.fromkeys(("mlp", "lenet", "lenet_relu_max"), (256, (28, 28, 1))),
    **dict.fromkeys(("vgg", "nin", "googlenet", "resnet18", "densenet"), (32, (96, 96, 1))),
    **dict.fromkeys(("rnn_small", "gru_small", "lstm_small"), (32, (35, 28))),
    "lstm": (32, (64, 28)),
    **dict.fromkeys(("rnn_large", "gru_large", "lstm_large"), (64, (35, 650))),
    "transformer": (16, (129,)),
}


@pytest.fixture(scope="module")
def cases():
    spec = importlib.util.spec_from_file_location("benchmark_cases", BENCHMARKS / "cases.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_each_has_a_peer(cases):
    worker = (BENCHMARKS / "peers" / "torch_worker.py").read_text()
    assert set(re.findall(r'"(\w+)": torch_\w+\.', worker)) == set(cases.CASES) == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_its_parameters_and_examples(cases, name, monkeypatch):
    def shapes(init, optimizer, key):
        return jax.eval_shape(lambda key: original(init, optimizer, key), key)

    original = training.init_state
    monkeypatch.setattr(training, "init_state", shapes)  # nothing is computed
    case = cases.CASES[name]()
    assert case.num_parameters == COUNTS[name]
    assert case.num_batches % 10 == 0  # so the default --steps-per-call fits
    examples = case.examples(3)
    assert (case.batch_size, next(iter(examples.values())).shape[1:]) == INPUTS[name]
    kinds = {"int32"} if "tokens" in examples else {"float32", "int32"}
    assert {str(x.dtype) for x in examples.values()} == kinds
