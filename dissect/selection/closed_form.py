"""Rules that find directions in closed form, from cells and how much of each is the concept.

No gradient of a segmenter has a part in them. Every rule gives `Directions` that remove what it
found at strength 1; how far that removes the concept from the picture is for `effect` to say.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad, unfold

from dissect._utils.errors import DissectError
from dissect.probe import Probe, fit_probe
from dissect.probe.fit import NO_SCORE
from dissect.selection.samples import Samples
from dissect.units import Directions

__all__ = [
    "inlp_directions",
    "leace_directions",
    "nmf_directions",
    "pca_directions",
    "probe_direction",
]

# From which coverage on a cell counts as the concept's.
_INSIDE = 0.5
_RIDGE = 1e-5
_NMF_CELLS = 20_000


def probe_direction(probe: Probe) -> Directions:
    """The weight vector of the paper's probe, as one direction (Radford et al. 2015, 6.3.1).

    The probe's logit is 0 without it: a -> a - (w · a) w / |w|^2.
    """
    weight = probe.gate().weight.float()
    unit = (weight / weight.norm()).unsqueeze(0)
    return Directions(unit, unit)


def leace_directions(samples: Samples, labels: int = 1) -> Directions:
    """Least-squares concept erasure: no linear reader of a cell tells the concept afterwards.

    Of all affine edits with that property it changes cells least, in the mean square (Belrose et
    al. 2023, LEACE, theorem 4.3). The closed form is short enough to stand here; the package
    `concept-erasure` does the same for token vectors.

    Args:
        samples: whose cells it is fitted to.
        labels: what is erased: 1, the concept's fraction of the cell; 4, of its 2x2 parts; 9, of
            the cell and its eight neighbours. As many directions come out, at most.

    Raises:
        DissectError: another number of labels.
    """
    cells, mean, spread = _cells(samples)
    wanted = _labels(samples, labels)
    cross = (cells - mean).T @ (wanted - wanted.mean(0)) / len(cells)
    sizes, axes = torch.linalg.eigh(spread)
    keep = sizes > sizes.max() * _RIDGE
    root = sizes[keep].sqrt()
    whiten = axes[:, keep] / root
    unwhiten = axes[:, keep] * root
    basis, found, _ = torch.linalg.svd(whiten.T @ cross, full_matrices=False)
    basis = basis[:, found > found.max() * 1e-6]
    read, write = (whiten @ basis).T, (unwhiten @ basis).T
    return _directions(read, write, -read @ mean)


def pca_directions(samples: Samples, k: int) -> Directions:
    """Of the principal components of the cells, the `k` that differ most where the concept is.

    By the difference of means inside and outside the concept, in standard deviations.
    """
    cells, mean, spread = _cells(samples)
    sizes, axes = torch.linalg.eigh(spread)
    _check_count(k, len(sizes))
    values = (cells - mean) @ axes
    apart = _apart(values, samples).abs() / sizes.clamp_min(1e-12).sqrt()
    best = apart.topk(k).indices
    read = axes[:, best].T
    return _directions(read, read, -read @ mean)


def nmf_directions(samples: Samples, k: int, *, components: int = 64, seed: int = 0) -> Directions:
    """Of the parts of a non-negative factorisation, the `k` that rise most where the concept is.

    Activations after a ReLU are sums of such parts (Lee and Seung 1999; Olah et al. 2018, The
    Building Blocks of Interpretability). A part's value is the least-squares one given all parts.

    Raises:
        DissectError: more directions than parts, or activations below 0.
    """
    from sklearn.decomposition import NMF

    cells, _, _ = _cells(samples)
    if float(cells.min()) < 0:
        raise DissectError(f"nmf needs activations of 0 or more, and {samples.layer!r} has others")
    components = min(components, cells.shape[1])
    _check_count(k, components)
    rows = np.random.default_rng(seed).permutation(len(cells))[:_NMF_CELLS]
    model = NMF(components, init="nndsvda", random_state=seed, max_iter=200, tol=1e-3)
    model.fit(cells[torch.from_numpy(rows)].numpy())
    write = torch.from_numpy(model.components_).double()
    write = write[write.norm(dim=1) > 0]
    read = torch.linalg.pinv(write).T
    values = cells @ read.T
    apart = _apart(values, samples) / values.std(0).clamp_min(1e-12)
    best = apart.topk(min(k, len(write))).indices
    return _directions(read[best], write[best], None)


def inlp_directions(samples: Samples, k: int) -> Directions:
    """The weight vectors of `k` probes, each fitted to what the ones before cannot read.

    Iterative null-space projection (Ravfogel et al. 2020, INLP, section 3).
    """
    acts = samples.acts.detach().cpu().double()
    _check_count(k, acts.shape[1])
    basis = torch.zeros(0, acts.shape[1]).to(acts)
    for _ in range(k):
        read = torch.einsum("kc,nchw->nkhw", basis, acts)
        left = acts - torch.einsum("kc,nkhw->nchw", basis, read)
        probe = fit_probe(left, samples.coverage, layer=samples.layer, **NO_SCORE)
        weight = probe.weight - basis.T @ (basis @ probe.weight)
        basis = torch.cat([basis, (weight / weight.norm().clamp_min(1e-12)).unsqueeze(0)])
    return _directions(basis, basis, None)


def _cells(samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """The activations of all cells, (N, C) float64, their mean and their covariance."""
    cells = samples.acts.detach().cpu().double().movedim(1, -1).flatten(0, 2)
    return cells, cells.mean(0), torch.cov(cells.T, correction=0)


def _labels(samples: Samples, labels: int) -> Tensor:
    """What is erased of each cell, (N, labels) in [0, 1]."""
    coverage = samples.coverage.cpu().double()
    if labels == 1:
        return coverage.reshape(-1, 1)
    rows, columns = coverage.shape[1:]
    if labels == 4:
        mask = samples.mask.double().cpu().unsqueeze(1)
        parts = adaptive_avg_pool2d(mask, (2 * rows, 2 * columns))
        return unfold(parts, 2, stride=2).movedim(1, -1).reshape(-1, 4)
    if labels == 9:
        around = pad(coverage.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
        return unfold(around, 3).movedim(1, -1).reshape(-1, 9)
    raise DissectError(
        f"leace:{labels} is not known: use leace:1 (the cell), leace:4 (its 2x2 parts) or leace:9 "
        "(the cell and its neighbours)"
    )


def _apart(values: Tensor, samples: Samples) -> Tensor:
    """How far the mean inside the concept is above that outside, (k,)."""
    coverage = samples.coverage.flatten().cpu()
    inside, outside = coverage >= _INSIDE, coverage == 0
    if not bool(inside.any()) or not bool(outside.any()):
        raise DissectError(
            f"no cell of {samples.layer!r} is half {samples.concept}, or none is without it: "
            "choose a finer layer"
        )
    return values[inside].mean(0) - values[outside].mean(0)


def _check_count(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise DissectError(f"cannot take {k} directions: there are {most}")


def _directions(read: Tensor, write: Tensor, bias: Tensor | None) -> Directions:
    return Directions(read.float(), write.float(), None if bias is None else bias.float())
