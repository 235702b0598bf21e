"""What de-duplication finds of planted copies: `python benchmarks/dedup.py bedrooms`.

A part of a source's images is copied as pictures are copied on the web; the copies join the
source, and `dissect.data.dedup` hashes all of it as `dissect dedup` does. Recall is the share of
copies that are found with their original. Precision is the share of pairs in one group that are
indeed of one original. Beside it ("equal") stand our codes where they are equal bit for bit, the
exact hash of the pixels and the difference hash of the imagehash library. Images that are the same
byte for byte in the source itself are left out first.

`--codes 1000000` measures how long it takes to group so many codes.
"""

import argparse
import hashlib
import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from imagehash import dhash
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageEnhance

from dissect.data import source
from dissect.data.decode import square_image
from dissect.data.dedup import (
    CERTAIN,
    SIDE,
    first_alike,
    first_of_each,
    fit_hasher,
    groups_of,
    hash_images,
)
from dissect.data.protocol import Indices
from dissect.figures.collisions import collision_sheet

Change = Callable[[Image.Image], Image.Image]


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _recompressed(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        return Image.open(io.BytesIO(_encoded(image, "JPEG", quality=quality))).convert("RGB")

    return change


def _shifted(pixels: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        moved = ImageChops.offset(image, pixels, 0)
        # What comes in at the edge is what was there.
        moved.paste(image.crop((0, 0, pixels, image.height)), (0, 0))
        return moved

    return change


def _brightened(factor: float) -> Change:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


COPIES: dict[str, Change] = {
    "copy": lambda image: image,
    "JPEG, quality 90": _recompressed(90),
    "JPEG, quality 75": _recompressed(75),
    "JPEG, quality 50": _recompressed(50),
    "brightness x 1.1": _brightened(1.1),
    "brightness x 1.2": _brightened(1.2),
    "brightness x 0.8": _brightened(0.8),
    "x 1.1, JPEG 75": lambda image: _recompressed(75)(_brightened(1.1)(image)),
    "shifted by 1 pixel": _shifted(1),
    "shifted by 2 pixels": _shifted(2),
}


class Pool:
    """The source and the copies, as 32x32 images made of files as `folder:` makes them."""

    name, size = "planted copies", SIDE

    def __init__(self, originals: list[Image.Image], copied: int, seed: int) -> None:
        files = [_encoded(image, "PNG") for image in originals]
        families = list(range(len(originals)))
        self.kinds = ["original"] * len(originals)
        random = np.random.default_rng(seed)
        for kind, change in COPIES.items():
            for place in random.choice(len(originals), copied, replace=False).tolist():
                files.append(_encoded(change(originals[place]), "PNG"))
                families.append(place)
                self.kinds.append(kind)
        self.families = np.array(families)
        self.files = files
        self._pixels = np.stack([square_image(file, SIDE) for file in files])

    def __len__(self) -> int:
        return len(self._pixels)

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """As any source."""
        pixels: NDArray[np.uint8] = self._pixels[np.asarray(indices)]
        return pixels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Planted duplicates: recall and precision.")
    parser.add_argument("source", nargs="?", help="bedrooms, folder:PATH or a .tar.xz of images")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--copied", type=int, default=500, help="copies of each kind")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codes", type=int, help="only time the grouping of so many codes")
    parser.add_argument("--sheet", type=Path, help="false collisions, for the eye")
    options = parser.parse_args()
    if options.codes:
        _time_grouping(options.codes)
        return
    originals = _distinct(_read(options.source, options.images))
    pool = Pool(originals, options.copied, options.seed)
    began = time.process_time()
    hasher = fit_hasher(pool, steps=options.steps, seed=options.seed)
    trained = time.process_time() - began
    codes, near_threshold = hash_images(hasher, pool)
    hashed = time.process_time() - began - trained
    found = {
        "ours": first_alike(codes, near_threshold),
        "equal": first_of_each(codes),
        "exact": _by_value([hashlib.sha256(_pixels(file)).digest() for file in pool.files]),
        "dhash": _by_value([_difference_hash(file) for file in pool.files]),
    }
    print(f"{len(originals)} images of {options.source}, {len(pool)} with the copies; codes of")
    print(
        f"{hasher.n_bits} bits, expected to miss {hasher.expected_missed:.1%} of disturbed copies"
    )
    print(f"processor time: training {trained:.0f} s, hashing {hashed:.1f} s")
    print(f"{'recall':22}" + "".join(f"{name:>9}" for name in found))
    kinds = np.array(pool.kinds)
    for kind in COPIES:
        rows = np.flatnonzero(kinds == kind)
        shares = [(first[rows] == first[pool.families[rows]]).mean() for first in found.values()]
        print(f"{kind:22}" + "".join(f"{share:9.3f}" for share in shares))
    measured = {name: _precision(first, pool.families) for name, first in found.items()}
    print(f"{'precision of pairs':22}" + "".join(f"{right:9.4f}" for right, _ in measured.values()))
    print(f"{'wrong pairs':22}" + "".join(f"{wrong:9d}" for _, wrong in measured.values()))
    if options.sheet:
        _draw_wrong(found["ours"], pool, options.sheet)


def _precision(first: NDArray[np.int64], families: NDArray[np.int64]) -> tuple[float, int]:
    """The share of pairs of one code that are of one original, and how many are not."""
    right = wrong = 0
    for group in groups_of(first):
        _, sizes = np.unique(families[group], return_counts=True)
        same = int((sizes * (sizes - 1) // 2).sum())
        right += same
        wrong += len(group) * (len(group) - 1) // 2 - same
    return right / max(right + wrong, 1), wrong


def _draw_wrong(first: NDArray[np.int64], pool: Pool, path: Path) -> None:
    wrong = [group for group in groups_of(first) if len(set(pool.families[group].tolist())) > 1]
    if wrong:
        rows = [(group, pool.images(group[:6])) for group in wrong[:40]]
        collision_sheet(rows, caption="groups of one code and more than one original").save(path)


def _by_value(values: list[bytes]) -> NDArray[np.int64]:
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(value, place) for place, value in enumerate(values)])


def _pixels(file: bytes) -> bytes:
    return Image.open(io.BytesIO(file)).convert("RGB").tobytes()


def _difference_hash(file: bytes) -> bytes:
    bits: NDArray[np.bool_] = dhash(Image.open(io.BytesIO(file))).hash
    return np.packbits(bits).tobytes()


def _distinct(images: Iterator[Image.Image]) -> list[Image.Image]:
    return list({image.tobytes(): image for image in images}.values())


def _read(spec: str, count: int) -> Iterator[Image.Image]:
    if not spec.endswith(".tar.xz"):
        opened = source(spec, size=64, count=count)
        for start in range(0, count, 1000):
            for pixels in opened.images(list(range(start, min(start + 1000, count)))):
                yield Image.fromarray(pixels)
        return
    with tarfile.open(spec) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None or not member.name.lower().endswith((".jpg", ".png", ".jpeg")):
                continue
            yield Image.open(stream).convert("RGB")
            count -= 1
            if count == 0:
                return


def _time_grouping(count: int) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**63, (count, 2), dtype=np.uint64)
    copies = random.integers(0, count, count // 10)
    codes[copies] = codes[(copies * 7 + 1) % count]
    # The worst case: every image has two bits near their thresholds.
    near_threshold = np.sort(random.integers(0, 128, (count, 2), dtype=np.uint8))
    near_threshold[near_threshold[:, 0] == near_threshold[:, 1], 1] = CERTAIN
    began, clock = time.process_time(), time.perf_counter()
    first = first_alike(codes, near_threshold)
    used, passed = time.process_time() - began, time.perf_counter() - clock
    duplicates = int((first != np.arange(count)).sum())
    print(
        f"{count} codes, {duplicates} of them duplicates, grouped in {passed:.2f} s "
        f"({used:.2f} s of processor time, {codes.nbytes // count} bytes a code)"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
