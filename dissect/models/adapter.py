"""What a generator from elsewhere takes and gives, so that `model(z)` is its images in any case."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dissect._utils.device import device_of
from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.models.inputs import argument, short_text
from dissect.models.latents import Distribution, MakeLatents, latents
from dissect.models.noise import FixedNoise
from dissect.models.pictures import Output, as_rgb, image_of, rescaled

__all__ = [
    "KEY",
    "SPACES",
    "Adapter",
    "adapter_of",
    "adapter_or_new",
    "install",
    "latent_size_of",
    "own_forward",
    "packed",
]

_Model = TypeVar("_Model", bound=nn.Module)

SPACES = ("z", "w", "w+")
KEY = "dissect_adapter"
# The models whose own forward pass is under way, in which calls of the model are the module's own.
_running: ContextVar[tuple[nn.Module, ...]] = ContextVar("adapted_models", default=())


@dataclass(eq=False, repr=False)
class Adapter(ShortRepr):
    """What a model takes and gives beyond latents (N, latent_size) and images in [-1, 1].

    Attributes:
        latents: (n, seed, start) to latents; None is the module's `make_latents`, or draws
            `latent_size` components.
        latent_size: components of a latent, or its shape.
        distribution: of the components that are drawn.
        inputs: further inputs by name, and their values.
        plain: names of inputs that are passed as they are, though whole numbers.
        call: (model, latents, **inputs) to what holds the images; None is the module's own call.
        mapping: (model, latents, **inputs) to the intermediate latents that `call` takes.
        output: which part of what is returned is the image.
        value_range: lowest and highest value of a pixel.
        shape: of one latent.
        parts: shapes and types of the parts of a latent that comes in several.
        rows: vectors of w+ for one of w, once that is known.
        converts: whether what the module returns is no tensor of three colours in float32.
        noise: the seed of what is drawn at random in the forward pass; None where nothing is.
        volatile: attributes of modules that a forward pass changes.
    """

    latents: MakeLatents | None = None
    latent_size: int | tuple[int, ...] | None = None
    distribution: Distribution = "uniform"
    inputs: dict[str, Any] = field(default_factory=dict)
    plain: frozenset[str] = frozenset()
    call: Callable[..., Any] | None = None
    mapping: Callable[..., Tensor] | None = None
    output: Output | None = None
    value_range: tuple[float, float] | None = None
    shape: tuple[int, ...] | None = None
    parts: tuple[tuple[tuple[int, ...], torch.dtype], ...] = ()
    rows: int | None = None
    converts: bool = False
    noise: int | None = None
    volatile: frozenset[str] = frozenset()

    @property
    def space(self) -> str:
        """The latent space: z, or w and w+ behind the mapping."""
        return str(self.inputs.get("space", "z"))

    def draw(self, model: nn.Module, n: int, seed: int, start: int) -> Tensor:
        """`n` latents from the row `start` of a seed."""
        z = self.drawn(model, n, seed, start)
        if self.space == "z":
            return z
        with torch.no_grad():
            # One at a time: the last bits of a product of matrices depend on the batch.
            parts = [self._mapped(model, row) for row in z.split(1)]
        w = torch.cat(parts) if parts else z.new_empty((0, 1))
        return self._in_space(w)

    def images(self, model: nn.Module, z: Tensor) -> Tensor:
        """The images (N, 3, H, W) of latents, in [-1, 1] and float32 at least."""
        returned = self.returned(model, z)
        images = image_of(returned, len(z), self.output)
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        return as_rgb(rescaled(images, self.value_range or (-1.0, 1.0)))

    def returned(self, model: nn.Module, z: Tensor) -> Any:
        """What the module returns for latents, which may be given flat."""
        first, more = self._taken(model, z)
        fixed = nullcontext() if self.noise is None else FixedNoise(self.noise, len(z))
        with fixed, _own_call(model):
            if self.mapping is not None and self.space == "z":
                first = self._call(self.mapping, model, first, more)
            if self.call is not None:
                return self._call(self.call, model, first, more)
            return own_forward(model)(first, *more, **self._arguments(len(first), first.device))

    def is_plain(self, model: nn.Module) -> bool:
        """Whether the module's own call does all this: latents (N, D) to colours in [-1, 1]."""
        asked = (self.call, self.mapping, self.output, self.noise)
        return (
            not self.inputs
            and not self.parts
            and not self.converts
            and asked == (None,) * 4
            and self.value_range in (None, (-1.0, 1.0))
            and (self.shape is None or len(self.shape) == 1)
            and _dtype_of(model) in (None, torch.float32)
        )

    def text(self) -> str:
        """The inputs as `name=value`, with the noise; empty where there are none."""
        values = dict(self.inputs)
        if self.noise is not None:
            values["noise"] = self.noise
        return " ".join(f"{name}={short_text(value)}" for name, value in sorted(values.items()))

    def drawn(self, model: nn.Module, n: int, seed: int, start: int) -> Tensor:
        """`n` latents as the generator takes them at its entrance."""
        own: MakeLatents | None = self.latents or getattr(model, "make_latents", None)
        if own is not None:
            return packed(own(n, seed, start))
        size = self.latent_size if self.latent_size is not None else latent_size_of(model)
        shape = (size,) if isinstance(size, int) else tuple(size)
        drawn = latents(n, seed, start=start, size=math.prod(shape), distribution=self.distribution)
        return drawn.reshape(n, *shape)

    def _mapped(self, model: nn.Module, z: Tensor) -> Tensor:
        assert self.mapping is not None
        first, more = self._taken(model, z, space="z")
        fixed = nullcontext() if self.noise is None else FixedNoise(self.noise, len(z))
        with fixed, _own_call(model):
            w: Tensor = self._call(self.mapping, model, first, more)
        return w

    def _in_space(self, w: Tensor) -> Tensor:
        """What a mapping gives, (N, D) or (N, L, D), in the space that was chosen."""
        if self.space == "w+" and w.ndim != 3:
            raise DissectError(f"the mapping gives {tuple(w.shape)}: there is no w+; use space=w")
        if w.ndim == 3:
            self.rows = w.shape[1]
        if self.space == "w" and w.ndim == 3:
            if not bool((w == w[:, :1]).all()):
                raise DissectError(
                    "the mapping gives another vector for each layer: use space=w+ (with "
                    "truncation of some layers alone, there is no w)"
                )
            return w[:, 0]
        return w

    def _taken(
        self, model: nn.Module, z: Tensor, *, space: str | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The latents as the module takes them, and further parts of them."""
        space = space or self.space
        dtype, z = _dtype_of(model), z.to(device_of(model))
        if self.parts and space == "z":
            return self._unpacked(z, dtype)
        if z.is_floating_point() and dtype is not None:
            z = z.to(dtype)
        if space == "w" and self.rows is not None and z.ndim == 2:
            z = z[:, None].expand(-1, self.rows, -1)
        elif space == "w+" and z.ndim == 2 and self.rows is not None:
            z = z.reshape(len(z), self.rows, -1)
        elif space == "z" and self.shape is not None and z.shape[1:] != self.shape:
            if z[:1].numel() != math.prod(self.shape):
                shape = ", ".join(map(str, ("N", *self.shape)))
                raise DissectError(
                    f"the generator takes latents ({shape}), and got {tuple(z.shape)}"
                )
            z = z.reshape(len(z), *self.shape)
        return z, []

    def _unpacked(self, z: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, list[Tensor]]:
        sizes = [math.prod(shape) for shape, _ in self.parts]
        found = []
        for (shape, kind), part in zip(self.parts, z.split(sizes, 1), strict=True):
            part = part.reshape(len(z), *shape)
            found.append(
                part.to(dtype or kind) if kind.is_floating_point else part.round().to(kind)
            )
        return found[0], found[1:]

    def _arguments(self, n: int, device: torch.device) -> dict[str, Any]:
        return {
            name: value if name in self.plain else argument(value, n, device)
            for name, value in self.inputs.items()
            if name != "space" or self.mapping is None
        }

    def _call(
        self, function: Callable[..., Any], model: nn.Module, z: Tensor, more: list[Tensor]
    ) -> Any:
        """The function with the inputs that it names."""
        values = self._arguments(len(z), z.device)
        named = inspect.signature(function).parameters
        if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in named.values()):
            values = {name: value for name, value in values.items() if name in named}
        return function(model, z, *more, **values)


def install(model: _Model) -> _Model:
    """Let `model(z)` be what its adapter makes of it, where the module's own call is not that."""
    adapter = adapter_of(model)
    if adapter is not None and not adapter.is_plain(model):
        before = model.__dict__.get("forward")
        if getattr(before, "__func__", None) is not _adapted_forward:
            if before is not None:
                model.__dict__["_forward_before"] = before
            model.__dict__["forward"] = MethodType(_adapted_forward, model)
    return model


def adapter_of(model: nn.Module) -> Adapter | None:
    """The model's adapter; None without one."""
    found = model.__dict__.get(KEY)
    return found if isinstance(found, Adapter) else None


def adapter_or_new(model: nn.Module) -> Adapter:
    """The model's adapter, a new one where it has none."""
    found = adapter_of(model)
    if found is None:
        found = Adapter()
        setattr(model, KEY, found)
    return found


def own_forward(model: nn.Module) -> Callable[..., Any]:
    """The module's own forward function, bound to it."""
    before = model.__dict__.get("_forward_before")
    return before if before is not None else MethodType(type(model).forward, model)


def latent_size_of(model: nn.Module) -> int:
    """The components of a latent, by the module's attribute `latent_size`.

    Raises:
        DissectError: it has none.
    """
    size = getattr(model, "latent_size", None)
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    name = type(model).__name__
    others = ("z_dim", "dim_z", "latent_dim", "nz")
    near = [other for other in others if isinstance(getattr(model, other, None), int)]
    if near:
        raise DissectError(
            f"{name} does not say which latents it takes: let the factory return "
            f"dissect.adapt(model, latent_size=model.{near[0]}, distribution='normal'), or "
            "'uniform' if they are"
        )
    raise DissectError(
        f"{name} does not say which latents it takes: give it an attribute latent_size, or let the "
        "factory return (module, function of n, seed, start)"
    )


def packed(drawn: Any) -> Tensor:
    """Latents as one tensor: several parts side by side, (N, components of all)."""
    if not isinstance(drawn, tuple | list):
        return drawn  # type: ignore[no-any-return]
    kind = torch.float32
    for part in drawn:
        kind = torch.promote_types(kind, part.dtype) if part.is_floating_point() else kind
    return torch.cat([part.reshape(len(part), -1).to(kind) for part in drawn], 1)


def _adapted_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The images of latents; the module's own call within itself, and with arguments of its own."""
    adapter = adapter_of(self)
    within = any(one is self for one in _running.get())
    if adapter is None or within or len(args) != 1 or kwargs:
        return own_forward(self)(*args, **kwargs)
    return adapter.images(self, args[0])


@contextmanager
def _own_call(model: nn.Module) -> Iterator[None]:
    token = _running.set((*_running.get(), model))
    try:
        yield
    finally:
        _running.reset(token)


def _dtype_of(model: nn.Module) -> torch.dtype | None:
    """The floating type of the first weight; None without one."""
    values = chain(model.parameters(), model.buffers())
    return next((value.dtype for value in values if value.is_floating_point()), None)
