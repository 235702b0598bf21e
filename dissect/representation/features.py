"""The convolutions of a discriminator as features (Radford et al. 2015, section 5.1).

    D = dissect.load("cifar32.safetensors", network="discriminator")
    features = discriminator_features(D, images)        # (N, 7168) for width 64, mapped from disk

Every convolution after its LeakyReLU is max-pooled to a grid of 4x4; all are flattened and
concatenated.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.progress import progress_bar
from dissect.data import LabelledSource
from dissect.data.cache import Identity, cache_folder, kept_payload
from dissect.hooks import edit, plain_copy, resolve_layer
from dissect.hooks.modules import not_run
from dissect.models import Discriminator, fingerprint
from dissect.models.batch_norm import recalibrate

__all__ = [
    "Features",
    "calibrated",
    "discriminator_features",
    "feature_layers",
    "pooled_features",
    "stored",
]

Features = NDArray[np.float32]
_Model = TypeVar("_Model", bound=nn.Module)

_GRID = 4
_FORMAT = 1
# A fixed size, so that the bytes do not depend on how much memory there is.
_BATCH = 100
_CALIBRATION_IMAGES = 2_000


def feature_layers(model: nn.Module, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The layers whose outputs are the features: `names`, or all the convolutions.

    Raises:
        DissectError: the model is not a `Discriminator` and none was named, or there is no such
            layer.
    """
    for name in names:
        resolve_layer(model, name)
    if names:
        return tuple(names)
    if not isinstance(model, Discriminator):
        raise DissectError(
            f"which layers of {type(model).__name__} are features? name those after the "
            "non-linearity, as in --layers layer16x16,layer8x8"
        )
    return tuple(name for name, _ in model.named_children() if name != "score")


def pooled_features(model: nn.Module, images: Tensor, layers: Sequence[str]) -> Tensor:
    """The features (N, D) float32 of `images` (N, 3, H, W) in [-1, 1], on the model's device.

    Args:
        model: in evaluation mode.
        images: what it takes.
        layers: as `feature_layers` gives them; each gives (N, C, H, W) with H and W at least 4.

    Raises:
        DissectError: what `edit` raises, a layer that does not run, or one without such a grid.
    """
    pooled: dict[str, Tensor] = {}

    # An activation that is pooled at once need not be copied, as `record` would do.
    def pool(name: str, grid: Tensor) -> Tensor:
        if grid.ndim != 4 or min(grid.shape[2:]) < _GRID:
            raise DissectError(
                f"{name} gives {tuple(grid.shape[1:])}: a feature layer has channels and a grid "
                f"of {_GRID}x{_GRID} or more"
            )
        # On a grid that 4 divides this is plain max pooling without overlap.
        small = tuple(grid.shape[2:]) == (_GRID, _GRID)
        pooled[name] = grid.clone() if small else adaptive_max_pool2d(grid, _GRID)
        return grid

    pools = {name: partial(pool, name) for name in layers}
    with torch.no_grad(), edit(model, pools, copy=False):
        model(images)
    if absent := [name for name in layers if name not in pooled]:
        raise DissectError(not_run(absent[0]))
    # The order of channels and cells is that of layers that are flattened first.
    return torch.cat([pooled[name] for name in layers], 1).flatten(1).float()


