"""Activations of any `nn.Module`, recorded and edited by the name of their layer.

    with record(G, "layer8x8", stop=True) as acts:
        G(z)
    acts["layer8x8"]                                        # (N, 512, 8, 8)

    with edit(G, {"layer8x8": lambda activation: 2 * activation}):
        louder = G(z)

Hooks run in the order in which their blocks were entered. So a `record` inside an `edit` sees the
edited activation, an `edit` inside a `record` comes after what is recorded, and of two edits of
one layer the outer acts first. When a block ends, by an exception too, the model is as it was;
hooks that others registered are neither removed nor moved. Blocks may end in any order, and a
block acts in its own thread alone.
"""

from dissect.hooks.edit import edit
from dissect.hooks.modules import layer_names, plain_copy, resolve_layer
from dissect.hooks.record import Recording, activations, record

__all__ = [
    "Recording",
    "activations",
    "edit",
    "layer_names",
    "plain_copy",
    "record",
    "resolve_layer",
]
