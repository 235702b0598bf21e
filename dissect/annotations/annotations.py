"""Boxes that people drew around a concept: COCO JSON in and out, and boxes as grid coverage."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.io import write_json
from dissect._utils.result import Result
from dissect._utils.text import near_names
from dissect.annotations.boxes import AnnotatedImage, Box, union_fraction
from dissect.annotations.coco import Coco, coco_dict, read_coco
from dissect.annotations.identity import matches_digest

__all__ = [
    "Agreement",
    "Annotations",
    "annotation_file",
    "pair_iou",
]

_IMAGES_NAMED = 8


@dataclass(frozen=True, repr=False)
class Annotations(Result):
    """The boxes of one concept on a set of images.

    Attributes:
        concept: what the boxes are around.
        images: in the order of the rows that `coverage` gives.
        model: the fingerprint of the generator that drew the images, where that is known.
        info: how, when and by whom the boxes were drawn; anything that JSON can hold.

    Raises:
        DissectError: no concept, two images of the same latent, or info that JSON cannot hold.

    >>> boxes = Annotations.load(annotation_file("bedrooms64", "window"))
    >>> len(boxes), boxes.n_boxes, tuple(boxes.coverage(8).shape)
    (150, 52, (150, 8, 8))
    """

    concept: str
    images: tuple[AnnotatedImage, ...]
    model: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        if not self.concept:
            raise DissectError("annotations need a concept, such as 'window'")
        drawn_from = Counter(
            (image.seed, image.index) for image in self.images if image.seed is not None
        )
        twice = [latent for latent, count in drawn_from.items() if count > 1]
        if twice:
            raise DissectError(
                f"the latent of seed {twice[0][0]} and index {twice[0][1]} has two images; "
                "merge their boxes into one"
            )
        if "model" in self.info:
            raise DissectError("the fingerprint goes under 'model' itself, not into 'info'")
        try:
            # What comes back from the file is what was given, tuples and odd keys made plain.
            plain = json.loads(json.dumps(dict(self.info), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise DissectError(f"'info' holds what JSON cannot: {error}") from error
        object.__setattr__(self, "info", plain)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def boxes(self) -> tuple[tuple[Box, ...], ...]:
        """The boxes of every image."""
        return tuple(image.boxes for image in self.images)

    @property
    def n_boxes(self) -> int:
        """How many boxes there are on all images together."""
        return sum(len(image.boxes) for image in self.images)

    @property
    def digest(self) -> str:
        """The SHA-256 of concept, images and boxes: 64 hexadecimal digits."""
        content = [self.concept, [asdict(image) for image in self.images]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels.

        Raises:
            DissectError: they are not all of one size, or there are none.
        """
        sizes = {(image.height, image.width) for image in self.images}
        if len(sizes) != 1:
            raise DissectError(f"the annotated images are of {len(sizes)} sizes, not of one")
        return sizes.pop()

    @property
    def latent_rows(self) -> tuple[tuple[int, int], ...]:
        """(seed, index) of every image: what to draw to see the annotated images again.

        Raises:
            DissectError: an image that records no latent.
        """
        rows = []
        for image in self.images:
            if image.seed is None or image.index is None:
                raise DissectError(
                    f"the image {image.name!r} records no latent; boxes on it can be read, but "
                    "the generator cannot draw it again"
                )
            rows.append((image.seed, image.index))
        return tuple(rows)

    @property
    def seed(self) -> int:
        """The seed of the latents: the images are rows `start` to `start + len(self)` of it.

        Raises:
            DissectError: an image without a latent, or rows that do not follow one another;
                `latent_rows` has them whatever they are.
        """
        return self._first_row[0]

    @property
    def start(self) -> int:
        """The index of the first image's latent: see `seed`.

        Raises:
            DissectError: as `seed`.
        """
        return self._first_row[1]

    @property
    def _first_row(self) -> tuple[int, int]:
        rows = self.latent_rows
        if not rows or any(
            row != (rows[0][0], rows[0][1] + position) for position, row in enumerate(rows)
        ):
            raise DissectError(
                f"the {len(self)} images are not consecutive latents of one seed; each image's "
                "own seed and index are in 'latent_rows'"
            )
        return rows[0]

    @classmethod
    def load(
        cls, path: str | Path, concept: str | None = None, *, allow_empty: bool = False
    ) -> "Annotations":
        """The boxes of one concept in a COCO file, ours or any annotation tool's.

        Ids may be whole numbers or strings. Keys that are not needed are ignored. A box that is
        missing is the bounds of the polygon. Crowd regions (`iscrowd`) are skipped. Every image
        of the file counts as looked at, with boxes or without.

        Args:
            path: the JSON file.
            concept: the category's name. Without it, the only category, or the only one that
                anything is drawn for.
            allow_empty: whether a concept without a single box is welcome (work in progress).

        Raises:
            DissectError: one line with the file, the entry and what is wrong with it.
        """
        coco = read_coco(path, concept, allow_empty=allow_empty)
        try:
            return cls(coco.concept, coco.images, coco.model, coco.info)
        except DissectError as error:
            raise DissectError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the annotations as COCO; `load` gives the same ones back."""
        return write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The annotations as an object of COCO JSON, which is what `save` writes."""
        return coco_dict(Coco(self.concept, self.images, self.model, dict(self.info)))

    def summary(self) -> dict[str, Any]:
        """The concept, and how many images and boxes there are."""
        return {"concept": self.concept, "images": len(self), "boxes": self.n_boxes}

    def rows(self) -> list[dict[str, Any]]:
        """One row a box: the image, and the box in pixels."""
        return [
            {"image": image.name, **asdict(box)} for image in self.images for box in image.boxes
        ]

    def coverage(self, grid: int | tuple[int, int]) -> Tensor:
        """The fraction of every cell's area that lies inside boxes, (N, h, w) float32 in [0, 1].

        The grid divides each image into h x w equal cells, whatever its size in pixels. The
        fraction is of the union, so overlapping boxes count once, and it is exact: nothing is
        sampled.

        Args:
            grid: (h, w), or one number for both.

        Raises:
            DissectError: a grid without cells.
        """
        rows, columns = (grid, grid) if isinstance(grid, int) else grid
        if rows < 1 or columns < 1:
            raise DissectError(f"a grid has at least 1 x 1 cells, not {rows} x {columns}")
        covered = np.zeros((len(self.images), rows, columns), dtype=np.float32)
        for number, image in enumerate(self.images):
            if image.boxes:
                covered[number] = union_fraction(image, rows, columns)
        return torch.from_numpy(covered)

    def differing(self, images: npt.NDArray[np.uint8] | Tensor) -> tuple[int, ...]:
        """The places of the images that are not those that were annotated.

        Images that record no digest pass.

        Args:
            images: in the order of `images`: (N, H, W, 3) uint8, compared to the byte; or floats
                (N, C, H, W) in [-1, 1] as a generator gives them, compared within rounding, which
                may differ by processor (see `matches_digest`).

        Raises:
            DissectError: another number of images, or another shape or type.
        """
        if images.ndim != 4 or len(images) != len(self):
            raise DissectError(
                f"the annotations are of {len(self)} images: give them as ({len(self)}, H, W, 3), "
                f"not {tuple(images.shape)}"
            )
        return tuple(
            position
            for position, (image, pixels) in enumerate(zip(self.images, images, strict=True))
            if image.sha256 is not None and not matches_digest(pixels, image.sha256)
        )

    def check_images(self, images: npt.NDArray[np.uint8] | Tensor) -> None:
        """Nothing, where the images are the ones that were annotated (see `differing`).

        Raises:
            DissectError: some are not; it says which.
        """
        others = self.differing(images)
        if others:
            named = ", ".join(
                repr(self.images[position].name) for position in others[:_IMAGES_NAMED]
            )
            more = ", ..." if len(others) > _IMAGES_NAMED else ""
            raise DissectError(
                f"{len(others)} of {len(self)} images are not the ones annotated ({named}{more}): "
                "draw each from its own latent with the annotated model, or annotate these"
            )

    def check_model(self, fingerprint: str) -> None:
        """Nothing, where the images were drawn by this model, or by one that is not recorded.

        Raises:
            DissectError: another model drew them.
        """
        if self.model is not None and self.model != fingerprint:
            raise DissectError(
                f"the boxes were drawn on images of model {self.model}, and this is "
                f"{fingerprint}: load that model, or annotate images of this one"
            )


