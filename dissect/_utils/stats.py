"""Statistics that several rooms need."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["frechet_distance", "wilson_interval"]


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """The 95% interval of the fraction `count` of `total` (Wilson 1927); (0, 1) of nothing.

    >>> low, high = wilson_interval(19, 20)
    >>> round(low, 4), round(high, 4)
    (0.7639, 0.9911)
    """
    if not total:
        return (0.0, 1.0)
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return (float(interval.low), float(interval.high))


def frechet_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Fréchet distance between two sets of features (n, F), each taken for normal.

    |m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al. 2017, section 3). In the
    features of a segmenter its numbers are not those of Inception; they compare with one another.
    """
    means = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the root of a product: by the eigenvalues of the symmetric form, which are not
    # negative but for rounding.
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    middle = np.clip(np.linalg.eigvalsh(root @ two @ root), 0, None)
    return float(means @ means + np.trace(one) + np.trace(two) - 2 * np.sqrt(middle).sum())
