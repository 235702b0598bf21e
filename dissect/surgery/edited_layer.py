"""A layer of any class that ends in an edit, for good."""

import copyreg
from functools import lru_cache
from typing import Any

from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks.modules import has_output_hooks, named_modules, resolve_layer
from dissect.hooks.outputs import with_tensor
from dissect.models.dcgan import add_edit
from dissect.models.gated import GatedEdit

__all__ = ["append_edit"]


def append_edit(model: nn.Module, name: str, edit: GatedEdit) -> None:
    """Let the layer of this name end in the edit; `model` is changed in place.

    A `nn.Sequential` gets it as its last part. A layer of another class keeps its class and its
    attributes, takes what it took, and gives what it gave with its activation edited: it becomes
    an instance of a class derived from its own, and the edit one of its modules.

    Raises:
        DissectError: the whole model, an edit, a layer with forward hooks.
    """
    layer = resolve_layer(model, name)
    if layer is resolve_layer(model, ""):
        raise DissectError("an edit cannot be written at the end of the whole model: name a layer")
    if isinstance(layer, GatedEdit):
        raise DissectError(f"{name!r} is itself an edit: name the layer that it ends")
    if has_output_hooks(layer):
        raise DissectError(
            f"an edit of {name!r} cannot be written into the network: the layer has forward hooks, "
            "which run before the edit, and would run after it; use 'applied'"
        )
    if list(named_modules(model).values()).count(layer) > 1:
        # In the other places it stays as it is.
        parent, _, key = name.rpartition(".")
        layer = resolve_layer(model, parent)._modules[key] = _twin(layer)
    if type(layer).forward is not nn.Sequential.forward and not isinstance(layer, _EndsInEdit):
        own: Any = type(layer)
        object.__setattr__(layer, "__class__", _with_edit(own))
    add_edit(layer, edit)


class _EndsInEdit:
    """First among the bases of a layer's class that ends in the edits among its modules."""

    def __init_subclass__(cls) -> None:
        """Keeps a layer's class, which may register its subclasses, from hearing of this one."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer's own class gives, edited."""
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        for part in self._modules.values():  # type: ignore[attr-defined]
            if isinstance(part, GatedEdit):
                output = with_tensor(output, part)
        return output

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What a copy is made of: the layer's own class, and the function that derives from it."""
        reduced = super().__reduce_ex__(protocol)
        if reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return reduced
        own = type(self).__mro__[2]
        return (_new, (own, *reduced[1][1:]), *reduced[2:])


@lru_cache(maxsize=256)
def _with_edit(own: Any) -> Any:
    # The module of the class is this one, so that `torch.fx` looks into its forward.
    names = {"__module__": __name__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
    return type(own)(own.__name__, (_EndsInEdit, own), names)


def _new(own: Any, *args: Any) -> Any:
    derived = _with_edit(own)
    return derived.__new__(derived, *args)


def _twin(layer: nn.Module) -> nn.Module:
    """Another module of the same weights, not copies of them."""
    twin: nn.Module = layer.__new__(type(layer))
    for key, value in vars(layer).items():
        vars(twin)[key] = value.copy() if isinstance(value, dict) else value
    return twin
