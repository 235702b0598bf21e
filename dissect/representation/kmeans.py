"""One layer of K-means as features (Coates and Ng 2011), the baseline of the paper's Table 1.

"The importance of encoding versus training with sparse coding and vector quantization" and
Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature learning":
patches of 6x6 pixels, each brought to mean 0 and std 1, and whitened; K centroids. A patch is
encoded by how much nearer than average each centroid is ("triangle"), and codes are summed over
quadrants.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import unfold

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.data import LabelledSource
from dissect.representation.features import Features, stored

__all__ = ["PatchCode", "fit_patches", "kmeans_features"]

_SIDE = 6
_PATCHES = 200_000
# Added to squared grey levels 0 to 255, and to eigenvalues of normalised patches (the authors).
_CONTRAST, _WHITENING = 10.0, 0.1
# Two images and their distances fit into the processor's cache: a third less time than with 20.
_IMAGES = 2
_STEPS, _BATCH = 300, 4_096


@dataclass(frozen=True, repr=False)
class PatchCode(ShortRepr):
    """Whitening and centroids of 6x6 patches.

    Attributes:
        mean: float32 (108,), of the normalised patches.
        whitening: float32 (108, 108), symmetric.
        centroids: float32 (K, 108), in the whitened space.
    """

    mean: Features
    whitening: Features
    centroids: Features

    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """The features (N, 4 K) of uint8 images (N, H, W, 3)."""
        centroids = torch.from_numpy(self.centroids)
        whitening = torch.from_numpy(self.whitening)
        mean = torch.from_numpy(self.mean)
        lengths = centroids.square().sum(1)
        codes = []
        for start in range(0, len(images), _IMAGES):
            patches = _normalised(images[start : start + _IMAGES])
            n, places, width = patches.shape
            white = (patches.reshape(-1, width) - mean) @ whitening
            squared = torch.addmm(lengths, white, centroids.T, alpha=-2)
            squared += white.square().sum(1, keepdim=True)
            distance = squared.clamp_(min=0).sqrt_()
            code = (distance.mean(1, keepdim=True) - distance).clamp_(min=0)
            side = round(places**0.5)
            grid = code.reshape(n, side, side, -1)
            half = (side + 1) // 2
            quadrants = [
                grid[:, rows, columns].sum((1, 2))
                for rows in (slice(0, half), slice(half, None))
                for columns in (slice(0, half), slice(half, None))
            ]
            codes.append(torch.cat(quadrants, 1))
        return torch.cat(codes)


def fit_patches(images: LabelledSource, k: int, seed: int = 0) -> PatchCode:
    """Whitening and `k` centroids of 200,000 random patches, by scikit-learn's MiniBatchKMeans.

    Args:
        images: the training images.
        k: number of centroids, at least 2.
        seed: of the patches and of the centroids.

    Raises:
        DissectError: fewer patches than centroids, or k below 2.
    """
    from sklearn.cluster import MiniBatchKMeans

    random = np.random.default_rng((seed, k))
    if k < 2:
        raise DissectError(f"K-means needs at least 2 centroids; got {k}")
    places = images.size - _SIDE + 1
    each = min(places * places, -(-_PATCHES // len(images)))
    chosen = np.arange(len(images))
    if len(images) * each > _PATCHES:
        chosen = np.sort(random.permutation(len(images))[: max(1, _PATCHES // each)])
    parts = []
    for start in range(0, len(chosen), 500):
        patches = _normalised(images.images(chosen[start : start + 500])).numpy()
        picked = random.integers(0, patches.shape[1], (len(patches), each))
        parts.append(np.take_along_axis(patches, picked[:, :, None], 1).reshape(-1, 108))
    sample = np.concatenate(parts)
    if len(sample) < k:
        raise DissectError(f"{len(sample)} patches are fewer than the {k} centroids asked for")
    mean = sample.mean(0)
    values, vectors = np.linalg.eigh(np.cov((sample - mean).T.astype(np.float64)))
    whitening = (vectors / np.sqrt(np.maximum(values, 0) + _WHITENING)) @ vectors.T
    white = (sample - mean) @ whitening.astype(np.float32)
    epochs = max(1, round(_STEPS * _BATCH / len(white)))
    model = MiniBatchKMeans(
        k,
        batch_size=_BATCH,
        n_init=1,
        init="random",
        max_iter=epochs,
        random_state=seed,
        compute_labels=False,
    ).fit(white)
    centroids = np.asarray(model.cluster_centers_, np.float32)
    return PatchCode(mean.astype(np.float32), whitening.astype(np.float32), centroids)


def kmeans_features(
    code: PatchCode,
    images: LabelledSource,
    *,
    mirror: bool = False,
    show_progress: bool | None = None,
) -> Features:
    """The features of every image, float32 (N, 4 K), mapped from a file in the cache folder.

    With `mirror` they are means over an image and its mirror image.

    Raises:
        DissectError: the cache folder cannot be written.
    """
    digest = hashlib.sha256(
        b"".join(part.tobytes() for part in (code.mean, code.whitening, code.centroids))
    ).hexdigest()
    return stored(
        f"kmeans {digest} {torch.__version__}",
        images,
        code.encode,
        mirror=mirror,
        show_progress=show_progress,
        description="K-means features",
    )


def _normalised(images: NDArray[np.uint8]) -> Tensor:
    """Every patch (N, places, 108), brought to mean 0 and std 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    patches = unfold(pixels, _SIDE).transpose(1, 2)
    variance, mean = torch.var_mean(patches, 2, keepdim=True)
    return (patches - mean) / (variance + _CONTRAST).sqrt()
