"""Annotations to test with: drawn by hypothesis, or by hand."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from dissect.annotations import AnnotatedImage, Annotations, Box

SIZE = 16
# A busy machine is no mistake of the code.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def any_boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.floats(0, SIZE - 1)), draw(st.floats(0, SIZE - 1))
    return Box(x, y, draw(st.floats(0.01, SIZE - x)), draw(st.floats(0.01, SIZE - y)))


@st.composite
def any_annotations(draw: st.DrawFn) -> Annotations:
    images = []
    for place in range(draw(st.integers(1, 5))):
        with_latent = draw(st.booleans())
        named = draw(st.text(min_size=1) | st.none()) if with_latent else f"{place}.png"
        images.append(
            AnnotatedImage(
                SIZE,
                SIZE,
                tuple(draw(st.lists(any_boxes(), max_size=3))),
                named,
                draw(st.integers(0, 2**40)) if with_latent else None,
                place if with_latent else None,
                draw(st.none() | st.from_regex(r"\A[0-9a-f]{64}\Z")),
            )
        )
    text = st.text(min_size=1)
    info = st.dictionaries(
        text.filter(lambda key: key != "model"), text | st.integers(), max_size=3
    )
    return Annotations(draw(text), tuple(images), draw(st.none() | text), draw(info))


def plain_coco() -> dict[str, Any]:
    """Two images, two categories, three boxes, as an annotation tool would export them."""
    return {
        "info": {"contributor": "", "year": 2024},
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "categories": [
            {"id": 1, "name": "window", "supercategory": ""},
            {"id": 2, "name": "bed", "supercategory": ""},
        ],
        "images": [
            {"id": 7, "width": 64, "height": 48, "file_name": "a.png", "flickr_url": ""},
            {"id": 9, "width": 64, "height": 48, "file_name": "b.png", "flickr_url": ""},
        ],
        "annotations": [
            annotation(id=1, image_id=7, category_id=1, bbox=[8, 8, 16, 8]),
            annotation(id=2, image_id=7, category_id=2, bbox=[0, 24, 64, 24]),
            annotation(id=3, image_id=9, category_id=1, bbox=[0.5, 0.25, 2.5, 4.75]),
        ],
    }


def annotation(**fields: Any) -> dict[str, Any]:
    return {"segmentation": [], "area": 1.0, "iscrowd": 0, **fields}


def written(folder: Path, coco: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(coco))
    return path
