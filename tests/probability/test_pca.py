"""PCA against scikit-learn and against the eigenvectors of the covariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.probability import PCA


def data(seed=0, shape=(40, 5)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + rng.normal(size=shape[1])


@pytest.mark.parametrize("shape", [(40, 5), (4, 9)], ids=["tall", "wide"])
def test_scikit_learn_agrees(x64, shape):
    x, new = data(0, shape), data(1, shape)
    ours, reference = PCA.fit(x, 3), sklearn.decomposition.PCA(3, svd_solver="full").fit(x)
    np.testing.assert_allclose(ours.components, reference.components_, atol=1e-10)
    np.testing.assert_allclose(ours.variances, reference.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(ours.variances / ours.total_variance, reference.explained_variance_ratio_, rtol=1e-10)
    z = ours.transform(new)
    np.testing.assert_allclose(z, reference.transform(new), atol=1e-10)
    np.testing.assert_allclose(ours.inverse_transform(z), reference.inverse_transform(np.asarray(z)), atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), shape=st.sampled_from([(2, 1), (6, 3)]))
def test_what_defines_it(seed, shape):
    with jax.enable_x64(True):
        x = data(seed, shape)
        k = min(shape)
        pca = PCA.fit(x, k)
        np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(k), atol=1e-12)
        z = pca.transform(x)
        covariance = np.atleast_2d(np.cov(x, rowvar=False))
        along = pca.components @ covariance @ pca.components.T  # diagonal: the components are uncorrelated
        np.testing.assert_allclose(along, np.diag(pca.variances), atol=1e-9)
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance)[::-1][:k], pca.variances, atol=1e-9)
        np.testing.assert_allclose(pca.inverse_transform(z), x, atol=1e-9)
        lost = np.square(x - PCA.fit(x, 1).inverse_transform(PCA.fit(x, 1).transform(x))).sum() / (len(x) - 1)
        assert lost == pytest.approx(float(pca.total_variance - pca.variances[0]), abs=1e-9)


def test_it_is_a_pytree_and_compiles():
    x = data(2, (6, 3)).astype(np.float32)
    pca = jax.jit(PCA.fit, static_argnums=1)(x, 2)
    np.testing.assert_allclose(jax.jit(lambda pca, x: pca.transform(x))(pca, x), PCA.fit(x, 2).transform(x), atol=1e-4)
    assert pca.components.dtype == jnp.float32


def test_the_same_point_twice_has_no_direction():
    pca = PCA.fit([[1.0, 2.0], [1.0, 2.0]], 1)
    assert float(pca.total_variance) == 0
    assert pca.transform([[1.0, 2.0]]).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: PCA.fit([1.0, 2.0], 1), r"x: expected an array of rank 2, got shape \[2\]"),
        (lambda: PCA.fit([[1.0, 2.0]], 1), "x: expected at least two examples, got 1"),
        (lambda: PCA.fit(np.eye(3), 4), r"num_components: expected 1 to 3 for x of shape \[3, 3\], got 4"),
        (lambda: PCA.fit(np.eye(3), 0), "num_components: expected 1 to 3"),
        (lambda: PCA.fit(np.eye(3), 1).transform(np.eye(2)), r"x: expected \[examples, 3\], got \[2, 2\]"),
        (lambda: PCA.fit(np.eye(3), 1).inverse_transform(np.eye(2)), r"z: expected \[examples, 1\], got \[2, 2\]"),
    ],
)
def test_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function()
