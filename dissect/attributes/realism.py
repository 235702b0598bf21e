"""How ordinary an image is among a generator's samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect.attributes.reader import AttributeReader
from dissect.errors import DissectError

__all__ = ["Realism"]

_NEIGHBOURS = 5
_KEPT = 48  # principal components of the features


@dataclass(frozen=True)
class Realism:
    """The distance of images to ordinary samples, in a reader's features.

    Features are reduced to their main components among ordinary samples, each scaled to deviation
    1. An image's distance is the mean to its 5 nearest of one half of the samples; what is ordinary
    is told by the other half. Attributes alone do not tell a face from two laid over one another;
    this is meant to: edges that no sample has lead too far off, a blur too near the middle. It is
    only as sharp as the samples are: against those of a smudged generator, pixel-space means of
    three faces and more pass for ordinary.

    Attributes:
        range: the distances between which 95 of 100 ordinary samples lie.
    """

    reader: AttributeReader
    mean: Tensor
    components: Tensor
    reference: Tensor
    range: tuple[float, float]

    @classmethod
    def of(cls, reader: AttributeReader, samples: Tensor) -> "Realism":
        """What is ordinary among `samples` (N, 3, H, W), N at least 200.

        Raises:
            DissectError: too few samples, or a reader without features.
        """
        if len(samples) < 200:
            raise DissectError(f"realism needs at least 200 ordinary samples; got {len(samples)}")
        features = _features(reader, samples)
        first, second = features[::2], features[1::2]
        mean = first.mean(0)
        _, deviations, directions = torch.linalg.svd(first - mean, full_matrices=False)
        kept = min(_KEPT, len(deviations))
        scale = deviations[:kept].clamp(min=1e-6) / (len(first) - 1) ** 0.5
        components = directions[:kept] / scale[:, None]
        reference = (first - mean) @ components.T
        bare = cls(reader, mean, components, reference, (0.0, 0.0))
        far = bare._nearest(second)
        ends = float(far.quantile(0.025)), float(far.quantile(0.975))
        return cls(reader, mean, components, reference, ends)

    def distance(self, images: Tensor) -> Tensor:
        """How far each image (N, 3, H, W) is from ordinary ones: (N,), in deviations."""
        return self._nearest(_features(self.reader, images))

    def ordinary(self, images: Tensor) -> Tensor:
        """Whether each image lies in the range of ordinary samples: bool (N,)."""
        return self.within(self.distance(images))

    def within(self, distance: Tensor) -> Tensor:
        """Whether each distance is an ordinary one: bool (N,)."""
        return (distance >= self.range[0]) & (distance <= self.range[1])

    def _nearest(self, features: Tensor) -> Tensor:
        placed = (features - self.mean) @ self.components.T
        distances = torch.cdist(placed, self.reference)
        return distances.topk(_NEIGHBOURS, largest=False).values.mean(1)


def _features(reader: AttributeReader, images: Tensor) -> Tensor:
    if reader.features is None:
        raise DissectError("realism is measured in a reader's features, and this one has none")
    return reader.features(images).double()
