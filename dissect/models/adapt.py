"""What a user says of a generator, and the latents that a model takes."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from dissect._utils.device import device_of
from dissect._utils.errors import DissectError
from dissect.models.adapter import KEY, Adapter, adapter_of, install
from dissect.models.latents import Distribution, MakeLatents
from dissect.models.pictures import Output

__all__ = ["adapt", "latent_vectors", "latents_for"]

_Model = TypeVar("_Model", bound=nn.Module)


def adapt(
    model: _Model,
    *,
    latents: MakeLatents | None = None,
    latent_size: int | tuple[int, ...] | None = None,
    distribution: Distribution = "uniform",
    inputs: Mapping[str, Any] | None = None,
    call: Callable[..., Any] | None = None,
    mapping: Callable[..., Tensor] | None = None,
    output: Output | None = None,
    value_range: tuple[float, float] | None = None,
) -> _Model:
    """`model` itself, whose call `model(z)` now gives images (N, 3, H, W) in [-1, 1].

    Name only what the module does not say itself. A factory returns the result; `load` then draws
    two images, and says in one line what does not hold. Layers keep the module's own names.

    Args:
        model: latents, and what else it takes, to images.
        latents: a function (n, seed, start) to latents, the first axis n long. Row i depends on
            seed and start + i alone. It may return a tuple of tensors, which are passed one after
            the other.
        latent_size: components of a latent or its shape, where there is no such function; without
            it, the module's attribute of that name.
        distribution: of these components, `uniform` in [-1, 1] or `normal`.
        inputs: further inputs by name, with their values (a label, a truncation, a timestep). A
            whole number is one for each image, an int64 tensor (N,); a tensor is repeated for each
            image; other values are passed as they are. `--input label=3` changes one.
        call: (model, latents, **inputs) to images, where `model(latents, **inputs)` is not the way.
            It gets the inputs that it names. It must use the model that it is given, which may be
            an edited copy.
        mapping: (model, latents, **inputs) to intermediate latents (N, D) or (N, L, D), which the
            call takes. There is a further input `space` then: z, w or w+.
        output: which part of what is returned is the image: its place, its name, or a function.
        value_range: lowest and highest value of a pixel; without it, (0, 1) where the last
            operation is a sigmoid, else (-1, 1).

    Raises:
        DissectError: a value that cannot be, or a function that holds on to the model.

    >>> model = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 1, 8), nn.Sigmoid())
    >>> model = adapt(model, latent_size=4, value_range=(0, 1))
    >>> model(latents_for(model, 2)).shape
    torch.Size([2, 3, 8, 8])
    """
    if not isinstance(model, nn.Module):
        raise DissectError(f"adapt takes an nn.Module, not a {type(model).__name__}")
    for name, function in {"latents": latents, "call": call, "mapping": mapping}.items():
        if function is not None and not callable(function):
            raise DissectError(f"{name} must be a function, not a {type(function).__name__}")
    for name, function in {"call": call, "mapping": mapping}.items():
        if function is not None and _holds_module(function):
            raise DissectError(
                f"{name} holds on to a module of its own, which an edit of a copy would not reach: "
                "use the model that it is given"
            )
    values = dict(inputs or {})
    if mapping is not None:
        values.setdefault("space", "z")
    if value_range is not None:
        low, high = map(float, value_range)
        if not low < high:
            raise DissectError(f"value_range must be (lowest, highest), not {value_range}")
        value_range = (low, high)
    adapter = Adapter(
        latents=latents,
        latent_size=latent_size,
        distribution=distribution,
        inputs=values,
        call=call,
        mapping=mapping,
        output=output,
        value_range=value_range,
    )
    setattr(model, KEY, adapter)
    return install(model)


def latents_for(model: nn.Module, n: int, seed: int = 0, *, start: int = 0) -> Tensor:
    """`n` latents that `model` takes, on its device; row i depends on (seed, start + i) alone.

    A model from a factory may bring its own function. Otherwise the paper's uniform latents are
    drawn, as wide as the model's `latent_size` says.

    Raises:
        DissectError: the model says neither.

    >>> from dissect.models import Generator
    >>> tuple(latents_for(Generator(latent_size=8, width=4), 3, seed=1).shape)
    (3, 8)
    """
    z = (adapter_of(model) or Adapter()).draw(model, n, seed, start)
    if not isinstance(z, Tensor) or len(z) != n:
        raise DissectError(
            f"the model's own latents function must return a tensor whose first axis is {n}"
        )
    return z.to(device_of(model))


def latent_vectors(model: nn.Module, n: int, seed: int = 0, *, start: int = 0) -> Tensor:
    """The same latents as vectors (N, D), whatever their shape: what straight lines lie between.

    Raises:
        DissectError: as `latents_for`; or latents of whole numbers, such as labels, between which
            there is nothing.

    >>> model = adapt(nn.Flatten(), latent_size=(3, 4, 4))
    >>> tuple(latent_vectors(model, 2).shape)
    (2, 48)
    """
    z = latents_for(model, n, seed, start=start)
    adapter = adapter_of(model)
    parts = () if adapter is None else adapter.parts
    if not z.is_floating_point() or any(not dtype.is_floating_point for _, dtype in parts):
        raise DissectError(
            "the latents hold whole numbers, such as labels, and there is no straight line between "
            "them: give the label with --input instead"
        )
    return z.flatten(1)


def _holds_module(function: Callable[..., Any]) -> bool:
    """Whether a function keeps a module in its closure, its defaults, or as its object."""
    if isinstance(function, nn.Module) or isinstance(
        getattr(function, "__self__", None), nn.Module
    ):
        return True
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    kept = (
        *cells,
        *(getattr(function, "__defaults__", None) or ()),
        *getattr(function, "args", ()),
    )
    return any(isinstance(value, nn.Module) for value in kept)