def annotation_file(model: str, concept: str) -> Path:
    """Where the boxes that come with `dissect` lie, for a bundled model and a concept.

    Raises:
        DissectError: none for this model or this concept; it names those there are.

    >>> annotation_file("bedrooms64", "window").name
    'window.json'
    """
    package = Path(__file__).resolve().parents[1]
    # An installed package carries the folder inside; a checkout has it beside.
    folders = (package / "bundled_annotations", package.parent / "annotations")
    files = {
        (file.parent.name, file.stem): file
        for folder in folders[::-1]
        for file in folder.glob("*/*.json")
    }
    if (model, concept) not in files:
        known = near_names(f"{model} {concept}", (" ".join(names) for names in files))
        raise DissectError(f"no boxes of {concept!r} come with {model!r}; there are: {known}")
    return files[model, concept]


@dataclass(frozen=True)
class Agreement:
    """How two passes over the same images agree.

    Attributes:
        mean_iou: of the boxes that pair, in [0, 1]; 0 where none does.
        n_paired: boxes that overlap a box of the other pass and were paired with it.
        n_only_first, n_only_second: boxes without a partner, a pass.
    """

    mean_iou: float
    n_paired: int
    n_only_first: int
    n_only_second: int


def pair_iou(first: Annotations, second: Annotations) -> Agreement:
    """How well two passes over the same images agree, box by box.

    On each image the boxes are paired one to one so that the sum of IoU is largest (the
    Hungarian method); boxes that do not overlap are never a pair. Images are matched by latent,
    or else by file name; their order is free.

    Raises:
        DissectError: the passes are over different images.
    """
    from scipy.optimize import linear_sum_assignment

    boxes_of_second = _by_identity(second)
    boxes_of_first = _by_identity(first)
    if boxes_of_first.keys() != boxes_of_second.keys():
        differing = len(boxes_of_first.keys() ^ boxes_of_second.keys())
        raise DissectError(
            f"the two passes are over different images: {differing} are in one of them only"
        )
    paired: list[float] = []
    for identity, boxes in boxes_of_first.items():
        others = boxes_of_second[identity]
        overlaps = np.array([[box.iou(other) for other in others] for box in boxes])
        if overlaps.size:
            chosen = overlaps[linear_sum_assignment(overlaps, maximize=True)]
            paired.extend(chosen[chosen > 0].tolist())
    return Agreement(
        mean_iou=float(np.mean(paired)) if paired else 0.0,
        n_paired=len(paired),
        n_only_first=first.n_boxes - len(paired),
        n_only_second=second.n_boxes - len(paired),
    )


def _by_identity(annotations: Annotations) -> dict[object, tuple[Box, ...]]:
    boxes: dict[object, tuple[Box, ...]] = {}
    for image in annotations.images:
        identity = image.file_name if image.seed is None else (image.seed, image.index)
        if identity is None or identity in boxes:
            raise DissectError(
                f"the image {image.name!r} cannot be told from another one: passes are compared "
                "by latent or by file name"
            )
        boxes[identity] = image.boxes
    return boxes
