"""What holds of a generator from elsewhere is found out when it is loaded, on a few images."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dissect._utils.batches import set_batch_size
from dissect._utils.errors import DissectError
from dissect._utils.text import near_names
from dissect.models.adapter import SPACES, Adapter, adapter_or_new, install, own_forward, packed
from dissect.models.inputs import optional_inputs, parsed, required_inputs
from dissect.models.latents import MakeLatents
from dissect.models.pictures import image_of, stated_range
from dissect.models.settings import settings

__all__ = ["check_generator", "set_inputs"]

# Larger differences between two passes of one latent are noise; smaller ones are rounding, an
# eighth of a level of a byte.
_ROUNDING = 1e-3
_SEED = 0


def set_inputs(model: nn.Module, texts: Mapping[str, Any]) -> None:
    """Give inputs the values that texts such as `3`, `0.7` or `const` stand for.

    Raises:
        DissectError: an input that the model does not take, or a value of another type.
    """
    if not texts:
        return
    adapter = adapter_or_new(model)
    own: dict[str, Any] = {}
    if adapter.call is None:
        forward = own_forward(model)
        own = {**optional_inputs(forward), **dict.fromkeys(required_inputs(forward))}
    known = {**own, "noise": 0, **adapter.inputs}
    for name, text in texts.items():
        if name not in known:
            others = [other for other in known if other != "noise"]
            takes = f"it takes: {near_names(name, others)}" if others else "it takes latents alone"
            raise DissectError(f"the model takes no input {name!r}; {takes}")
        value = parsed(name, text, known[name])
        if name == "space" and adapter.mapping is not None and value not in SPACES:
            raise DissectError(f"--input space={value}: use {', '.join(SPACES)}")
        if name == "noise" and name not in adapter.inputs:
            if value < 0:
                raise DissectError(f"--input noise={value}: a seed is 0 or more")
            adapter.noise = value
            continue
        if name not in adapter.inputs and isinstance(own.get(name), int):
            adapter.plain |= {name}
        adapter.inputs[name] = value


def check_generator(model: nn.Module) -> None:
    """Draw two images, and note in the model's adapter what they show.

    The range of a last sigmoid, half precision, the shape of latents, and noise in the forward
    pass are taken care of. What would be a wrong result in silence is refused.

    Raises:
        DissectError: latents that depend on more than seed and row, inputs that nobody gave a
            value, a forward pass that fails, no images, or images that depend on their batch.
    """
    adapter = adapter_or_new(model)
    z = _checked_latents(model, adapter)
    adapter.shape = None if adapter.parts else tuple(z.shape[1:])
    missing = [] if adapter.call is not None else _missing(model, adapter)
    for name in missing:
        adapter.inputs[name] = 0
    z = adapter.draw(model, 2, _SEED, 0)
    before = settings(model)
    first = _returned(model, adapter, z, missing)
    after = settings(model)
    adapter.volatile = frozenset(
        name for name in {*before, *after} if before.get(name) != after.get(name)
    )
    if missing:
        warnings.warn(
            f"the generator takes {', '.join(missing)}, too, and nothing says what: 0 is taken for "
            f"each image; give --input {missing[0]}=VALUE, or dissect.adapt(model, inputs=...)",
            stacklevel=4,
        )
    image = image_of(first, 2, adapter.output)
    as_it_is = isinstance(first, Tensor) and image.shape[1] == 3 and image.dtype == torch.float32
    adapter.converts = not as_it_is
    if adapter.value_range is None:
        stated = stated_range(image)
        adapter.value_range = stated or (-1.0, 1.0)
        _warn_of_range(image, stated)
    _check_repeated(model, adapter, z, image.detach())
    install(model)


def _checked_latents(model: nn.Module, adapter: Adapter) -> Tensor:
    """Three latents of the model's own function, or of its size."""
    draw: MakeLatents | None = adapter.latents or getattr(model, "make_latents", None)
    if draw is None:
        return adapter.drawn(model, 2, _SEED, 0)
    whole = _called(draw, 3, _SEED, 0)
    if isinstance(whole, tuple | list):
        adapter.parts = tuple((tuple(part.shape[1:]), part.dtype) for part in whole)
    rows = packed(whole)
    again = packed(_called(draw, 3, _SEED, 0))
    later = packed(_called(draw, 2, _SEED, 1))
    other = packed(_called(draw, 3, _SEED + 1, 0))
    if not torch.equal(again, rows):
        raise DissectError(
            "the latents function gives other latents each time it is called: draw them from a "
            "torch.Generator that is seeded from seed and row"
        )
    if not torch.equal(later, rows[1:]):
        if torch.equal(later, rows[:2]):
            reason = "it ignores `start`"
        else:
            reason = "it draws a whole batch from one generator"
        raise DissectError(
            f"row i of the latents must depend on seed and start + i alone, and {reason}: draw row "
            "by row, torch.Generator().manual_seed(...) of seed and start + i for each, or use "
            "dissect.latents(n, seed, start=start, size=...)"
        )
    if torch.equal(other, rows) and rows.numel():
        raise DissectError("the latents function ignores `seed`: each seed must give other latents")
    return rows[:2]


