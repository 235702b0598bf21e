"""How many inputs a pass of a network takes: as many as fit into the memory meant for it."""

from torch import nn

from dissect._utils.errors import DissectError

__all__ = ["chosen_batch_size", "fitting", "set_batch_size"]

# A batch may take about 1 GiB. Above 100 inputs a batch is no faster.
_BUDGET = 2**30
_MOST = 100

# On the model itself, so that copies of it keep it.
_KEY = "_dissect_batch_size"


def set_batch_size(model: nn.Module, batch_size: int | None) -> None:
    """Let a pass of `model` take at most so many inputs, where a call does not say otherwise.

    None is as many as fit into about 1 GiB, at most 100.

    Raises:
        DissectError: a batch size below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise DissectError(f"a batch holds at least 1 input, not {batch_size}")
    model.__dict__[_KEY] = batch_size


def chosen_batch_size(model: nn.Module) -> int | None:
    """What was set for the model; None where nothing was."""
    return model.__dict__.get(_KEY)


def fitting(numbers: int) -> int:
    """The inputs of a batch, where one of them takes so many float32 numbers."""
    return max(1, min(_MOST, _BUDGET // (4 * max(1, numbers))))
