"""Statistics that several rooms need: bootstrap and Wilson intervals, and the Fréchet distance."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.result import Result

__all__ = [
    "Estimate",
    "cluster_interval",
    "frechet_distance",
    "ratio",
    "resampling_counts",
    "stratified_counts",
    "wilson_interval",
]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Estimate(Result):
    """A figure and its 95% interval.

    Attributes:
        value: on all samples.
        low, high: ends of the interval; NaN where no resample defines the figure.
    """

    value: float
    low: float
    high: float

    @classmethod
    def from_resamples(cls, values: _Floats) -> "Estimate":
        """The percentile bootstrap interval (Efron 1979) of a figure.

        Args:
            values: (1 + resamples,), the figure on all samples first. Resamples on which it is not
                defined, NaN, are left out.

        >>> counts = resampling_counts(100, resamples=200)
        >>> Estimate.from_resamples(counts @ np.arange(100) / 100).value
        49.5
        """
        resampled = values[1:][~np.isnan(values[1:])]
        low, high = np.percentile(resampled, (2.5, 97.5)) if len(resampled) else (np.nan, np.nan)
        return cls(float(values[0]), float(low), float(high))

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


def resampling_counts(
    n: int, resamples: int = 1_000, seed: int | np.random.Generator = 0
) -> _Floats:
    """How often each of `n` samples is drawn, (1 + resamples, n); in row 0 every one once.

    A figure that is a ratio of sums over samples is the ratio of two products with these rows, so
    that figures of several edits are resampled together.
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.vstack([np.ones(n), drawn])


def stratified_counts(
    stratum: NDArray[np.bool_], resamples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """How often each sample is drawn in each resample, (resamples, N).

    Samples inside and outside the stratum are drawn separately, with replacement, as many as there
    are, so that every resample holds both.

    >>> stratum = np.array([True, False, False])
    >>> stratified_counts(stratum, 2, np.random.default_rng(0))[:, 0]
    array([1, 1])
    """
    counts = np.zeros((resamples, len(stratum)), dtype=np.int64)
    for members in (np.flatnonzero(stratum), np.flatnonzero(~stratum)):
        if len(members):
            drawn = rng.integers(len(members), size=(resamples, len(members)))
            for row, positions in enumerate(drawn):
                counts[row] += np.bincount(members[positions], minlength=len(stratum))
    return counts


def cluster_interval(
    resampled: _Floats, value: float, clusters: int, *, inflation: float = 1.0
) -> tuple[float, float]:
    """The 95% interval of a figure in [0, 1] that was measured on a few clusters, such as images.

    Student's t on the scale of the logit, with the standard deviation of the resamples. Percentiles
    of resamples of n clusters are too narrow by the root of n / (n - 1), and by the quantile of t
    over that of the normal distribution (Hesterberg 2015, section 3.2). At 0 or 1, where no
    resample differs, Wilson's interval of a fraction of n.

    Args:
        resampled: (resamples,), the figure on each resample of the clusters; NaN where it is not
            defined.
        value: the figure on all samples.
        clusters: how many there are, n.
        inflation: by which factor the variance is larger than that of the resamples.

    >>> low, high = cluster_interval(np.array([0.7, 0.8, 0.9]), 0.8, clusters=5)
    >>> round(low, 2), round(high, 2)
    (0.45, 0.95)
    """
    if value in (0, 1):
        return wilson_interval(round(value * clusters), clusters)
    from scipy.special import expit, logit
    from scipy.stats import t

    n = max(2, clusters)
    deviation = float(np.nanstd(resampled)) * (inflation * n / (n - 1)) ** 0.5
    width = float(t.ppf(0.975, n - 1)) * deviation / (value * (1 - value))
    return float(expit(logit(value) - width)), float(expit(logit(value) + width))


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> _Floats:
    """`part / whole`, and NaN where there is no whole: nothing is measured on nothing.

    >>> ratio(np.array([1, 2]), np.array([4, 0]))
    array([0.25,  nan])
    """
    part, whole = np.broadcast_arrays(part, whole)
    quotient = np.full(part.shape, np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


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


def frechet_distance(first: _Floats, second: _Floats) -> float:
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
