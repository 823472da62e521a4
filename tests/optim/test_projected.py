"""Projected steps: they stay in the set, and end at the solution that scipy and algebra give."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import projections

from jaxdl import optim

TARGET = np.array([2.0, 0.5, -1.0])
SETS = {  # where the nearest point to (2, 0.5, -1) is, by hand
    "ball": (projections.projection_l2_ball, TARGET / np.linalg.norm(TARGET)),
    "box": (lambda x: projections.projection_box(x, -0.5, 1.0), [1.0, 0.5, -0.5]),
    "simplex": (projections.projection_simplex, [1.0, 0.0, 0.0]),
    "half-space": (lambda x: projections.projection_halfspace(x, jnp.ones(3), 0.0), TARGET - 0.5),
    "non-negative": (projections.projection_non_negative, [2.0, 0.5, 0.0]),
}


@pytest.mark.parametrize("name", SETS)
def test_it_ends_at_the_nearest_point_of_the_set(x64, name):
    """Half the squared distance is minimised over a set by the projection itself, from any start and optimiser."""
    projection, nearest = SETS[name]
    gradient = jax.grad(lambda x: jnp.sum((x - TARGET) ** 2) / 2)
    for optimizer in (optim.sgd(0.3), optim.momentum(0.1, 0.5)):
        path = optim.trajectory(gradient, optim.projected(optimizer, projection), jnp.zeros(3), 200)
        np.testing.assert_allclose(jax.vmap(projection)(path[1:]), path[1:], atol=1e-12)
        np.testing.assert_allclose(path[-1], nearest, atol=1e-9)


def test_projection_onto_a_ball_is_gradient_clipping(x64):
    gradients = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4))), "b": jnp.ones(4)}
    for radius in (0.5, 100.0):
        clipped, _ = optax.clip_by_global_norm(radius).update(gradients, optax.EmptyState())
        projected = projections.projection_l2_ball(gradients, radius)
        for one, other in zip(jax.tree.leaves(clipped), jax.tree.leaves(projected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_it_needs_the_parameters():
    optimizer = optim.projected(optim.sgd(0.1), projections.projection_simplex)
    with pytest.raises(ValueError, match="params: expected the parameters, as update"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
