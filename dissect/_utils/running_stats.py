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

from fractions import Fraction
from math import ceil, isqrt, ldexp

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

# Sums of moments are whole multiples of 2 to the -96th, below 2 to the 126th.
_DIGITS, _LARGEST, _PLACES = 96, 2**126, 7
_LEAST_CENTER = 2.0**-43
_TOO_LARGE = "a value is not finite, or too large: no moments are kept of such"


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
        # As a fraction: 0.07 * 100 is above 7 in floating point, and would be rank 8.
        ranks = [max(1, ceil(Fraction(str(level)) * self.count)) for level in levels]
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
            DissectError: another number of columns, or of keys, or values that are not numbers.
        """
        _check_columns(values, len(self._values))
        if keys.shape != values.shape[1:]:
            raise DissectError(f"{values.shape[1]} values a column need as many keys")
        if bool(values.isnan().any()):
            raise DissectError("a value is not a number: the largest values are not kept of such")
        exact = values.to(torch.promote_types(values.dtype, torch.float32))
        self._keep(exact, keys.to(self._keys).expand(values.shape))

    def merge(self, other: "RunningTopK") -> None:
        """Take in what `other` saw; exact.

        Raises:
            DissectError: another number of columns, or another k.
        """
        _check_columns(other._values, len(self._values))
        if other.k != self.k:
            raise DissectError(f"the largest {other.k} do not tell the largest {self.k}")
        self._keep(other._values.to(self._values.device), other._keys.to(self._keys))

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
    """Mean and standard deviation of every column, from sums that are kept without rounding.

    A part whose values lie near one another is summed around one of them, so that a standard
    deviation of 1 around a mean of 1e12 is 1. What a part comes to is kept in whole multiples of 2
    to the -96th, so that neither the order nor merging changes a result by a bit; the sizes of the
    parts change it by no more than the rounding of a sum.

    Args:
        columns: how many streams.
    """

    def __init__(self, columns: int) -> None:
        self._count = 0
        # Of the values and of their squares.
        self._sums = [[0] * columns, [0] * columns]

    def update(self, values: Tensor) -> None:
        """Sum values (columns, n).

        Raises:
            DissectError: another number of columns, or a value that is not finite or so large that
                all squares come to more than 2 to the 126th.
        """
        _check_columns(values, len(self._sums[0]))
        n = values.shape[1]
        if not n:
            return
        exact = values.double()
        # Values near one another are summed around the first of them: their squares would agree in
        # all but the digits that count. Of a center below the least, not all digits are kept.
        center, spread = exact[:, 0], exact.amax(1) - exact.amin(1)
        near = (center.abs() > 16 * spread) & (center.abs() >= _LEAST_CENTER)
        center = torch.where(near, center, 0.0)
        apart = exact - center.unsqueeze(1)
        parts = torch.stack([center, apart.sum(1), apart.square().sum(1)])
        if not bool((parts.abs() < float(_LARGEST)).all()):
            raise DissectError(_TOO_LARGE)
        added: list[list[int]] = [[], []]
        for center_of, rest, squares in zip(*map(_as_whole, parts.tolist()), strict=True):
            added[0].append(n * center_of + rest)
            around = center_of * (2 * rest + n * center_of)
            added[1].append(squares + (around >> _DIGITS))
        self._add(added, n)

    def merge(self, other: "RunningMoments") -> None:
        """Take in what `other` saw; exact.

        Raises:
            DissectError: another number of columns, or sums that are too large.
        """
        if len(other._sums[0]) != len(self._sums[0]):
            raise DissectError(
                f"moments of {len(other._sums[0])} columns do not merge with those of "
                f"{len(self._sums[0])}"
            )
        self._add(other._sums, other._count)

    def _add(self, sums: list[list[int]], count: int) -> None:
        both = [
            [before + more for before, more in zip(*rows, strict=True)]
            for rows in zip(self._sums, sums, strict=True)
        ]
        if any(abs(value) >> _DIGITS >= _LARGEST for row in both for value in row):
            raise DissectError(_TOO_LARGE)
        self._sums, self._count = both, self._count + count

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (of the population), each (columns,) float64.

        Raises:
            DissectError: nothing was added.
        """
        if not self._count:
            raise DissectError("nothing was added, and nothing has no mean")
        n, unit = self._count, 1 << _DIGITS
        means = [total / (n * unit) for total in self._sums[0]]
        deviations = []
        for total, squares in zip(*self._sums, strict=True):
            # In whole numbers: the two terms may agree in all but their last digits.
            spread = max(0, n * squares * unit - total * total)
            deviations.append(isqrt(spread << 128) / ((n * unit) << 64))
        return torch.tensor(means, dtype=torch.float64), torch.tensor(
            deviations, dtype=torch.float64
        )

    def state_dict(self) -> State:
        """The sums, and how many values they are over."""
        sums = [[_digits(value) for value in row] for row in self._sums]
        return {"sums": torch.tensor(sums), "count": torch.tensor(self._count)}

    @classmethod
    def from_state_dict(cls, state: State) -> "RunningMoments":
        """The statistic whose state this is."""
        made = cls(0)
        made._sums = [[_from_digits(value) for value in row] for row in state["sums"].tolist()]
        made._count = int(state["count"])
        return made


def _as_whole(values: list[float]) -> list[int]:
    """The values in whole multiples of 2 to the -96th; what is below is left out."""
    return [int(ldexp(value, _DIGITS)) for value in values]


def _digits(value: int) -> list[int]:
    """A whole number as digits in the base 2 to the 32nd, all of its sign, the lowest first."""
    sign, rest = (-1, -value) if value < 0 else (1, value)
    return [sign * (rest >> 32 * place & 0xFFFFFFFF) for place in range(_PLACES)]


def _from_digits(digits: list[int]) -> int:
    return sum(digit << 32 * place for place, digit in enumerate(digits))


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
