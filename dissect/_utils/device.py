"""Devices by name, and what a device computes in."""

from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import torch
from torch import nn

from dissect._utils.errors import DissectError

__all__ = ["autocast", "autocast_dtype", "device_of", "no_autocast", "resolve_device"]


def resolve_device(device: str | torch.device) -> torch.device:
    """The device that `device` names; `auto` is CUDA where it is there, else the CPU.

    Raises:
        DissectError: no such device, or it is absent on this machine.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).tolist()  # the device "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        have = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise DissectError(f"device {str(device)!r} is not available here; have: {have}") from error
    return resolved


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter or buffer of `model`; the CPU where it has none."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def autocast(device: torch.device) -> torch.autocast:
    """The block that computes in bfloat16 where the device does so natively (`autocast_dtype`)."""
    dtype = autocast_dtype(device)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The block in which a `torch.autocast` around it leaves the types of tensors as they are."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device computes in it, None where it would only be emulated.

    A processor without AVX-512 BF16 or AMX emulates bfloat16, many times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "cpu":
        # Versions of torch that cannot be asked compute in float32.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return torch.bfloat16 if native else None
    return None
