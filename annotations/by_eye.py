"""How many windows a person counts before and after, without knowing which is which.

    python annotations/by_eye.py sheets      # 600 images in random order, numbered
    python annotations/by_eye.py count       # the marks in by_eye.txt, by state
    python annotations/by_eye.py agree       # what the segmenter says of the 150 images before

The 150 fresh samples stand in four states: before, every unit with a positive weight removed
everywhere (the paper), the same units removed where the probe sees a window, and as many random
units removed everywhere. All 600 images are shuffled together, so that whoever marks those that
show a window cannot tell the states apart but by what is to be seen.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from dissect import Annotations, annotation_file, load
from dissect.annotated import fit_from_boxes
from dissect.comparison import compare, fresh_latents
from dissect.figures import boxes_sheet
from dissect.files import save_image
from dissect.segment import open_segmenter

MODEL, CONCEPT, LAYER = "bedrooms64", "window", "layer8x8"
SAMPLES, SEED, ORDER_SEED, PER_SHEET = 150, 1, 21, 100
SEEN_PIXELS = 20  # as in `dissect segment`
MARKS = Path(__file__).resolve().parent / MODEL / "by_eye.txt"


def order() -> np.ndarray:
    """Which image, of the four states one after the other, stands at each place."""
    return np.random.default_rng(ORDER_SEED).permutation(4 * SAMPLES)


def sheets(out: Path) -> None:
    """Write the shuffled images, a hundred a sheet."""
    generator = load(MODEL)
    annotations = Annotations.load(annotation_file(MODEL, CONCEPT))
    probe = fit_from_boxes(generator, annotations, LAYER, scored=False)
    z = fresh_latents(generator, SAMPLES, SEED, annotations)
    states = compare(generator, z, probe.units("positive"), probe=probe, control_seed=SEED)
    images = np.concatenate(list(states.values()))[order()]
    for first in range(0, len(images), PER_SHEET):
        shown = images[first : first + PER_SHEET]
        names = [str(first + k) for k in range(len(shown))]
        sheet = boxes_sheet(shown, [()] * len(shown), names, columns=10, scale=2)
        print("wrote", save_image(out / f"{first:03d}.png", sheet))


def marks() -> set[int]:
    """Places of the marked images."""
    words = " ".join(line.partition("#")[0] for line in MARKS.read_text().splitlines()).split()
    return {int(word) for word in words}


def agree(segmenter: str | None) -> None:
    """Print how the segmenter and the eye agree on which images, before any edit, show a window."""
    generator = load(MODEL)
    annotations = Annotations.load(annotation_file(MODEL, CONCEPT))
    with torch.inference_mode():
        images = generator(fresh_latents(generator, SAMPLES, SEED, annotations))
    eyes = open_segmenter(segmenter)
    pixels = (eyes.labels(images) == eyes.number(CONCEPT)).sum((1, 2)).numpy()
    seen = pixels >= SEEN_PIXELS
    marked = np.zeros(SAMPLES, bool)
    marked[[place for place in order()[sorted(marks())] if place < SAMPLES]] = True
    print(f"{(seen & marked).sum():>4} of {marked.sum()} images that the eye marked, it marks too")
    print(f"{(seen & ~marked).sum():>4} of {(~marked).sum()} images that the eye did not, it marks")


def count() -> None:
    """Print how many images of each state were marked."""
    marked = marks()
    state = order() // SAMPLES
    for number, name in enumerate(("before", "everywhere", "probe", "random")):
        n = sum(bool(state[place] == number) for place in marked)
        print(f"{name:<12}{n:>4} of {SAMPLES} images show a window")


def main() -> None:
    """Make the sheets or count the marks."""
    parser = argparse.ArgumentParser(description="Windows counted by eye, states unknown.")
    parser.add_argument("what", choices=("sheets", "count", "agree"))
    parser.add_argument("--out", type=Path, default=Path("out/by_eye"))
    parser.add_argument("--segmenter", help="a file; the bundled one by default")
    given = parser.parse_args()
    if given.what == "sheets":
        sheets(given.out)
    elif given.what == "agree":
        agree(given.segmenter)
    else:
        count()


if __name__ == "__main__":
    main()
