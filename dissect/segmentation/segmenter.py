"""Segmenters: functions from images to the class of every pixel."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from threading import RLock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.text import near_names
from dissect.segmentation.regions import majority_vote, region_class_ids
from dissect.segmentation.unet import UNet

__all__ = ["Segmenter", "image_features"]

_BATCH = 64

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Segmenter(ShortRepr):
    """A named class for every pixel of an image; any callable can be wrapped.

    Studies of effects call a segmenter from several threads. Its functions are therefore run one
    at a time, under one lock, unless `thread_safe` declares that they may overlap.

    Attributes:
        classes: the names of the classes, in the order of the numbers that `label` gives.
        label: images (N, 3, H, W) in [-1, 1] to class numbers (N, H, W), int64.
        probability: images to (N, K, H, W) in [0, 1], with gradients, or None. Rules that follow
            gradients need it.
        features: images to (N, F), a space in which samples are compared, or None.
        source: the rendered source that it was trained on, such as `bedrooms`, or None.
        thread_safe: whether its functions may run in several threads at the same time.
        autocast: whether its functions may compute in bfloat16 where others around them do.

    >>> bright = Segmenter(("dark", "bright"), lambda images: (images.mean(1) > 0).long())
    >>> bright.labels(torch.ones(1, 3, 1, 2)).tolist()
    [[[1, 1]]]
    """

    classes: tuple[str, ...]
    label: Function
    probability: Function | None = None
    features: Function | None = None
    source: str | None = None
    thread_safe: bool = False
    autocast: bool = False

    def __post_init__(self) -> None:
        lock = nullcontext() if self.thread_safe else RLock()
        if self.thread_safe and self.autocast:
            return
        for name in ("label", "probability", "features"):
            function = getattr(self, name)
            if function is not None:
                guarded = _guarded(function, lock, autocast=self.autocast)
                object.__setattr__(self, name, guarded)

    @classmethod
    def from_unet(cls, network: UNet, source: str | None = None) -> "Segmenter":
        """The segmenter of a U-Net as it is now; later training does not change it.

        Each connected region of the network's `region_classes` gets a single class
        (`majority_vote`).
        """
        network = network.folded()
        device = next(network.parameters()).device
        class_ids = region_class_ids(network.classes, network.region_classes)

        def label(images: Tensor) -> Tensor:
            with torch.inference_mode():
                parts = []
                for part in images.split(_BATCH):
                    logits = network(part.to(device))
                    probabilities = torch.softmax(logits, 1)[:, class_ids]
                    voted = majority_vote(logits.argmax(1), probabilities, class_ids)
                    parts.append(voted.to(images.device))
            return torch.cat(parts)

        def features(images: Tensor) -> Tensor:
            with torch.inference_mode():
                parts = [
                    network.features(part.to(device)).to(images.device)
                    for part in images.split(_BATCH)
                ]
            return torch.cat(parts)

        def probability(images: Tensor) -> Tensor:
            return torch.softmax(network(images), 1)

        return cls(network.classes, label, probability, features, source, True, True)

    def class_id(self, concept: str) -> int:
        """The number of the class `concept`.

        Raises:
            DissectError: the segmenter has no such class.
        """
        if concept not in self.classes:
            near = near_names(concept, self.classes)
            raise DissectError(f"the segmenter does not know {concept!r}; it knows: {near}")
        return self.classes.index(concept)

    def labels(self, images: Tensor) -> Tensor:
        """The class of every pixel, (N, H, W) int64, checked.

        Raises:
            DissectError: the callable gives another shape, or numbers without a name.
        """
        labels = self.label(images)
        expected = (images.shape[0], *images.shape[2:])
        if tuple(labels.shape) != expected or labels.is_floating_point():
            raise DissectError(
                f"the segmenter must give whole numbers of shape {expected}, one a pixel; it gave "
                f"{labels.dtype} {tuple(labels.shape)}"
            )
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise DissectError(
                f"the segmenter gave class {int(labels.max())}, and has {len(self.classes)} names"
            )
        return labels.long()


def image_features(segmenter: Segmenter, images: Tensor) -> NDArray[np.float64]:
    """The segmenter's features of `images` (N, 3, H, W), by which images are compared: (N, F).

    Raises:
        DissectError: it has none.
    """
    if segmenter.features is None:
        raise DissectError("this segmenter has no features to compare images in")
    with torch.inference_mode():
        features: NDArray[np.float64] = segmenter.features(images).double().cpu().numpy()
    return features


def _guarded(
    function: Function, lock: AbstractContextManager[object], *, autocast: bool
) -> Function:
    """The function within the lock, and in float32 where it may not compute in another type."""

    @wraps(function)
    def guarded(images: Tensor) -> Tensor:
        with lock:
            if autocast or not torch.is_autocast_enabled(images.device.type):
                return function(images)
            with torch.autocast(images.device.type, enabled=False):
                return function(images.float())

    return guarded
