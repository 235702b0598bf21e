"""Activations of any `nn.Module`, recorded and edited by the name of their layer."""

from dissect.hooks.modules import layer_names, resolve_layer
from dissect.hooks.record import activations, edit, plain_copy, record
from dissect.hooks.recording import Recording

__all__ = [
    "Recording",
    "activations",
    "edit",
    "layer_names",
    "plain_copy",
    "record",
    "resolve_layer",
]
