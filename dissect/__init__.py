"""Find which units of a GAN draw a concept, prove it by removing them, save the edited generator.

    >>> import dissect
    >>> G = dissect.load("bedrooms64")
    >>> boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    >>> probe = dissect.fit_probe_from_boxes(G, boxes, layer="layer8x8")
    >>> print(f"AUC {probe.score.auc:.3f} on held-out samples")
    AUC 0.996 on held-out samples
    >>> edit = dissect.Intervention(probe.units("positive"), gate=probe.gate())
    >>> images = dissect.generate(G, dissect.latents(4, seed=1), edit=edit)

Names are loaded when they are first used, so that the import itself costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dissect._utils.display import set_picture_of

__version__ = "0.2.0"

if TYPE_CHECKING:
    from dissect._utils.errors import DissectError
    from dissect._utils.images import to_images
    from dissect._utils.progress import progress_bar
    from dissect.annotations import Annotations, Box, annotation_file
    from dissect.attribution import guided_backprop
    from dissect.dissection import network_dissection
    from dissect.effect.measure import measure_effect
    from dissect.effect.study import study_effect
    from dissect.hooks import activations, edit, record
    from dissect.models import (
        Discriminator,
        Generator,
        adapt,
        fingerprint,
        generate,
        latents,
        latents_for,
    )
    from dissect.models import save_checkpoint as save
    from dissect.probe import Probe, fit_probe, fit_probe_from_boxes
    from dissect.segmentation import Segmenter, load_segmenter
    from dissect.selection import search_intervention
    from dissect.surgery import (
        Intervention,
        MaskGate,
        ablated,
        bake,
        excise,
        inserted,
        mean_activation,
    )
    from dissect.surgery.edited import load
    from dissect.units import Units

__all__ = [
    # A model and its images.
    "load",
    "adapt",
    "latents",
    "latents_for",
    "generate",
    "to_images",
    "save",
    "Generator",
    "Discriminator",
    # Hooks on any module.
    "record",
    "edit",
    "activations",
    # Find.
    "Annotations",
    "Box",
    "annotation_file",
    "Probe",
    "fit_probe",
    "fit_probe_from_boxes",
    "Units",
    # Act.
    "Intervention",
    "ablated",
    "inserted",
    "bake",
    "excise",
    "mean_activation",
    "MaskGate",
    # Measure.
    "measure_effect",
    "study_effect",
    "network_dissection",
    "load_segmenter",
    "Segmenter",
    # Explain, choose.
    "guided_backprop",
    "search_intervention",
    # What all of them share.
    "DissectError",
    "fingerprint",
    "progress_bar",
    "__version__",
]

_ROOMS = {
    "dissect._utils.errors": ("DissectError",),
    "dissect._utils.images": ("to_images",),
    "dissect._utils.progress": ("progress_bar",),
    "dissect.annotations": ("Annotations", "Box", "annotation_file"),
    "dissect.attribution": ("guided_backprop",),
    "dissect.dissection": ("network_dissection",),
    "dissect.effect.measure": ("measure_effect",),
    "dissect.effect.study": ("study_effect",),
    "dissect.hooks": ("activations", "edit", "record"),
    "dissect.models": (
        *("Discriminator", "Generator", "fingerprint", "generate", "latents", "latents_for"),
        *("adapt", "save_checkpoint"),
    ),
    "dissect.probe": ("Probe", "fit_probe", "fit_probe_from_boxes"),
    "dissect.segmentation": ("Segmenter", "load_segmenter"),
    "dissect.selection": ("search_intervention",),
    "dissect.surgery": (
        *("Intervention", "MaskGate", "ablated", "bake", "excise", "inserted"),
        "mean_activation",
    ),
    "dissect.surgery.edited": ("load",),
    "dissect.units": ("Units",),
}
_RENAMED = {"save": "save_checkpoint"}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def _picture_of(result: Any) -> bytes | None:
    """The picture below a result in a notebook; figures lie above the rooms that give results."""
    notebook = importlib.import_module("dissect.figures.notebook")
    picture: bytes | None = notebook.png_of(result)
    return picture


set_picture_of(_picture_of)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dissect' has no attribute {name!r}")
    original = _RENAMED.get(name, name)
    value = getattr(importlib.import_module(_HOMES[original]), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
