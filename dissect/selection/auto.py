"""Rule `auto`: the whole recipe from a generator and a concept to an edit.

result = search_intervention(G, "window", layer="layer8x8")
with result.intervention.applied(G):
    after = G(z)
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from dissect._utils.device import device_of
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.probe import Probe
from dissect.probe.fit import fit_from_labels
from dissect.segmentation import Segmenter, load_segmenter
from dissect.segmentation.pseudo_labels import pseudo_label
from dissect.selection.objective import Objective
from dissect.selection.rules import kept_classes
from dissect.selection.samples import SEARCH_SEED
from dissect.selection.search import SearchConfig, SearchResult, search_edit

__all__ = ["search_intervention"]

# The gate's probe is fitted to the segmenter's masks: to more samples than anyone draws boxes on,
# so with a weaker penalty; and to cells that the concept only reaches into.
_GATE_SAMPLES = 2_500
_GATE_SEED = SEARCH_SEED + 2
_GATE: Mapping[str, Any] = {"inside": 0.3, "C": 0.03, "negatives_per_positive": 6.0}


def search_intervention(
    model: nn.Module,
    concept: str,
    *,
    layer: str,
    gated: bool = True,
    segmenter: Segmenter | None = None,
    probe: Probe | None = None,
    objective: Objective | None = None,
    config: SearchConfig | None = None,
    progress: ProgressCallback = no_progress,
) -> SearchResult:
    """The edit of one layer that removes `concept` and changes least elsewhere.

    This is the whole recipe of rule `auto`: a gate's probe is fitted to the segmenter's masks,
    strengths are optimised and units cut, and the best edit is tested on other latents.

    Args:
        model: the generator, in eval mode.
        concept: one of the segmenter's classes.
        layer: the layer whose units are edited.
        gated: whether the edit acts only where a probe sees the concept; else everywhere, which
            plain weights can hold, at more cost to the rest of the picture.
        segmenter: with probabilities; the bundled one without it.
        probe: a further gate that is tried, such as the probe of boxes.
        objective: what an edit must reach; by default 98% of the pixels gone and 1% of the images
            showing the concept (everywhere 3%), with beds kept where the segmenter knows them.
        config: how far the search goes.
        progress: called with steps done; `search_steps` in all.

    Raises:
        DissectError: a concept that the segmenter does not know or sees in no sample, a segmenter
            without probabilities, no such layer, or a layer without a grid.
    """
    config = config or SearchConfig()
    if segmenter is None:
        segmenter = load_segmenter(device=device_of(model))
    segmenter.class_id(concept)
    gates: dict[str, Probe | None] = {"everywhere": None}
    if gated:
        masks = pseudo_label(model, segmenter, concept, _GATE_SAMPLES, seed=_GATE_SEED)
        gate = fit_from_labels(model, masks, layer, seed=_GATE_SEED, scored=False, **_GATE)
        gates = {"segmenter": gate}
        if probe is not None:
            gates["boxes"] = probe
    progress(1, "fitting a gate")
    if objective is None:
        objective = _objective(segmenter, concept, gated=gated)
    return search_edit(
        model,
        layer,
        segmenter,
        concept,
        gates,
        objective=objective,
        config=config,
        progress=progress,
    )


def _objective(segmenter: Segmenter, concept: str, *, gated: bool) -> Objective:
    """What the README's figures were searched with.

    Everywhere, each unit costs the whole picture: less is asked for, and any number of units. A
    gate does much of what many units would.
    """
    keep = kept_classes(segmenter, concept)
    if gated:
        return Objective(keep=keep, kept=0.98, max_units=0.25)
    return Objective(prevalence=0.03, keep=keep, kept=0.95, slack=1.02)
