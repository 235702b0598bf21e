"""The units of one layer beside one concept: a probe, and the samples that the units answer to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from dissect.annotations import Annotations
from dissect.probe import Probe, fit_probe
from dissect.probe.fit import NO_SCORE, labelled_cells, load_cached_probe
from dissect.segmentation.pseudo_labels import ConceptLabels
from dissect.studio.sessions.generator import GeneratorSession

__all__ = ["LayerStudy", "study_layer"]

_TOP_SAMPLES = 5


@dataclass(frozen=True, eq=False)
class LayerStudy:
    """The units of one layer beside one concept.

    Attributes:
        probe: fitted to the concept's boxes, its score left out.
        grid: rows and columns of the layer.
        scores: by name, one number a unit, larger is more of the concept; further rankings are
            further entries, and the page offers every one.
        top: for each unit the samples on which it is strongest: (seed, index, cell).
        ceiling: (C,), the largest activation of each unit on the annotated samples.
        inside: (C,), the mean activation of each unit inside boxes: what insertion puts in.
    """

    probe: Probe
    grid: tuple[int, int]
    scores: Mapping[str, Sequence[float]]
    top: Sequence[Sequence[tuple[int, int, int]]]
    ceiling: Tensor
    inside: Tensor


def study_layer(generator: GeneratorSession, boxes: Annotations, layer: str) -> LayerStudy:
    """The units of `layer` beside the concept of the boxes.

    Raises:
        DissectError: boxes for another generator, or that no probe can be fitted to.
    """
    with generator.lock:
        acts, coverage = labelled_cells(generator.model, ConceptLabels(boxes), layer)
    # Whoever wants a picture need not wait for the fit.
    probe = load_cached_probe(generator.name, generator.model, boxes, layer) or fit_probe(
        acts, coverage, layer=layer, concept=boxes.concept, model=generator.fingerprint, **NO_SCORE
    )
    acts = acts.cpu()
    peak, cell = acts.flatten(2).max(2)
    best = peak.topk(min(_TOP_SAMPLES, len(peak)), dim=0).indices.T.tolist()
    rows = boxes.latent_rows
    return LayerStudy(
        probe=probe,
        grid=(acts.shape[2], acts.shape[3]),
        scores={"weight": (probe.weight * probe.scale).tolist()},
        top=[
            [(*rows[place], int(cell[place, unit])) for place in places]
            for unit, places in enumerate(best)
        ],
        ceiling=peak.max(0).values,
        inside=acts.permute(0, 2, 3, 1)[coverage >= probe.settings.inside].mean(0),
    )
