"""What was recorded of a model, by the name of the layer."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from dissect._utils.errors import DissectError

__all__ = ["Recording", "never_ran"]


class _NotRecordedError(DissectError, KeyError):
    """A KeyError too, so that `in` and `get` of a recording work as those of any mapping."""

    __str__ = Exception.__str__


class Recording(Mapping[str, Tensor]):
    """What the recorded layers gave, by name: `acts["layer8x8"]` is the output in the last call.

    As a mapping it holds the layers that have run so far. A module that several blocks share is
    one layer with several names; each of its names gives all of its calls.
    """

    def __init__(self, calls: Mapping[str, list[Tensor]]) -> None:
        self._calls = calls

    def calls(self, layer: str) -> tuple[Tensor, ...]:
        """The layer's output in every call so far, in order of the calls.

        Raises:
            DissectError: the layer was not asked for, or has not run.
        """
        if layer not in self._calls:
            raise _NotRecordedError(
                f"{layer!r} was not asked for; recorded here: {', '.join(self._calls)}"
            )
        if not self._calls[layer]:
            raise _NotRecordedError(never_ran(layer))
        return tuple(self._calls[layer])

    def __getitem__(self, layer: str) -> Tensor:
        try:
            return self._calls[layer][-1]
        except (KeyError, IndexError):
            # Whichever it is, `calls` has the words for it.
            return self.calls(layer)[-1]

    def __iter__(self) -> Iterator[str]:
        return (layer for layer, outputs in self._calls.items() if outputs)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        shapes = (f"{layer}: {tuple(last.shape)}" for layer, last in self.items())
        return f"Recording({', '.join(shapes)})"


def never_ran(name: str) -> str:
    """What is wrong where a layer did not run."""
    return (
        f"layer {name!r} did not run in the block; was the model called there, does its forward "
        "pass call this module, and did no other recording stop the pass before it?"
    )
