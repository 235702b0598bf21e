"""From the numbers read off the sheets to the COCO file, its contact sheet and the agreement.

    python annotations/assemble.py
    python annotations/assemble.py --concept picture

Reads the two passes, checks that the first has 52 boxes on the samples where windows are meant, and
writes annotations/bedrooms64/window.json and window.png; beside the weights, the probe that is
fitted to them, for who cannot wait.
"""

import argparse
from pathlib import Path

from dissect import load
from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect._utils.io import write_image
from dissect.annotations import AnnotatedImage, Annotations, Box, pair_iou, pixels_digest
from dissect.figures import boxes_sheet
from dissect.models import bundled_file, fingerprint, generate, latents_for
from dissect.probe import fit_probe_from_boxes
from dissect.probe.fit import save_cached_probe

LAYER = "layer8x8"  # the default of every command
FOLDER = Path(__file__).resolve().parent
# As many windows as the paper has (Radford et al. 2015, section 6.3.1).
_BOXES = {"window": 52}


def read_pass(path: Path) -> dict[int, list[Box]]:
    """Boxes by the index of their sample; a line holds `index left top right bottom`."""
    boxes: dict[int, list[Box]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            index, (left, top, right, bottom) = int(words[0]), map(float, words[1:])
        except ValueError as error:
            raise DissectError(f"{path}:{number}: not 'index left top right bottom'") from error
        boxes.setdefault(index, []).append(Box(left, top, right - left, bottom - top))
    return boxes


def main() -> None:
    """Write the COCO file and the contact sheet, and print how the passes agree."""
    parser = argparse.ArgumentParser(description="Boxes from the two passes, as a COCO file.")
    parser.add_argument("--model", default="bedrooms64")
    parser.add_argument("--concept", default="window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=2200, help="index of the first sample")
    parser.add_argument("--n", type=int, default=150, help="samples")
    parser.add_argument("--boxes", type=int, help="boxes that there must be; windows: 52")
    options = parser.parse_args()
    folder = FOLDER / options.model
    generator = load(options.model)
    images = to_images(
        generate(generator, latents_for(generator, options.n, options.seed, start=options.start))
    )
    height, width = images.shape[1:3]
    rows = range(options.start, options.start + options.n)
    passes = []
    for name in ("first", "second"):
        path = folder / "passes" / f"{options.concept}-{name}.txt"
        if name == "second" and not path.exists():
            continue
        drawn = read_pass(path)
        annotated = [
            AnnotatedImage(
                width,
                height,
                tuple(drawn.get(index, ())),
                seed=options.seed,
                index=index,
                sha256=pixels_digest(image),
            )
            for index, image in zip(rows, images, strict=True)
        ]
        info = {
            "description": f"{options.concept} boxes on samples of {options.model}",
            "how": "drawn by eye on enlarged samples with rulers; see annotations/README.md",
            "pass": name,
        }
        passes.append(Annotations(options.concept, tuple(annotated), fingerprint(generator), info))
    first = passes[0]
    wanted = options.boxes or _BOXES.get(options.concept, first.n_boxes)
    if first.n_boxes != wanted:
        raise SystemExit(f"the first pass has {first.n_boxes} boxes, not {wanted}")
    print("wrote", first.save(folder / f"{options.concept}.json"))
    sheet = boxes_sheet(images, first.boxes, [str(index) for index in rows])
    print("wrote", write_image(folder / f"{options.concept}.png", sheet))
    probe = fit_probe_from_boxes(generator, first, layer=LAYER, scored=False)
    ahead = bundled_file(options.model, "generator.safetensors").parent
    cached = ahead / f"probe-{options.concept}-{LAYER}.json"
    print("wrote", save_cached_probe(cached, probe, first))
    if len(passes) == 1:
        print(f"{first.n_boxes} boxes, drawn once")
        return
    second = passes[1]
    agreement = pair_iou(first, second)
    print(
        f"{first.n_boxes} boxes in the first pass, {second.n_boxes} in the second; "
        f"{agreement.n_paired} pair, with a mean IoU of {agreement.mean_iou:.3f}; "
        f"{agreement.n_only_first} only in the first, {agreement.n_only_second} only in the second"
    )


if __name__ == "__main__":
    main()
