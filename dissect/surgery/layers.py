"""The layers of a generator, and what can be done with each."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks.observe import LayerOutput, observe
from dissect.surgery.excise import excise
from dissect.surgery.frame import Frame, picture_frame
from dissect.surgery.intervention import Intervention
from dissect.units import Units

__all__ = ["LayerAbilities", "layer_abilities"]


@dataclass(frozen=True)
class LayerAbilities:
    """What can be done with a layer. A text is why something cannot be done; empty is that it can.

    Attributes:
        output: what the layer gives for one latent.
        recorded: as one tensor with a row for each latent.
        edited: unit by unit.
        baked: units removed for good, in the weights or as a module.
        excised: units cut out of the weights.
        frame: where the picture lies on the layer's grid; None where it fills the grid.
    """

    output: LayerOutput
    recorded: str
    edited: str
    baked: str
    excised: str
    frame: Frame | None = None


def layer_abilities(model: nn.Module, z: Tensor) -> list[LayerAbilities]:
    """What can be done with each layer that runs for a latent `z` (1, ...).

    Baking and excising are tried on copies of the model.

    Raises:
        DissectError: a forward pass that fails.

    >>> from dissect.models import Generator, latents_for
    >>> model = Generator(latent_size=8, width=4, image_size=16).eval()
    >>> layers = layer_abilities(model, latents_for(model, 1))
    >>> layers[0].output.name, layers[0].output.shape, layers[0].excised
    ('layer4x4', (1, 8, 4, 4), '')
    """
    with torch.inference_mode():
        model(z)  # the first pass of a process takes longer, and would be counted to its layers
        outputs = observe(model, lambda: model(z))
    return [_abilities(model, z, output) for output in outputs]


def _abilities(model: nn.Module, z: Tensor, output: LayerOutput) -> LayerAbilities:
    refused = _unusable(output, len(z))
    if refused:
        return LayerAbilities(output, refused, refused, refused, refused)
    assert output.shape is not None
    if not output.dtype.startswith(("float", "bfloat")):
        refused = f"its values are {output.dtype}"
        return LayerAbilities(output, "", refused, refused, refused)
    units = Units(output.name, (0,), output.shape[1])
    excised = "it has one unit alone"
    if units.total > 1:
        excised = _reason(lambda: excise(model, units))
    frame = picture_frame(model, output.name) if len(output.shape) == 4 else None
    baked = _reason(lambda: Intervention(units).bake(model))
    return LayerAbilities(output, "", "", baked, excised, frame)


def _unusable(output: LayerOutput, n: int) -> str:
    """Why the layer cannot be recorded; empty where it can."""
    if output.runs == 0:
        return "it does not run"
    if output.shape is None:
        return f"it gives {output.dtype}, not one tensor"
    if len(output.shape) < 2 or output.shape[0] != n:
        return "its output has no row for each latent"
    return ""


def _reason(attempt: Callable[[], object]) -> str:
    """Why the attempt is refused; empty where it is not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()
    except DissectError as error:
        return str(error)
    return ""
