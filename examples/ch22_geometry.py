"""Geometry of vectors, hyperplanes and matrices; eigenvalues (D2L 22.1, 22.2); perceptron and PCA (systems course).

    python examples/ch22_geometry.py
    python examples/ch22_geometry.py --data mnist --train-split "test[:8000]" --eval-split "test[8000:]"
    python examples/ch22_geometry.py --data fashion_mnist --threshold -1500000

Takes 6 s of processor time. On digits both hyperplanes tell all 66 zeros and ones of the test part apart, on MNIST's
test files (second command) 0.995 of 437 by the difference of the class means and 0.998 by the perceptron. The
perceptron makes 8 and 12 corrections before it makes none; Novikoff's bound allows 76 and 172. The third command is the
book's own, with its threshold; we have not run it. Pictures: Gershgorin's discs and a matrix applied over and over, the
hyperplanes as images, and the digits in their two principal components.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.svm import SVC

from jaxdl import experiment, plotting
from jaxdl.data import load
from jaxdl.probability import PCA, Perceptron, mistake_bound

Facts = Iterator[tuple[str, Any, Any]]  # what it is, its value, and what that should be
DISCS = np.array([[1.0, 0.1, 0.1, 0.1], [0.1, 3.0, 0.2, 0.3], [0.1, 0.2, 5.0, 0.5], [0.1, 0.3, 0.5, 9.0]])


@dataclass(frozen=True)
class Config:
    """Looks at vectors and matrices, and tells zeros from ones by a hyperplane."""

    data: str = "digits"
    """Data set of the images; the default is embedded and needs no network."""
    train_split: str = "train"
    """What to find the hyperplane from, in TFDS notation, such as "train[:80%]"."""
    eval_split: str = "test"
    """What to evaluate on."""
    threshold: float | None = None
    """Where the hyperplane lies, on pixels from 0 to 256 as in the book; default: halfway between the class means."""
    seed: int = 0
    """Of the random matrices."""
    folder: Path | None = None
    """Where the pictures go; default: a new run's folder."""


def angles_and_matrices() -> Facts:
    """22.1  Dot products measure angles, determinants volumes; inverses undo; einsum sums over indices."""
    v, w = jnp.array([0.0, 1, 2]), jnp.array([2.0, 3, 4])
    cosine = v @ w / (jnp.linalg.norm(v) * jnp.linalg.norm(w))
    yield "cosine of (0, 1, 2) and (2, 3, 4)", cosine, 11 / math.sqrt(5 * 29)
    yield "their angle", jnp.arccos(cosine), 0.418990
    a, b = jax.random.normal(jax.random.key(0), (2, 10_000))
    yield "cosine of two random vectors of 10,000", (a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))).round(1), 0
    m = jnp.array([[1.0, 2], [1, 4]])
    yield "inverse of [[1, 2], [1, 4]]", jnp.linalg.inv(m), [[2, -1], [-0.5, 0.5]]
    yield "the inverse times the matrix", jnp.linalg.inv(m) @ m, np.eye(2)
    yield "determinant of [[1, -1], [2, 3]]", jnp.linalg.det(jnp.array([[1.0, -1], [2, 3]])), 5
    yield "rank of [[2, 4], [-1, -2]]", jnp.linalg.matrix_rank(jnp.array([[2.0, 4], [-1, -2]])), 1
    m, x = jnp.arange(6.0).reshape(2, 3), jnp.arange(3.0)
    yield "einsum('ij,j->i', A, x), A x", jnp.einsum("ij,j->i", m, x), [5, 14]
    yield "einsum('ij,kj->ik', A, A), A A^T", jnp.einsum("ij,kj->ik", m, m), [[5, 14], [14, 50]]
    t = jnp.arange(24.0).reshape(2, 3, 4)
    yield "einsum('ijk,j->', T, x)", jnp.einsum("ijk,j->", t, x), 92 + 2 * 124


