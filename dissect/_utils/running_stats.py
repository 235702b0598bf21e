"""Statistics of streams: many columns at once, in memory that does not grow with what was seen.

    running = RunningQuantile(columns=512)
    for values in stream:                                   # (512, n) each
        running.update(values)
    running.result(0.995)                                   # (512,)

One contract for all of them: `update` takes values (columns, n); `result` is the statistic so far;
`merge` takes in what another one saw, as if its values had been added here; `state_dict` is a dict
of tensors, of a size that depends on the number of columns alone, from which `from_state_dict`
makes the statistic anew, on another machine if need be. After Bau's `runningstats` (baukit); the
quantile is DDSketch (Masson, Rim and Lee 2019) on the bits of float32.
"""

from math import ceil

import torch
from torch import Tensor

from dissect._utils.errors import DissectError

__all__ = ["RunningMoments", "RunningQuantile", "RunningTopK", "State"]

State = dict[str, Tensor]

# The seven highest bits of the mantissa: 128 bins from each power of two to the next.
_MANTISSA = 7
_SHIFT = 23 - _MANTISSA
# Powers of two that are told apart; what is smaller counts as 0, what is larger is refused.
_LEAST, _MOST = -20, 20
_FIRST = (127 + _LEAST) << _MANTISSA
_BINS_PER_SIGN = (_MOST - _LEAST) << _MANTISSA

# What the digits of a sum count, the first of them all that is above.
_PLACES = (2.0**32, 1.0, 2.0**-32, 2.0**-64, 2.0**-96)
_LARGEST = 2.0**94


class RunningQuantile:
    """Quantiles of every column, from counts in bins of a fixed relative width.

    A bin holds the floats that share sign, exponent and the first 7 bits of the mantissa, so that
    the estimate of a quantile x is off by at most `RELATIVE_ERROR` * |x| + `ABSOLUTE_ERROR`,
    whatever was added and in whatever order. Counts are whole numbers: neither the order, nor the
    sizes of the parts, nor merging changes a result by a bit.

    Args:
        columns: how many streams are counted side by side; each takes 82 kB.
        device: where the values come from.
    """

    RELATIVE_ERROR = 2.0**-_MANTISSA
    ABSOLUTE_ERROR = 2.0**_LEAST

    def __init__(self, columns: int, device: torch.device | str = "cpu") -> None:
        self._counts = torch.zeros(
            columns, 2 * _BINS_PER_SIGN + 1, dtype=torch.int64, device=device
        )

    def update(self, values: Tensor) -> None:
        """Count values (columns, n).

        Raises:
            DissectError: another number of columns, or a value that is not finite or is beyond
                2 to the 20th.
        """
        _check_columns(values, len(self._counts))
        bits = values.float().contiguous().view(torch.int32)
        place = bits.bitwise_and(0x7FFFFFFF).bitwise_right_shift_(_SHIFT).sub_(_FIRST - 1)
        place.clamp_(min=0)
        if place.numel() and int(place.max()) > _BINS_PER_SIGN:
            raise DissectError(
                f"a value is not finite, or beyond {2**_MOST:,}: quantiles are not kept of such"
            )
        if bits.numel() and int(bits.min()) < 0:
            place = torch.where(bits < 0, -place, place)
        place.add_(_BINS_PER_SIGN)
        bins = self._counts.shape[1]
        for counts, row in zip(self._counts, place, strict=True):
            counts += torch.bincount(row, minlength=bins)

    def merge(self, other: "RunningQuantile") -> None:
        """Take in what `other` saw; exact.

        Raises:
            DissectError: another number of columns.
        """
        _check_columns(other._counts, len(self._counts))
        self._counts += other._counts.to(self._counts.device)

    def result(self, level: float) -> Tensor:
        """The value of rank ceil(level * n) in each column, within the error above: (columns,).

        Raises:
            DissectError: a level outside [0, 1], or nothing was added.
        """
        return self.results((level,))[:, 0]

    def results(self, levels: tuple[float, ...]) -> Tensor:
        """The same for several levels: (columns, len(levels)), float32."""
        if not all(0 <= level <= 1 for level in levels):
            raise DissectError("the level of a quantile is from 0 to 1")
        if not self.count:
            raise DissectError("nothing was added, and nothing has no quantile")
        ranks = [max(1, ceil(level * self.count)) for level in levels]
        wanted = torch.tensor(ranks, device=self._counts.device).repeat(len(self._counts), 1)
        reached = self._counts.cumsum(1)
        at = torch.searchsorted(reached, wanted)
        held = self._counts.gather(1, at)
        before = reached.gather(1, at) - held
        share = ((wanted - before).double() - 0.5) / held
        low, high = (edges.to(share.device)[at] for edges in _edges())
        # The float32 nearest to a point of a bin may be the bin's open end.
        return (low + (high - low) * share).float()

    @property
    def count(self) -> int:
        """How many values each column has seen."""
        return int(self._counts[0].sum())

    def state_dict(self) -> State:
        """The counts."""
        return {"counts": self._counts.clone()}

    @classmethod
    def from_state_dict(cls, state: State) -> "RunningQuantile":
        """The statistic whose state this is."""
        made = cls(0)
        made._counts = state["counts"].clone()
        return made


