"""A generator in two parts: what runs up to a layer, and what runs after it.

head, tail = split_at(G, "layer8x8")
acts = head(z)                              # what comes before the layer runs once
tail(acts)                                  # the images G(z), to the bit
with ablated(tail, units):                  # an edit of the layer acts in the tail as in G
    after = tail(acts)
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from dissect._utils.batches import chosen_batch_size, set_batch_size
from dissect.hooks import activations
from dissect.hooks.modules import named_modules, resolve_layer, runs_class_forward
from dissect.models import Generator

__all__ = ["split_at"]

# What these run is their children, one after the other, and nothing else.
_IN_ORDER = (nn.Sequential.forward, Generator.forward)


def split_at(model: nn.Module, *layers: str) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
    """The head and the tail of `model`: `tail(head(z))` is `model(z)`, to the bit.

    The head gives the activations (N, C, H, W) of the layer. The tail begins with a module of the
    layer's name that hands them on, so that `ablated`, `edit` and `record` work on the tail as on
    the model. Its weights are shared with the model, not copied.

    The model is not split, so that the head is the identity and the tail the model itself, where
    there are several layers, where the layer does not lie in a `Generator` or in `nn.Sequential`
    all the way down, where it is registered twice, and where hooks of the model around it would be
    passed over. Either way an edit of the layers acts alike in the tail.

    Args:
        model: in evaluation mode.
        layers: the names of the layers that are edited.

    Raises:
        DissectError: no such layer; from the head, a layer whose output is not one tensor with a
            row for each latent.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Tanh()).eval()
        >>> head, tail = split_at(model, "1")
        >>> z = torch.ones(4, 2)
        >>> head(z).shape, torch.equal(tail(head(z)), model(z))
        (torch.Size([4, 3]), True)
    """
    targets = [resolve_layer(model, layer) for layer in layers]
    if len(layers) == 1 and list(named_modules(model).values()).count(targets[0]) == 1:
        tail = _tail(model, layers[0].split("."))
        if tail is not None:
            set_batch_size(tail, chosen_batch_size(model))
            return partial(activations, model, layers[0]), tail
    return nn.Identity(), model


def _tail(module: nn.Module, path: list[str]) -> nn.Sequential | None:
    if not _runs_in_order(module):
        return None
    names = list(module._modules)
    if path[0] not in names:
        return None  # it lies behind the wrapper of torch.compile
    inner = nn.Identity() if len(path) == 1 else _tail(module._modules[path[0]], path[1:])  # type: ignore[arg-type]
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
