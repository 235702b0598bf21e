"""A probe fitted to what the segmenter sees, where boxes are few or none."""

from torch import nn

from dissect.models import fingerprint
from dissect.probe import Probe, fit_probe
from dissect.segment import Segmenter
from dissect.selection.samples import CHOOSE, Watch, sampled

__all__ = ["fit_from_segmenter"]

# Where in the series of latents the samples of such a probe begin: after those of any rule.
_START = 1_000_000


def fit_from_segmenter(
    model: nn.Module,
    segmenter: Segmenter,
    concept: str,
    layer: str,
    *,
    n: int = 1_200,
    watch: Watch = lambda _: None,
) -> Probe:
    """The probe of `layer` for a concept, with the segmenter's masks in the place of boxes.

    The same logistic regression as that on boxes (Radford et al. 2015, section 6.3.1), on many
    more samples, and penalised less for it. It finds cells more sharply, and knows of the concept
    what the segmenter does: what is measured with the same segmenter is measured kindly.

    Args:
        model: the generator, in eval mode.
        segmenter: draws the masks.
        concept: one of its classes.
        layer: the layer that is probed.
        n: samples.
        watch: called with the number of images after each batch.

    Raises:
        DissectError: what `sampled` and `fit_probe` raise.
    """
    samples = sampled(model, layer, segmenter, concept, n, seed=CHOOSE, start=_START, watch=watch)
    return fit_probe(
        samples.acts,
        samples.coverage,
        layer=layer,
        concept=concept,
        model=fingerprint(model),
        C=0.1,
        folds=2,
        resamples=1,
        shuffles=2,
        sign_fits=1,
        max_cells=40_000,
    )