class RunningTopK:
    """The k largest values of every column and their keys; of equal ones, those of lower keys.

    Args:
        columns: how many streams.
        k: how many values are kept of each.
        device: where the values come from.
    """

    def __init__(self, columns: int, k: int, device: torch.device | str = "cpu") -> None:
        self.k = k
        self._values = torch.zeros(columns, 0, device=device)
        self._keys = torch.zeros(columns, 0, dtype=torch.int64, device=device)

    def update(self, values: Tensor, keys: Tensor) -> None:
        """Look at values (columns, n) whose keys (n,) are the same in all columns.

        Raises:
            DissectError: another number of columns, or of keys.
        """
        _check_columns(values, len(self._values))
        if keys.shape != values.shape[1:]:
            raise DissectError(f"{values.shape[1]} values a column need as many keys")
        self._keep(values.float(), keys.to(self._keys).expand(values.shape))

    def merge(self, other: "RunningTopK") -> None:
        """Take in what `other` saw; exact.

        Raises:
            DissectError: another number of columns, or another k.
        """
        _check_columns(other._values, len(self._values))
        if other.k != self.k:
            raise DissectError(f"the largest {other.k} do not tell the largest {self.k}")
        self._keep(other._values.to(self._values), other._keys.to(self._keys))

    def _keep(self, values: Tensor, keys: Tensor) -> None:
        values, keys = torch.cat([self._values, values], 1), torch.cat([self._keys, keys], 1)
        by_key = keys.argsort(dim=1, stable=True)
        values, keys = values.gather(1, by_key), keys.gather(1, by_key)
        best = values.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        self._values, self._keys = values.gather(1, best), keys.gather(1, best)

    def result(self) -> tuple[Tensor, Tensor]:
        """Values and keys, each (columns, k) or as many as were seen, the largest first."""
        return self._values.clone(), self._keys.clone()

    def state_dict(self) -> State:
        """What is kept, and k."""
        return {"values": self._values, "keys": self._keys, "k": torch.tensor(self.k)}

    @classmethod
    def from_state_dict(cls, state: State) -> "RunningTopK":
        """The statistic whose state this is."""
        made = cls(0, int(state["k"]))
        made._values, made._keys = state["values"].clone(), state["keys"].clone()
        return made


class RunningMoments:
    """Mean and standard deviation of every column, from sums in float64.

    What each `update` comes to is kept in whole multiples of 2 to the -96th: these add up without
    rounding, so that neither the order nor merging changes a result by a bit. The sizes of the
    parts change it by no more than the rounding of a sum.

    Args:
        columns: how many streams.
        device: where the values come from.
    """

    def __init__(self, columns: int, device: torch.device | str = "cpu") -> None:
        self._count = 0
        # Of the values and of their squares, digits in the base 2 to the 32nd.
        self._sums = torch.zeros(len(_PLACES), 2, columns, dtype=torch.int64, device=device)

    def update(self, values: Tensor) -> None:
        """Sum values (columns, n).

        Raises:
            DissectError: another number of columns, or a value that is not finite or so large that
                the squares come to more than 2 to the 94th.
        """
        _check_columns(values, self._sums.shape[2])
        exact = values.double()
        rest = torch.stack([exact.sum(1), exact.square().sum(1)])
        if not bool((rest.abs() < _LARGEST).all()):
            raise DissectError("a value is not finite, or too large: no moments are kept of such")
        self._count += values.shape[1]
        for digits, place in zip(self._sums, _PLACES, strict=True):
            digit = (rest / place).trunc()  # not floor: what is left would be rounded
            digits += digit.long()
            rest -= digit * place

    def merge(self, other: "RunningMoments") -> None:
        """Take in what `other` saw; exact.

        Raises:
            DissectError: another number of columns.
        """
        _check_columns(other._sums[0].T, self._sums.shape[2])
        self._count += other._count
        self._sums += other._sums.to(self._sums.device)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (of the population), each (columns,) float64.

        Raises:
            DissectError: nothing was added.
        """
        if not self._count:
            raise DissectError("nothing was added, and nothing has no mean")
        sums = torch.zeros_like(self._sums[0], dtype=torch.float64)
        for digits, place in zip(self._sums, _PLACES, strict=True):
            sums += digits.double() * place
        mean, square = sums / self._count
        return mean, (square - mean.square()).clamp(min=0).sqrt()

    def state_dict(self) -> State:
        """The sums, and how many values they are over."""
        return {"sums": self._sums.clone(), "count": torch.tensor(self._count)}

    @classmethod
    def from_state_dict(cls, state: State) -> "RunningMoments":
        """The statistic whose state this is."""
        made = cls(0)
        made._sums, made._count = state["sums"].clone(), int(state["count"])
        return made


def _edges() -> tuple[Tensor, Tensor]:
    """The two ends of every bin, from the most negative to the largest: (bins,) float64 each."""
    codes = torch.arange(_BINS_PER_SIGN + 1, dtype=torch.int32) + _FIRST
    ends = (codes << _SHIFT).view(torch.float32).double()
    nearer, farther = ends[:-1], ends[1:]
    zero = torch.zeros(1, dtype=torch.float64)
    return (
        torch.cat([-farther.flip(0), zero, nearer]),
        torch.cat([-nearer.flip(0), zero, farther]),
    )


def _check_columns(values: Tensor, columns: int) -> None:
    if values.ndim != 2 or values.shape[0] != columns:
        raise DissectError(
            f"values are (columns, n) with {columns} columns here, not {tuple(values.shape)}"
        )