def discriminator_features(
    model: nn.Module,
    images: LabelledSource,
    *,
    layers: Sequence[str] = (),
    mirror: bool = False,
    show_progress: bool | None = None,
    description: str = "features",
) -> Features:
    """The features of every image, float32 (N, D), mapped from a file in the cache folder.

    They are computed batch by batch and are never in memory as a whole. The file is used again
    for the same weights, structure, layers and pixels.

    Args:
        model: a discriminator in evaluation mode, on the device that is used.
        images: as large as the model takes them.
        layers: names of layers; () is all convolutions of a `Discriminator`.
        mirror: average the features of an image and of its mirror image.
        show_progress: whether to show a progress bar on stderr; None: where that is a terminal.
        description: of the progress bar.

    Raises:
        DissectError: images of another size than the model's, what `pooled_features` and
            `feature_layers` raise, or the cache folder cannot be written.
    """
    chosen = feature_layers(model, layers)
    size = getattr(model, "image_size", images.size)
    if size != images.size:
        raise DissectError(
            f"the model takes images of {size} pixels and {images.name} gives {images.size}: train "
            f"one with dissect train {images.name} --image-size {images.size}"
        )
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device

    # Convolutions and pooling are faster where the channels of a pixel lie together.
    fast = plain_copy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compute(part: NDArray[np.uint8]) -> Tensor:
        # This is a view of the pixels; `to_tensor` would move the channels twice.
        x = torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return pooled_features(fast, x, chosen)

    about = f"{fingerprint(model)} {model} {','.join(chosen)} {device.type} {torch.__version__}"
    return stored(
        about, images, compute, mirror=mirror, show_progress=show_progress, description=description
    )


def stored(
    about: str,
    images: LabelledSource,
    compute: Callable[[NDArray[np.uint8]], Tensor],
    *,
    mirror: bool = False,
    show_progress: bool | None = None,
    description: str = "features",
) -> Features:
    """The results of `compute` for all images, float32 (N, D), mapped from a file in the cache.

    Args:
        about: a text of everything that the result depends on, apart from the images.
        images: the images.
        compute: from uint8 (B, H, W, 3) to (B, D).
        mirror: average the results for an image and its mirror image.
        show_progress: whether to show a progress bar on stderr.
        description: of the progress bar.

    Raises:
        DissectError: the cache folder cannot be written.
    """
    if mirror:
        about = f"{about} and of the mirror image"
        compute = partial(_with_mirror_image, compute)
    digest = hashlib.sha256(about.encode()).hexdigest()
    pixels = _digest(images)
    identity: Identity = {"format": _FORMAT, "about": digest, "images": pixels, "n": len(images)}
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    path = cache_folder() / "features" / f"{key}.bin"

    def parts() -> Iterator[NDArray[np.uint8]]:
        with progress_bar(description, len(images), show_progress) as advance:
            for start in range(0, len(images), _BATCH):
                rows = np.arange(start, min(start + _BATCH, len(images)))
                values = compute(images.images(rows)).contiguous().cpu().numpy()
                advance(len(rows))
                yield values.reshape(-1).view(np.uint8)

    payload = kept_payload(path, identity, parts)
    return payload.view(np.float32).reshape(len(images), -1)


def _with_mirror_image(
    compute: Callable[[NDArray[np.uint8]], Tensor], part: NDArray[np.uint8]
) -> Tensor:
    flipped = np.ascontiguousarray(part[:, :, ::-1])
    return (compute(part) + compute(flipped)) / 2


def calibrated(model: _Model, images: LabelledSource) -> _Model:
    """A copy whose batch-norm statistics are those of up to 2,000 images, spread over `images`.

    Statistics of the training images of another data set would not fit. The authors' code, too,
    takes them from the training images of the set that is classified.
    """
    copy = plain_copy(model)
    parameter = next(copy.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    step = max(1, len(images) // _CALIBRATION_IMAGES)
    rows = np.arange(0, len(images), step)[:_CALIBRATION_IMAGES]
    order = np.random.default_rng(0).permutation(rows)
    recalibrate(
        copy,
        (
            to_tensor(images.images(part), device)
            for part in np.array_split(order, -(-len(order) // _BATCH))
        ),
    )
    return copy


def _digest(images: LabelledSource) -> str:
    digest = hashlib.sha256(f"{images.size} {images.pixels.shape}".encode())
    for start in range(0, len(images), 1_000):
        digest.update(np.ascontiguousarray(images.pixels[start : start + 1_000]).data)
    return digest.hexdigest()
