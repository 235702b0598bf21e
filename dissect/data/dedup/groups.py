"""Equal codes are duplicates: which images share one, in linear time."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["CERTAIN", "first_alike", "first_of_each", "groups_of"]

# In place of a bit near its threshold: there is none.
CERTAIN = 255
# Which of an image's two bits near their thresholds are turned.
_TURNS = ((0,), (1,), (0, 1))


def first_of_each(codes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of the codes (N, 2), the first place at which the same code stands: (N,).

    Eight passes of a counting sort over 16 bits each: linear in N, with 8 bytes an image for the
    order beside the 16 of its code.
    """
    count = len(codes)
    digits = np.ascontiguousarray(codes).view(np.uint16)
    order = np.arange(count)
    for column in range(digits.shape[1]):
        order = order[np.argsort(digits[order, column], kind="stable")]
    ordered = codes[order]
    begins = np.ones(count, bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(1)
    # The sort is stable, so that each run of equal codes begins with its lowest place.
    first = np.empty(count, np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def first_alike(codes: NDArray[np.uint64], near_threshold: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each image the first one that is alike: (N,); an image that names itself is kept.

    Two images are alike if their codes are equal, also after bits of the one that lie near their
    thresholds are turned, and so are images that are alike to the same third one.

    Args:
        codes: (N, 2), as `Hasher.codes` gives them.
        near_threshold: (N, 2) the bits of each code that a copy may well have turned, or CERTAIN.
    """
    count = len(codes)
    parts, owners = [codes], [np.arange(count)]
    for turn in _TURNS:
        rows = np.flatnonzero((near_threshold[:, turn] != CERTAIN).all(1))
        turned = codes[rows]
        octets = turned.view(np.uint8)
        for column in turn:
            bits = near_threshold[rows, column]
            octets[np.arange(len(rows)), bits // 8] ^= np.uint8(128) >> (bits % 8)
        parts.append(turned)
        owners.append(rows)
    owner = np.concatenate(owners)
    # Codes as they are come first, so that one of them begins every run in which there is any.
    anchor = first_of_each(np.concatenate(parts))
    linked = (anchor < count) & (anchor != owner)
    return _first_linked(owner[linked], anchor[linked], count)


def groups_of(first: NDArray[np.int64]) -> list[list[int]]:
    """The groups of two images or more, each in rising order, by their first image."""
    groups: dict[int, list[int]] = {}
    for index in np.flatnonzero(first != np.arange(len(first))).tolist():
        kept = int(first[index])
        groups.setdefault(kept, [kept]).append(index)
    return [groups[kept] for kept in sorted(groups)]


def _first_linked(
    one: NDArray[np.int64], other: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The first member of each one's connected component, where `one` and `other` are linked."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    first = np.empty(count, np.int64)
    # The last to write is the lowest.
    first[component[::-1]] = np.arange(count)[::-1]
    first_in_component: NDArray[np.int64] = first[component]
    return first_in_component
