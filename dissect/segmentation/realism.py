"""How ordinary an image is among a generator's samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect.segmentation.attribute_reader import AttributeReader

__all__ = ["Realism"]

_SHRUNK = 0.01  # towards no correlation


@dataclass(frozen=True)
class Realism:
    """The distance of images to ordinary samples, in a reader's features.

    It is the Mahalanobis distance: features are measured against how far ordinary samples stray in
    each direction, the correlations shrunk a little so that directions in which they hardly stray
    at all do not count without bounds. These directions matter most. Two faces laid over one
    another have features that single faces have too, but not together; distances along the main
    components alone take them for ordinary. One half of the samples tells how features stray, the
    other what distances are ordinary. An image can also lie too near: a blur in the middle.

    Attributes:
        range: the distances between which 95 of 100 ordinary samples lie.
    """

    reader: AttributeReader
    mean: Tensor
    whitening: Tensor
    range: tuple[float, float]

    @classmethod
    def of(cls, reader: AttributeReader, samples: Tensor) -> "Realism":
        """What is ordinary among `samples` (N, 3, H, W), N at least 200.

        Four times as many samples as the reader has features make it sharp.

        Raises:
            DissectError: too few samples, or a reader without features.
        """
        if len(samples) < 200:
            raise DissectError(f"realism needs at least 200 ordinary samples; got {len(samples)}")
        features = _features(reader, samples)
        first, second = features[::2], features[1::2]
        mean, spread = first.mean(0), first.std(0)
        # A channel that is silent in all samples must not make noise in an image infinite.
        spread = spread.clamp(min=1e-3 * float(spread.mean()) + 1e-12)
        scaled = (first - mean) / spread
        correlations = scaled.T @ scaled / (len(first) - 1)
        correlations.diagonal().add_(_SHRUNK)
        lower = torch.linalg.cholesky(correlations)
        eye = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        whitening = torch.linalg.solve_triangular(lower, eye, upper=False).T / spread[:, None]
        bare = cls(reader, mean, whitening, (0.0, 0.0))
        far = bare._distance(second)
        ends = float(far.quantile(0.025)), float(far.quantile(0.975))
        return cls(reader, mean, whitening, ends)

    def distance(self, images: Tensor) -> Tensor:
        """How far each image (N, 3, H, W) is from ordinary ones: (N,), in deviations."""
        return self._distance(_features(self.reader, images))

    def ordinary(self, images: Tensor) -> Tensor:
        """Whether each image lies in the range of ordinary samples: bool (N,)."""
        return self.within(self.distance(images))

    def within(self, distance: Tensor) -> Tensor:
        """Whether each distance is an ordinary one: bool (N,)."""
        return (distance >= self.range[0]) & (distance <= self.range[1])

    def _distance(self, features: Tensor) -> Tensor:
        far: Tensor = ((features - self.mean) @ self.whitening).norm(dim=1)
        return far


def _features(reader: AttributeReader, images: Tensor) -> Tensor:
    if reader.features is None:
        raise DissectError("realism is measured in a reader's features, and this one has none")
    return reader.features(images).double()
