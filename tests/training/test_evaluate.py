"""Evaluation and prediction over all examples."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import ListData, eval_fn, make_batch, make_params, make_state

from jaxdl.data.device_data import DeviceData
from jaxdl.training import evaluate, predict

STATE = make_state(optax.sgd(0.1))


def logits(params, model_state, batch):
    return {"logits": jnp.tanh(batch["x"] @ params["w"]) @ params["v"], "y": batch["y"]}


def test_evaluate_is_numpy_over_the_unmasked_examples():
    arrays = {name: np.asarray(x) for name, x in make_batch(1, 23).items()}
    figures = evaluate(eval_fn, STATE, DeviceData(arrays, 5, train=False))
    w, v = (np.asarray(make_params()[name], np.float64) for name in "wv")
    z = np.tanh(arrays["x"].astype(np.float64) @ w) @ v
    z -= np.log(np.exp(z).sum(1, keepdims=True))
    real = arrays["mask"] == 1
    assert figures["loss"] == pytest.approx(-z[np.arange(23), arrays["y"]][real].mean(), rel=1e-5)
    assert figures["accuracy"] == pytest.approx((z.argmax(1) == arrays["y"])[real].mean(), rel=1e-6)


def test_predict_gives_every_example_once_in_order():
    arrays = {name: np.asarray(x) for name, x in make_batch(1, 23).items() if name != "mask"}
    outputs = predict(logits, STATE, DeviceData(arrays, 5, train=False))
    np.testing.assert_array_equal(outputs["y"], arrays["y"])
    np.testing.assert_allclose(outputs["logits"], logits(STATE.params, {}, arrays)["logits"], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exact_is_refused():
    training = DeviceData({"x": np.ones((5, 2), np.float32)}, 2, train=True)
    for function in (evaluate, predict):
        with pytest.raises(ValueError, match="expected at least one batch to evaluate, got none"):
            function(eval_fn, STATE, ListData([]))
        with pytest.raises(ValueError, match=r"batches with a 'mask'.*got \['x'\]"):
            function(eval_fn, STATE, training)


def test_predict_wants_one_output_an_example():
    data = DeviceData({"x": np.ones((5, 2), np.float32)}, 2, train=False)
    with pytest.raises(ValueError, match=r"output\['total'\] of shape \[2, ...\], got \[\]"):
        predict(lambda params, model_state, batch: {"total": batch["x"].sum()}, STATE, data)
