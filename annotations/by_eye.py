"""How many windows a person counts before and after, without knowing which is which.

    python annotations/by_eye.py sheets      # 600 images in random order, numbered
    python annotations/by_eye.py count       # the marks in by_eye.txt, by state
    python annotations/by_eye.py agree       # how the segmenter agrees on the 150 images before

The 150 fresh samples stand in four states: before, every unit with a positive weight removed
everywhere (the paper), the same units removed where the probe sees a window, and as many random
units removed everywhere. All 600 images are shuffled together, so that whoever marks those that
show a window cannot tell the states apart but by what is to be seen. With `--rule auto` it is what
that rule chose, everywhere and gated, and the gated edit of random units; marks in
by_eye_auto.txt.
"""

import argparse
from pathlib import Path

import numpy as np

from dissect import Annotations, annotation_file, load
from dissect._utils.images import to_images
from dissect._utils.io import write_image
from dissect.effect.compare import compare, fresh_latents
from dissect.figures import boxes_sheet
from dissect.models import bundled_file, generate
from dissect.probe import fit_probe_from_boxes
from dissect.segmentation import load_segmenter
from dissect.selection.stored import load_results
from dissect.surgery import Intervention

MODEL, CONCEPT, LAYER = "bedrooms64", "window", "layer8x8"
SAMPLES, SEED, PER_SHEET = 150, 1, 100
SEEN_PIXELS = 20  # as in `dissect segment`
FOLDER = Path(__file__).resolve().parent / MODEL
# By rule: where the marks are, the seed of the order, and the names of the states.
MARKS = {"positive": FOLDER / "by_eye.txt", "auto": FOLDER / "by_eye_auto.txt"}
ORDER_SEEDS = {"positive": 21, "auto": 22}
STATES = {
    "positive": ("before", "everywhere", "probe", "random"),
    "auto": ("before", "everywhere", "probe", "random, probe"),
}


def order(rule: str) -> np.ndarray:
    """Which image, of the four states one after the other, stands at each place."""
    return np.random.default_rng(ORDER_SEEDS[rule]).permutation(4 * SAMPLES)


def states(rule: str) -> list[np.ndarray]:
    """The images of each state, in the order of `STATES`."""
    generator = load(MODEL)
    annotations = Annotations.load(annotation_file(MODEL, CONCEPT))
    z = fresh_latents(generator, SAMPLES, SEED, annotations)
    if rule == "positive":
        probe = fit_probe_from_boxes(generator, annotations, layer=LAYER, scored=False)
        units = probe.units("positive")
        edit = Intervention(units)
        return list(compare(generator, z, edit, gate=probe, control_seed=SEED).values())
    chosen = load_results(bundled_file(MODEL, f"auto-{CONCEPT}-{LAYER}.json"))
    everywhere, gated = chosen["everywhere"].intervention, chosen["probe"].intervention
    edits = (None, everywhere, gated, gated.control(SEED))
    return [to_images(generate(generator, z, edit=edit)) for edit in edits]


def sheets(rule: str, out: Path) -> None:
    """Write the shuffled images, a hundred a sheet."""
    images = np.concatenate(states(rule))[order(rule)]
    for first in range(0, len(images), PER_SHEET):
        shown = images[first : first + PER_SHEET]
        names = [str(first + k) for k in range(len(shown))]
        sheet = boxes_sheet(shown, [()] * len(shown), names, columns=10, scale=2)
        print("wrote", write_image(out / f"{first:03d}.png", sheet))


def marks(rule: str) -> set[int]:
    """Places of the marked images."""
    lines = MARKS[rule].read_text().splitlines()
    words = " ".join(line.partition("#")[0] for line in lines).split()
    return {int(word) for word in words}


def agree(rule: str, segmenter: str | None) -> None:
    """Print how the segmenter and the eye agree on which images, before any edit, show a window."""
    generator = load(MODEL)
    annotations = Annotations.load(annotation_file(MODEL, CONCEPT))
    images = generate(generator, fresh_latents(generator, SAMPLES, SEED, annotations))
    reader = load_segmenter(segmenter)
    pixels = (reader.labels(images) == reader.class_id(CONCEPT)).sum((1, 2)).numpy()
    seen = pixels >= SEEN_PIXELS
    marked = np.zeros(SAMPLES, bool)
    marked[[place for place in order(rule)[sorted(marks(rule))] if place < SAMPLES]] = True
    print(f"{(seen & marked).sum():>4} of {marked.sum()} images that the eye marked, it marks too")
    print(f"{(seen & ~marked).sum():>4} of {(~marked).sum()} images that the eye did not, it marks")


def count(rule: str) -> None:
    """Print how many images of each state were marked."""
    marked = marks(rule)
    state = order(rule) // SAMPLES
    for number, name in enumerate(STATES[rule]):
        n = sum(bool(state[place] == number) for place in marked)
        print(f"{name:<16}{n:>4} of {SAMPLES} images show a window")


def main() -> None:
    """Make the sheets or count the marks."""
    parser = argparse.ArgumentParser(description="Windows counted by eye, states unknown.")
    parser.add_argument("what", choices=("sheets", "count", "agree"))
    parser.add_argument("--rule", choices=tuple(STATES), default="positive")
    parser.add_argument("--out", type=Path, default=Path("out/by_eye"))
    parser.add_argument("--segmenter", help="a file; the bundled one by default")
    options = parser.parse_args()
    if options.what == "sheets":
        sheets(options.rule, options.out)
    elif options.what == "agree":
        agree(options.rule, options.segmenter)
    else:
        count(options.rule)


if __name__ == "__main__":
    main()