def _called(draw: MakeLatents, n: int, seed: int, start: int) -> Any:
    try:
        drawn: Any = draw(n, seed, start)
    except DissectError:
        raise
    except Exception as error:
        raise DissectError(
            "the latents function must be of (n, seed, start), and failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    parts = drawn if isinstance(drawn, tuple | list) else [drawn]
    if not parts or not all(isinstance(part, Tensor) and part.ndim for part in parts):
        kind = type(drawn).__name__
        raise DissectError(
            f"the latents function must return a tensor or a tuple of them, not {kind}"
        )
    lengths = {len(part) for part in parts}
    if lengths != {n}:
        raise DissectError(
            f"the latents function must return a first axis of n = {n}, not {lengths.pop()}"
        )
    return drawn


def _missing(model: nn.Module, adapter: Adapter) -> list[str]:
    """Inputs that the forward pass needs and nobody gave."""
    try:
        needed = required_inputs(own_forward(model))
    except (TypeError, ValueError):
        return []  # a forward without a signature, such as that of TorchScript
    taken = max(0, len(adapter.parts) - 1)
    return [name for name in needed[taken:] if name not in adapter.inputs]


def _returned(model: nn.Module, adapter: Adapter, z: Tensor, missing: list[str]) -> Any:
    try:
        # With a graph, which tells the last operation.
        with torch.enable_grad():
            given = z.clone().requires_grad_() if z.is_floating_point() else z
            with warnings.catch_warnings():
                # A forward pass that reads numbers from latents would be warned of these gradients.
                warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True")
                return adapter.returned(model, given)
    except DissectError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        inputs = f" and {adapter.text()}" if adapter.text() else ""
        hint = (
            f"; it takes {', '.join(missing)}, too: return dissect.adapt(model, inputs="
            f"{{{missing[0]!r}: ...}}) or a call of your own"
            if missing
            else ""
        )
        shape = ", ".join(map(str, ("N", *(adapter.shape or z.shape[1:]))))
        raise DissectError(
            f"the generator fails on latents ({shape}){inputs}: {reason}{hint}"
        ) from error


def _warn_of_range(image: Tensor, stated: tuple[float, float] | None) -> None:
    if stated == (0, 1):
        warnings.warn(
            "the generator ends in a sigmoid: its images are in [0, 1], and are brought to [-1, 1]",
            stacklevel=5,
        )
    low, high = float(image.detach().min()), float(image.detach().max())
    if stated is not None or not (low >= 0 or high > 1.5 or low < -1.5):
        return
    guess = (0, 1) if low > -0.5 and high <= 1.5 else (0, 255) if low >= 0 else None
    say = f"if they are in {list(guess)}, " if guess else ""
    warnings.warn(
        f"the images have values from {low:.2g} to {high:.2g}, and are taken to be in [-1, 1]; "
        f"{say}return dissect.adapt(model, value_range={guess or '(lowest, highest)'})",
        stacklevel=5,
    )


def _check_repeated(model: nn.Module, adapter: Adapter, z: Tensor, image: Tensor) -> None:
    """One latent has one image, alone or in a batch; noise is made so."""
    if not _differs(_again(model, adapter, z[1:]), image[1:]):
        return
    if not _differs(_again(model, adapter, z), image):
        warnings.warn(
            "the image of a latent depends on its batch-mates, since something takes statistics of "
            "the batch: each image is drawn by itself, in batches of 1",
            stacklevel=5,
        )
        set_batch_size(model, 1)
        return
    if adapter.noise is None:
        adapter.noise = 0
        if not _differs(_again(model, adapter, z[1:]), _again(model, adapter, z)[1:]):
            warnings.warn(
                "the forward pass draws noise, so that one latent has many images: it is drawn "
                "from seed 0, the same for every image; --input noise=1 takes another seed",
                stacklevel=5,
            )
            return
    raise DissectError(
        "one latent gives two different images: the forward pass draws noise in a way that a seed "
        "does not reach; switch it off in the factory"
    )


def _again(model: nn.Module, adapter: Adapter, z: Tensor) -> Tensor:
    with torch.no_grad():
        return image_of(adapter.returned(model, z), len(z), adapter.output)


def _differs(first: Tensor, second: Tensor) -> bool:
    # Numbers of half precision are further apart.
    scale = max(1.0, float(second.detach().abs().max()))
    finest = torch.finfo(second.dtype).eps
    apart = (first.detach().float() - second.detach().float()).abs().max()
    return not float(apart) <= max(_ROUNDING, 8 * finest) * scale
