"""What compiled code calls rather than traces.

Imported only while torch.compile traces a hook: `torch.compiler.disable` imports the compiler,
which takes seconds.
"""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["call"]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call(function: Callable[..., Any], *args: Any) -> Any:
    """The result of the function, called outside the graph."""
    return function(*args)
