"""Find which units of a GAN draw a concept, prove it by removing them, save the edited generator.

    >>> import dissect
    >>> G = dissect.load("bedrooms64")
    >>> boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    >>> z = dissect.latents(len(boxes), boxes.seed, start=boxes.start)  # the annotated samples
    >>> acts = dissect.activations(G, "layer8x8", z)
    >>> probe = dissect.fit_probe(acts, boxes.coverage(8), layer="layer8x8", concept="window")
    >>> print(f"AUC {probe.score.auc:.3f} on held-out samples")
    AUC 0.996 on held-out samples
    >>> units = probe.units("positive")
    >>> with dissect.ablated(G, units, where=probe):
    ...     after = G(dissect.latents(4, seed=1))

Names are loaded when first used, so that the import costs no more than it must.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from dissect._utils.errors import DissectError
    from dissect.annotations import Annotations, Box, annotation_file
    from dissect.hooks import activations, edit, record
    from dissect.models import Discriminator, Generator, fingerprint, latents, latents_for, load
    from dissect.models import save_checkpoint as save
    from dissect.probe import Probe, fit_probe
    from dissect.surgery import ablated, bake, excise, inserted, insertion, swap
    from dissect.units import Units

_HOMES = {
    "Annotations": "dissect.annotations",
    "Box": "dissect.annotations",
    "annotation_file": "dissect.annotations",
    "DissectError": "dissect._utils.errors",
    "activations": "dissect.hooks",
    "edit": "dissect.hooks",
    "record": "dissect.hooks",
    "Discriminator": "dissect.models",
    "Generator": "dissect.models",
    "fingerprint": "dissect.models",
    "latents": "dissect.models",
    "latents_for": "dissect.models",
    "load": "dissect.models",
    "save": "dissect.models:save_checkpoint",
    "Probe": "dissect.probe",
    "fit_probe": "dissect.probe",
    "ablated": "dissect.surgery",
    "bake": "dissect.surgery",
    "excise": "dissect.surgery",
    "inserted": "dissect.surgery",
    "insertion": "dissect.surgery",
    "swap": "dissect.surgery",
    "Units": "dissect.units",
}

__all__ = [
    "Annotations",
    "Box",
    "Discriminator",
    "DissectError",
    "Generator",
    "Probe",
    "Units",
    "__version__",
    "ablated",
    "activations",
    "annotation_file",
    "bake",
    "edit",
    "excise",
    "fingerprint",
    "fit_probe",
    "inserted",
    "insertion",
    "latents",
    "latents_for",
    "load",
    "record",
    "save",
    "swap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dissect' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
