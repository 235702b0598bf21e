"""The part of a generator after a layer, as a model of its own.

rest, acts = begun_at(G, "layer8x8", z)     # what comes before the layer runs once, here
rest(acts)                                  # the images G(z), to the bit
with ablated(rest, units):                  # an edit of the layer is at home in it
    after = rest(acts)
"""

from collections import OrderedDict

from torch import Tensor, nn

from dissect.hooks import activations
from dissect.hooks.modules import named_modules, resolve_layer, runs_class_forward
from dissect.models import Generator

__all__ = ["begun_at", "rest_of"]

# What these run is their children, one after the other, and nothing else.
_IN_ORDER = (nn.Sequential.forward, Generator.forward)


def begun_at(model: nn.Module, layer: str, z: Tensor) -> tuple[nn.Module, Tensor]:
    """A model that draws the images of `z` from `layer` on, and what it takes in their place.

    Where the rest cannot be told from the model's structure (see `rest_of`), the model itself and
    `z`: either way the pair draws the same images and every edit of `layer` acts alike in it, so
    that a caller need not know which it has.

    Args:
        model: in evaluation mode; its weights are shared, not copied.
        layer: the name of the layer that will be edited, many times.
        z: latents, (N, size).

    Raises:
        DissectError: no such layer, or one whose output is not one tensor with a row a latent.
    """
    rest = rest_of(model, layer)
    return (model, z) if rest is None else (rest, activations(model, layer, z))


def rest_of(model: nn.Module, layer: str) -> nn.Sequential | None:
    """What runs after `layer`: a model from the layer's activations to the model's output.

    A module of the layer's name stands at its beginning and hands the activations on, so that
    `ablated`, `edit` and `record` work on it as on the model. None where the layer does not lie in
    a `Generator` or in `nn.Sequential` all the way down, is registered twice, or where hooks of
    the model around it would be passed over.

    Raises:
        DissectError: no such layer.
    """
    target = resolve_layer(model, layer)
    if list(named_modules(model).values()).count(target) > 1:
        return None
    return _rest(model, layer.split("."))


def _rest(module: nn.Module, path: list[str]) -> nn.Sequential | None:
    if not _runs_in_order(module):
        return None
    names = list(module._modules)
    if path[0] not in names:
        return None  # it lies behind the wrapper of torch.compile
    inner = nn.Identity() if len(path) == 1 else _rest(module._modules[path[0]], path[1:])  # type: ignore[arg-type]
    if inner is None:
        return None
    parts: OrderedDict[str, nn.Module] = OrderedDict({path[0]: inner})
    for name in names[names.index(path[0]) + 1 :]:
        following = module._modules[name]
        if following is not None:
            parts[name] = following
    return nn.Sequential(parts)


def _runs_in_order(module: nn.Module) -> bool:
    return type(module).forward in _IN_ORDER and runs_class_forward(module)
