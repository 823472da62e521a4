"""Derivatives of attention under other transformations: forward mode, twice, mapped, scanned, sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import needs_pallas

from jaxdl.kernels import attention, attention_blockwise, interpret


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention_blockwise, "BLOCK", 4)


def arguments(dtype=jnp.float64, q_len=7, kv_len=11):
    """Four heads of queries and two of keys and values, of two examples."""
    rng = np.random.default_rng(1)
    shapes = (2, q_len, 4, 8), (2, kv_len, 2, 8), (2, kv_len, 2, 8)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


FORWARD_MODES = {
    "jvp": lambda f, q: jax.jvp(f, (q,), (q,)),
    "jvp of vmap": lambda f, q: jax.jvp(jax.vmap(lambda x: f(x[None])), (q,), (q,)),
    "jitted jvp": lambda f, q: jax.jit(lambda q: jax.jvp(f, (q,), (q,)))(q),
    "jvp of jitted": lambda f, q: jax.jvp(jax.jit(f), (q,), (q,)),
    "jacfwd": lambda f, q: jax.jacfwd(f)(q),
    "jitted jacfwd": lambda f, q: jax.jit(jax.jacfwd(f))(q),
    "hessian": lambda f, q: jax.hessian(lambda q: f(q).sum())(q),
    "linearize": lambda f, q: jax.linearize(f, q)[1](q),
}


@pytest.mark.parametrize("mode", FORWARD_MODES)
def test_forward_mode_is_the_references(mode):
    q, *_ = arguments(jnp.float32)
    if mode == "jvp":
        _, slope = FORWARD_MODES[mode](lambda q: attention(q, q, q, implementation="reference"), q)
        assert slope.any()
    with pytest.raises(TypeError, match=r"'blockwise' of attention has reverse mode only.*'reference' and 'xla'"):
        FORWARD_MODES[mode](lambda q: attention(q, q, q, implementation="blockwise"), q)


@needs_pallas
@pytest.mark.parametrize("mode", ["jvp", "jacfwd", "hessian"])
def test_pallas_has_no_forward_mode(mode):
    q, *_ = arguments(jnp.bfloat16)
    with interpret(), pytest.raises(TypeError, match="'pallas' of attention has reverse mode only"):
        FORWARD_MODES[mode](lambda q: attention(q, q, q, implementation="pallas"), q)


@needs_pallas
def test_pallas_has_no_second_derivatives():
    """Also without running a kernel, which only an array would."""
    q = jax.ShapeDtypeStruct((1, 8, 1, 64), jnp.bfloat16)

    def slope(q):
        return jax.grad(lambda q: jnp.sum(attention(q, q, q, implementation="pallas").astype("float32") ** 2))(q)

    with interpret(), pytest.raises(TypeError, match="'pallas' of attention has first derivatives only"):
        jax.eval_shape(jax.grad(lambda q: jnp.sum(slope(q).astype("float32"))), q)


def by_shards(attend, check_vma):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.PartitionSpec("data")
    return jax.shard_map(attend, mesh=mesh, in_specs=(split,) * 3, out_specs=split, check_vma=check_vma)


def layers(layer, q):
    return jax.lax.scan(lambda q, _: (layer(q), None), q, None, length=2)[0]


REVERSE_MODES = {  # of the sum of squares of attention
    "jit": lambda f, q: jax.grad(jax.jit(lambda q: jnp.sum(f(q, q, q) ** 2)))(q),
    "values alone": lambda f, q: jax.grad(lambda v: jnp.sum(f(q, q, v) ** 2))(q),
    "vmap": lambda f, q: jax.grad(lambda v: jnp.sum(jax.vmap(f, (0, None, None))(q[None], q, v) ** 2))(q),
    "scan, remat": lambda f, q: jax.grad(lambda q: jnp.sum(layers(jax.checkpoint(lambda x: f(x, q, x)), q) ** 2))(q),
    "shards": lambda f, q: jax.grad(lambda q: jnp.sum(by_shards(f, False)(q, q, q) ** 2))(q),
}


@pytest.mark.parametrize("mode", REVERSE_MODES)
def test_reverse_mode_under_other_transformations(mode):
    q, *_ = arguments(jnp.float32)
    ours, theirs = (
        REVERSE_MODES[mode](lambda q, k, v, i=i: attention(q, k, v, is_causal=True, implementation=i), q)
        for i in ("blockwise", "reference")
    )
    assert theirs.any()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)  # sums of some hundred products of about 1


def test_second_derivatives():
    q, k, v = arguments(jnp.float32)

    def slope(q, implementation):
        return jax.grad(lambda q: jnp.sum(attention(q, k, v, implementation=implementation) ** 2))(q).sum()

    assert jax.grad(slope)(q, "reference").any()
    with pytest.raises(TypeError, match="'blockwise' of attention has first derivatives only; 'reference'"):
        jax.grad(slope)(q, "blockwise")