def eigenvalues() -> Facts:
    """22.2  Along an eigenvector a matrix stretches by the eigenvalue; Gershgorin's discs hold all eigenvalues."""
    a = jnp.array([[2.0, 1], [2, 3]])
    values, vectors = np.linalg.eig(a)
    yield "eigenvalues of [[2, 1], [2, 3]]", np.sort(values), [1, 4]
    yield "A W - W diag(values)", a @ vectors - vectors * values[None], np.zeros((2, 2))
    yield "W diag(values) W^-1", vectors @ np.diag(values) @ np.linalg.inv(vectors), a
    yield "determinant and trace: product and sum", [jnp.linalg.det(a), jnp.trace(a)], [4, 5]
    symmetric = jnp.linalg.eigvalsh(DISCS)
    yield "eigenvalues of the 4 x 4 matrix", symmetric.round(3), [0.992, 2.973, 4.954, 9.080]
    distance = abs(symmetric - jnp.diagonal(DISCS)) <= abs(DISCS).sum(1) - jnp.diagonal(DISCS)
    yield "each within its disc?", distance.all(), True


def hyperplane(config: Config, folder: Path) -> dict[str, float]:
    """22.1.3  The direction from the mean of one class to that of the other, and a threshold, make a classifier."""
    print(f"\n{hyperplane.__doc__}")

    def zeros_and_ones(split: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        arrays = load(config.data, split)
        kept = arrays["label"] < 2
        images = arrays["image"][kept]
        return 256 * images.reshape(len(images), -1), arrays["label"][kept], images.shape[1:]

    (x, label, shape), (test_x, test_label, _) = zeros_and_ones(config.train_split), zeros_and_ones(config.eval_split)
    means = np.stack([x[label == i].mean(0) for i in (0, 1)])
    w = means[1] - means[0]
    threshold = float(w @ means.mean(0)) if config.threshold is None else config.threshold
    accuracy = float(((test_x @ w > threshold) == test_label).mean())
    print(f"  {config.data}: classes 0 and 1, {len(x):,} images to find it, {len(test_x):,} to evaluate")
    print(f"  accuracy {accuracy:.4f} with a threshold of {threshold:,.0f}")

    signs = 2 * label - 1
    model = Perceptron.fit(x / 256, signs, epochs=200)
    made, bound = int(model.mistakes.sum()), math.inf
    perceptron_accuracy = float((model.predict(test_x / 256) == 2 * test_label - 1).mean())
    verdict = "and has not converged"
    if int(model.mistakes[-1]) == 0:
        widest = SVC(kernel="linear", C=1e6).fit(x / 256, signs)  # the separating hyperplane of the widest margin
        bound = float(mistake_bound(x / 256, signs, widest.coef_[0], widest.intercept_[0]))
        verdict = f"then none; by Novikoff's bound there are {bound:,.0f} at most"
    print(f"  perceptron: accuracy {perceptron_accuracy:.4f} after {made} corrections, {verdict}")
    xor = Perceptron.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [-1, 1, 1, -1], epochs=100)
    print(f"  on XOR it errs {int(xor.mistakes.sum())} times in 100 passes, {int(xor.mistakes[-1])} times in the last")

    pictures = np.stack([means[0], means[1], w, np.asarray(model.weights)]).reshape(4, *shape)
    titles = ["mean of class 0", "mean of class 1", "their difference", "perceptron's weights"]
    title = "Bright pixels speak for class 1, dark ones for class 0"
    plotting.images(pictures, titles, folder / "hyperplanes.png", columns=4, title=title)
    return {
        "accuracy": accuracy,
        "perceptron_accuracy": perceptron_accuracy,
        "corrections": made,
        "bound": bound,
        "xor_mistakes_in_the_last_pass": float(xor.mistakes[-1]),
    }


