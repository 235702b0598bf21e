"""How far an image is from a generator's ordinary samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.segmentation.attribute_reader import AttributeReader

__all__ = ["Realism"]

_SHRINKAGE = 0.01  # of the correlations, towards none


@dataclass(frozen=True, eq=False, repr=False)
class Realism(ShortRepr):
    """Mahalanobis distance of images to ordinary samples, in a reader's features.

    Features are standardised, and their correlations shrunk a little, so that directions in which
    ordinary samples hardly vary do not count without bounds. These directions matter most: two
    faces laid over one another have features that single faces also have, but not together, and
    distances along the main components alone rate them as ordinary.

    One half of the samples gives the mean and the whitening, the other half the range of ordinary
    distances. An image can also be too near: a blur in the middle.

    Attributes:
        reader: whose features are used.
        mean: of the features, (F,).
        whitening: (F, F).
        range: the interval that contains the distances of 95% of the ordinary samples.
    """

    reader: AttributeReader
    mean: Tensor
    whitening: Tensor
    range: tuple[float, float]

    @classmethod
    def from_samples(cls, reader: AttributeReader, samples: Tensor) -> "Realism":
        """The distances among `samples` (N, 3, H, W), N at least 200.

        About four times as many samples as the reader has features are needed for a sharp measure.

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
        correlations.diagonal().add_(_SHRINKAGE)
        lower = torch.linalg.cholesky(correlations)
        eye = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        whitening = torch.linalg.solve_triangular(lower, eye, upper=False).T / spread[:, None]
        distances = _distance(second, mean, whitening)
        interval = float(distances.quantile(0.025)), float(distances.quantile(0.975))
        return cls(reader, mean, whitening, interval)

    def distance(self, images: Tensor) -> Tensor:
        """The distance of each image (N, 3, H, W) to ordinary ones: (N,), in stds."""
        return _distance(_features(self.reader, images), self.mean, self.whitening)

    def is_ordinary(self, images: Tensor) -> Tensor:
        """Whether each image lies in the range of ordinary samples: bool (N,)."""
        return self.within(self.distance(images))

    def within(self, distance: Tensor) -> Tensor:
        """Whether each distance lies in the range of ordinary samples: bool (N,)."""
        return (distance >= self.range[0]) & (distance <= self.range[1])


def _distance(features: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    distance: Tensor = ((features - mean) @ whitening).norm(dim=1)
    return distance


def _features(reader: AttributeReader, images: Tensor) -> Tensor:
    if reader.features is None:
        raise DissectError("realism is measured in a reader's features, and this one has none")
    return reader.features(images).double()
