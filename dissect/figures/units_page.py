"""What each unit of a generator draws, as one page that opens in any browser without a network."""

import base64
import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.images import image_grid
from dissect.figures.outline import outline_path

if TYPE_CHECKING:
    from dissect.dissection.result import Dissection, LayerUnits
    from dissect.dissection.top_images import TopImages

__all__ = ["units_page"]

# Images side by side in the picture that holds all of them, and how wide each is shown.
_COLUMNS, _SHOWN = 32, 128

# Numbers of a unit for one concept: the heading, what it means, the field, digits, as percent.
_MEASURES = (
    ("IoU", "Overlap of the pixels where the unit is on with the concept", "iou", 3, False),
    ("IoU by chance", "The same with the masks of other samples", "iou_shuffled", 3, False),
    ("AUC", "How well the activation tells the concept's cells from others", "auc", 3, False),
    ("AUC by chance", "The same with the masks of other samples", "auc_shuffled", 3, False),
    ("removed", "Share of the concept's pixels that go with this unit alone", "removed", 1, True),
)


def units_page(found: "Dissection", samples: "TopImages", *, title: str) -> str:
    """The whole page as HTML: a table of concepts, and one of units that sorts and filters.

    Everything is inside it: style, script, and one JPEG of all samples, outlines being drawn over
    it by the browser.

    Args:
        found: the dissection.
        samples: the strongest samples of its units.
        title: what was dissected, for the heading.
    """
    assets = files("dissect.figures") / "assets"
    height, width = samples.images.shape[1:3]
    scale = max(1, round(_SHOWN / width))
    rows = list(_rows(found))
    order = sorted(range(len(rows)), key=lambda place: -rows[place][0].iou[rows[place][1]].max())
    several = len(found.layers) > 1
    measures = [m for m in _MEASURES if m[2] != "removed" or found.effect_n]
    style = (
        f":root {{--w: {width * scale}px; --h: {height * scale}px; "
        f"--all: {width * scale * _COLUMNS}px auto; --sheet: url({_sheet(samples.images)})}}\n"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Nothing is fetched from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
        f"<title>{escape(title)}: units</title>",
        f"<style>\n{style}{(assets / 'units.css').read_text('utf-8')}</style></head><body>",
        f"<header><h1>{escape(title)}</h1>{_summary(found)}</header>",
        "<main>",
        _concept_table(found),
        _controls(found),
        '<div class="wide"><table id="units"><caption class="unseen">Units</caption>'
        f"<thead>{_unit_headings(several, measures)}</thead><tbody>",
        *(
            _unit_row(found, samples, *rows[place], place, several, measures, (width, height))
            for place in order
        ),
        "</tbody></table></div></main>",
        f'<script type="application/json" id="numbers">{_numbers(found, rows, measures)}</script>',
        f"<script>\n{(assets / 'units.js').read_text('utf-8')}</script>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _rows(found: "Dissection") -> Iterator[tuple["LayerUnits", int]]:
    for layer in found.layers:
        for unit in range(len(layer)):
            yield layer, unit


def _summary(found: "Dissection") -> str:
    detectors = sum(found.detectors().values())
    chance = sum(found.detectors(shuffled=True).values())
    grids = ", ".join(
        f"{escape(one.layer)} ({len(one)} units, {one.grid[0]}&times;{one.grid[1]})"
        for one in found.layers
    )
    effect = (
        f"<dt>removed</dt><dd>what goes of the concept's pixels where this unit alone is set to 0 "
        f"everywhere, on {found.effect_n} other samples; below 0 where it grows. The fewer the "
        "samples and the rarer the concept, the rougher the number.</dd>"
        if found.effect_n
        else ""
    )
    return (
        f"<p>{grids}, on {found.n:,} samples of seed {found.seed}. "
        f"<strong>{detectors} of {len(found)} units are detectors</strong> of a concept "
        f"(IoU above 0.05); with the masks of other samples, {chance} would be.</p>"
        "<details><summary>How to read this</summary><dl>"
        f"<dt>on</dt><dd>A unit is on in the pixels where its activation, enlarged to the image, "
        f"is above its {found.quantile:g} quantile, chosen on {found.n:,} other samples. "
        "The yellow lines surround them.</dd>"
        "<dt>IoU</dt><dd>the pixels where the unit is on and the concept is, over those where "
        "either is (Bau et al. 2017, 2019). A unit that is on in few pixels cannot match a large "
        "concept: the column <em>at most</em> says what it could reach.</dd>"
        "<dt>AUC</dt><dd>how often a cell of the layer that is the concept is stronger than one "
        "without it; 0.5 is chance. It has no such limit.</dd>"
        "<dt>by chance</dt><dd>the number before it, measured with the masks of other samples: "
        "what lying in the usual place is worth, whatever the unit draws.</dd>"
        f"{effect}</dl></details>"
    )


def _concept_table(found: "Dissection") -> str:
    own, chance = found.detectors(), found.detectors(shuffled=True)
    rows = []
    for k in sorted(range(len(found.concepts)), key=lambda k: (-own[found.concepts[k]], k)):
        name = found.concepts[k]
        layer = max(found.layers, key=lambda one: one.iou[:, k].max())
        unit = int(layer.iou[:, k].argmax())
        best = layer.iou[unit, k]
        link = (
            f'<a href="#{_anchor(layer, unit)}">{escape(_unit_name(found, layer, unit))}</a>'
            if best > 0
            else "none"
        )
        rows.append(
            f'<tr><th scope="row"><button type="button" data-concept="{k}">{escape(name)}'
            f"</button></th><td>{found.shown[k]:.1%}</td><td>{found.max_iou(name):.2f}</td>"
            f"<td>{own[name]}</td><td>{chance[name]}</td><td>{best:.3f}</td><td>{link}</td></tr>"
        )
    return (
        '<section><h2 id="concepts-title">Concepts</h2><div class="wide">'
        '<table id="concepts" aria-labelledby="concepts-title"><thead><tr>'
        '<th scope="col">concept</th><th scope="col">share of pixels</th>'
        '<th scope="col">IoU at most</th><th scope="col">detectors</th>'
        '<th scope="col">by chance</th><th scope="col">best IoU</th>'
        '<th scope="col">best unit</th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div></section>"
    )


def _controls(found: "Dissection") -> str:
    concepts = "".join(
        f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(found.concepts)
    )
    layers = "".join(
        f'<option value="{k}">{escape(one.layer)}</option>' for k, one in enumerate(found.layers)
    )
    choice = (
        f'<label>Layer <select id="layer"><option value="">all</option>{layers}</select></label>'
        if len(found.layers) > 1
        else ""
    )
    return (
        '<h2 id="units-title">Units</h2><form id="controls" aria-label="Filter the units">'
        '<label>Concept <select id="concept"><option value="">best of each unit</option>'
        f"{concepts}</select></label>{choice}"
        '<label><input type="checkbox" id="only"> detectors only</label>'
        '<label><input type="checkbox" id="outlines" checked> outlines</label>'
        '<output id="status" role="status"></output></form>'
    )


def _unit_headings(several: bool, measures: Sequence[tuple[Any, ...]]) -> str:
    def sortable(name: str, kind: str, meaning: str, state: str = "none") -> str:
        return (
            f'<th scope="col" aria-sort="{state}" data-kind="{kind}">'
            f'<button type="button" title="{escape(meaning)}">{name}</button></th>'
        )

    cells = [sortable("layer", "layer", "The layer of the unit")] if several else []
    cells += [
        sortable("unit", "unit", "Its number in the layer"),
        sortable("concept", "best", "The concept with the largest IoU"),
    ]
    for name, meaning, key, _, _ in measures:
        cells.append(sortable(name, key, meaning, "descending" if key == "iou" else "none"))
    cells.append('<th scope="col">strongest samples</th>')
    return f"<tr>{''.join(cells)}</tr>"


def _unit_row(
    found: "Dissection",
    samples: "TopImages",
    layer: "LayerUnits",
    unit: int,
    place: int,
    several: bool,
    measures: Sequence[tuple[Any, ...]],
    size: tuple[int, int],
) -> str:
    best = int(layer.best()[unit])
    concept = found.concepts[best] if best >= 0 else "none"
    cells = [f'<td class="name">{escape(layer.layer)}</td>'] if several else []
    cells.append(f'<th scope="row">{unit}</th><td class="name">{escape(concept)}</td>')
    for _, _, key, digits, percent in measures:
        value = getattr(layer, key)[unit, max(best, 0)]
        cells.append(f"<td>{_number(float(value), digits, percent=percent)}</td>")
    tiles = []
    for rank, image in enumerate(samples.place[layer.layer][unit].tolist()):
        key, value = int(layer.top[unit, rank]), layer.top_values[unit, rank]
        y, x = divmod(image, _COLUMNS)
        path = outline_path(samples.on[layer.layer][unit, rank])
        drawn = (
            f'<svg viewBox="0 0 {size[0]} {size[1]}" aria-hidden="true"><path d="{path}"/></svg>'
            if path
            else ""
        )
        tiles.append(
            f'<i role="img" aria-label="sample {key}" title="sample {key}: {value:.3g}" '
            f'style="--x:{x};--y:{y}">{drawn}</i>'
        )
    cells.append(f'<td class="tiles">{"".join(tiles)}</td>')
    return f'<tr id="{_anchor(layer, unit)}" data-row="{place}">{"".join(cells)}</tr>'


def _numbers(
    found: "Dissection",
    rows: Sequence[tuple["LayerUnits", int]],
    measures: Sequence[tuple[Any, ...]],
) -> str:
    """What the script needs to show another concept's numbers, as JSON that may stand in HTML."""
    layers = {one.layer: place for place, one in enumerate(found.layers)}
    values: dict[str, Any] = {
        "concepts": found.concepts,
        "measures": {key: [digits, percent] for _, _, key, digits, percent in measures},
        "layer": [layers[layer.layer] for layer, _ in rows],
        "unit": [unit for _, unit in rows],
        "best": [number for one in found.layers for number in one.best().tolist()],
        "detector": [flag for one in found.layers for flag in one.is_detector().tolist()],
    }
    for _, _, key, digits, _ in measures:
        values[key] = [
            [
                None if np.isnan(value) else round(float(value), digits + 2)
                for value in getattr(layer, key)[unit]
            ]
            for layer, unit in rows
        ]
    return json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _number(value: float, digits: int, *, percent: bool) -> str:
    if np.isnan(value):
        return "&ndash;"
    text = f"{100 * value:.{digits}f}%" if percent else f"{value:.{digits}f}"
    # A minus, not a hyphen; and no nothing below nothing.
    return text.lstrip("-") if not text.strip("-0.%") else text.replace("-", "&minus;")


def _anchor(layer: "LayerUnits", unit: int) -> str:
    return escape(f"{layer.layer}-{unit}")


def _unit_name(found: "Dissection", layer: "LayerUnits", unit: int) -> str:
    return f"{layer.layer} {unit}" if len(found.layers) > 1 else str(unit)


def _sheet(images: NDArray[np.uint8]) -> str:
    """All images in one picture, as the address of itself.

    JPEG without thinned colours: a quarter of the bytes of a PNG, and its blocks of 8 pixels end
    where an image does. Pillow writes optimised files through a buffer of a byte a pixel, for which
    noise is too long; the tables of the standard need none.
    """
    stream = BytesIO()
    sheet = image_grid(images, columns=_COLUMNS, scale=1, gap=0)
    sheet.save(stream, format="JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
