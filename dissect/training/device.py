"""How a device trains fastest: what it supports is asked of it, never assumed."""

import ctypes
import sys

import torch

__all__ = ["autocast_dtype", "keep_freed_memory"]

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device computes in it, None where it would only be emulated.

    A processor without AVX-512 BF16 or AMX emulates bfloat16, many times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "cpu":
        cpu = torch.cpu
        native = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else None
    return None


def keep_freed_memory() -> bool:
    """Whether the C allocator now keeps freed memory for reuse (on Linux with glibc).

    By default glibc takes each large tensor from the kernel afresh and gives it back when it is
    freed; the page faults of a training step cost about a fifth of its time on the CPU.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    largest = 2**31 - 1
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, largest), (_M_TOP_PAD, 64 * 2**20))
    return all(mallopt(name, value) == 1 for name, value in settings)