def iterated_map(config: Config) -> tuple[np.ndarray, dict[str, float]]:
    """22.2.5  Applied over and over, a matrix stretches by its greatest eigenvalue: how fast a deep network explodes.

    Returns:
      By how much each of the first 100 applications stretches, and the figures.
    """
    print("\n22.2.5  Applied over and over, a matrix stretches by its greatest eigenvalue.")
    rng = np.random.default_rng(config.seed)
    a = rng.normal(size=(5, 5))
    largest = float(abs(np.linalg.eigvals(a)).max())

    def apply(v: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        v = jnp.asarray(a) @ v
        length = jnp.linalg.norm(v)
        return v / length, length

    _, stretches = jax.lax.scan(apply, jnp.asarray(rng.normal(size=5)), length=600)
    stretch = float(jnp.exp(jnp.log(stretches[100:]).mean()))  # complex eigenvalues turn: it varies from time to time
    change = float(jnp.exp(jnp.log(stretches[100:] / largest).sum()))
    print(f"  a random 5 x 5 matrix stretches by {stretch:.6f} a time; its greatest |eigenvalue| is {largest:.6f}")
    print(f"  divided by that, in 500 times it stretches by {change:.3f}: it neither explodes nor vanishes")
    return np.asarray(stretches[:100]), {"stretch": stretch, "greatest eigenvalue": largest, "change": change}


def components(config: Config, folder: Path) -> dict[str, float]:
    """Principal components: the eigenvectors of the covariance with the greatest eigenvalues (systems course)."""
    print(f"\n{components.__doc__}")
    arrays = load(config.data, config.train_split)
    images = arrays["image"][:2000]
    x = images.reshape(len(images), -1)
    pca = PCA.fit(x, 20)
    shares = np.asarray(pca.variances / pca.total_variance)
    print(
        f"  of the variance of {x.shape[1]} pixels 2 components hold {shares[:2].sum():.0%}, 20 hold {shares.sum():.0%}"
    )
    covariance = jnp.cov(x, rowvar=False)
    difference = float(abs(jnp.linalg.eigvalsh(covariance)[::-1][:20] - pca.variances).max())

    picture = plotting.figure(6.4, 4.6)
    axes = picture.subplots()
    z, label = np.asarray(pca.transform(x)), arrays["label"][: len(x)]
    for i in range(int(label.max()) + 1):
        axes.plot(*z[label == i, :2].T, ".", markersize=3, color=f"C{i}")
        axes.annotate(str(i), np.median(z[label == i, :2], axis=0), fontsize=14, weight="bold")
    axes.set(xlabel="first component", ylabel="second component")
    axes.set_title(f"{config.data} in two of {x.shape[1]} dimensions: {shares[:2].sum():.0%} of the variance")
    picture.savefig(folder / "components.png", dpi=120)
    return {"variance in 2": float(shares[:2].sum()), "variance in 20": float(shares.sum()), "pca_error": difference}


def draw_eigenvalues(stretches: np.ndarray, largest: float, path: Path) -> None:
    """Gershgorin's discs with the eigenvalues, and how the iterated map settles."""
    from matplotlib.patches import Circle

    picture = plotting.figure(12, 3.6)
    left, right = picture.subplots(1, 2, width_ratios=[1.6, 1])
    for i, (row, centre) in enumerate(zip(DISCS, np.diagonal(DISCS), strict=True)):
        left.add_patch(Circle((centre, 0), abs(row).sum() - centre, alpha=0.3, color=f"C{i}"))
    values = np.linalg.eigvalsh(DISCS)
    left.plot(np.diagonal(DISCS), 0 * values, "k+", label="diagonal: centres")
    left.plot(values, 0 * values, "k.", label="eigenvalues")
    left.set(xlim=(0, 10.5), ylim=(-1.6, 1.6), aspect="equal", xlabel="real part", ylabel="imaginary part")
    left.set_title("Gershgorin's discs, as wide as the rest of the row")
    left.legend(loc="upper left", fontsize=8)
    steps = np.arange(1, len(stretches) + 1)
    curves = {"stretch by this application": stretches, "greatest |eigenvalue|": np.full(len(steps), largest)}
    plotting.lines(steps, curves, xlabel="application", title="A random matrix, applied over and over", axes=right)
    picture.savefig(path, dpi=120)


def main(config: Config) -> dict[str, float]:
    """Runs all sections, draws their pictures, and returns the figures."""
    folder = config.folder or experiment.run_folder("ch22_geometry")
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    with jax.enable_x64(True):
        for section in (angles_and_matrices, eigenvalues):
            print(f"\n{section.__doc__}")
            for name, value, expected in section():
                np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=name)
                shown = np.array2string(np.asarray(value), precision=6, separator=", ", suppress_small=True)
                print(f"  {name:<42}" + shown.replace("\n", ""))
                if np.ndim(value) == 0:
                    figures[name] = float(value)
        stretches, stretch_figures = iterated_map(config)
        draw_eigenvalues(stretches, stretch_figures["greatest eigenvalue"], folder / "eigenvalues.png")
    figures |= stretch_figures | hyperplane(config, folder) | components(config, folder)
    print(f"\npictures: {', '.join(str(path) for path in sorted(folder.glob('*.png')))}")
    return figures


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
