"""Vector arithmetic on concepts, in latent space and in pixel space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.result import Result
from dissect.latent_space.exemplars import Condition, matching
from dissect.latent_space.expression import Term
from dissect.models import generate
from dissect.segmentation import AttributeReader, Realism

__all__ = [
    "ArithmeticResult",
    "TrialResult",
    "vector_sum",
    "evaluate_arithmetic",
    "neighbours",
    "pixel_sum",
    "random_sum",
]


def vector_sum(terms: Sequence[Term], means: Mapping[str, Tensor]) -> Tensor:
    """The sum of the concepts' means, each times its factor.

    Section 6.3.2 of Radford et al. (2015): vec("smiling woman") - vec("neutral woman") +
    vec("neutral man"), each vector the mean of the latents of three exemplars.

    >>> means = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 0.0])}
    >>> vector_sum((Term("a", 1.0), Term("b", -0.5)), means).tolist()
    [-0.5, 2.0]
    """
    parts = [term.factor * means[term.concept] for term in terms]
    return torch.stack(parts).sum(0)


def pixel_sum(terms: Sequence[Term], means: Mapping[str, Tensor]) -> Tensor:
    """The same sum over mean images, clamped to [-1, 1]: the paper's baseline.

    Images are summed as amounts of light, so that black adds nothing.
    """
    light = {concept: (image + 1) / 2 for concept, image in means.items()}
    return vector_sum(terms, light).clamp(0, 1) * 2 - 1


def neighbours(z: Tensor, n: int = 8, *, scale: float = 0.25, seed: int = 0) -> Tensor:
    """`n` latents (n, D) around `z` (D,): uniform noise of `scale` added to each component."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, len(z), generator=random) * 2 - 1
    return z + scale * noise.to(z)


def random_sum(result: Tensor, last: Tensor, *, seed: int = 0) -> Tensor:
    """Latents (N, D) in random directions from the last terms, as far as the sums: a control.

    Args:
        result: sums (N, D).
        last: the contributions of their last terms, (N, D).
        seed: of the directions.
    """
    random = torch.Generator().manual_seed(seed)
    steps = torch.randn(result.shape, generator=random).to(result)
    distance = (result - last).norm(dim=1, keepdim=True)
    moved: Tensor = last + steps * (distance / steps.norm(dim=1, keepdim=True))
    return moved


@dataclass(frozen=True, repr=False)
class ArithmeticResult(Result):
    """What a set of images shows.

    Attributes:
        wanted: fraction of the images with the wanted attributes.
        ordinary: fraction within the range of ordinary samples (see `Realism`).
        both: fraction with both.
        distance: median distance to ordinary samples.
    """

    wanted: float
    ordinary: float
    both: float
    distance: float

    @classmethod
    def from_images(
        cls,
        images: Tensor,
        reader: AttributeReader,
        wanted: Sequence[Condition],
        realism: Realism,
    ) -> "ArithmeticResult":
        """The fractions of `images` (N, C, H, W)."""
        matches = matching(reader.read(images), wanted, reader)
        distance = realism.distance(images)
        ordinary = realism.within(distance)

        def fraction(rows: Tensor) -> float:
            return float(rows.float().mean())

        return cls(
            fraction(matches),
            fraction(ordinary),
            fraction(matches & ordinary),
            float(distance.median()),
        )


@dataclass(frozen=True, repr=False)
class TrialResult(Result):
    """How often sums of other exemplars show the wanted attributes.

    Attributes:
        exemplars: number of exemplars that are averaged for each concept.
        n: number of trials.
        latent: of sums of latents.
        pixels: of the same sums in pixel space.
        random: of random latents as far from the last concept as the sums (see `random_sum`).
    """

    exemplars: int
    n: int
    latent: ArithmeticResult
    pixels: ArithmeticResult
    random: ArithmeticResult

    def rows(self) -> list[dict[str, Any]]:
        """One row each for latents, pixels and random latents."""
        kinds = {"latent": self.latent, "pixels": self.pixels, "random": self.random}
        return [{"kind": kind, **result.summary()} for kind, result in kinds.items()]


def evaluate_arithmetic(
    generator: nn.Module,
    reader: AttributeReader,
    terms: Sequence[Term],
    pools: Mapping[str, Tensor],
    wanted: Sequence[Condition],
    realism: Realism,
    *,
    exemplars: int,
    n: int = 200,
    seed: int = 0,
) -> TrialResult:
    """Sums of the means of other exemplars in each of `n` trials, and what their images show.

    Args:
        generator: latents to images.
        reader: of the attributes.
        terms: the sum.
        pools: for each concept, latents (M, D) from which exemplars are drawn.
        wanted: the conditions on the result.
        realism: the range of the generator's ordinary samples.
        exemplars: number of exemplars that are averaged for each concept.
        n: number of trials.
        seed: of the draws.

    Raises:
        DissectError: a pool that is smaller than `exemplars`.
    """
    random = torch.Generator().manual_seed(seed)
    chosen = {}
    for term in terms:
        pool = pools[term.concept]
        if len(pool) < exemplars:
            raise DissectError(
                f"{term.concept!r} has {len(pool)} exemplars to draw from, fewer than {exemplars}: "
                "search more samples or loosen its conditions"
            )
        rows = [torch.randperm(len(pool), generator=random)[:exemplars] for _ in range(n)]
        chosen[term.concept] = pool[torch.stack(rows).to(pool.device)]  # (n, exemplars, D)
    latent_means = {name: z.mean(1) for name, z in chosen.items()}
    result, last = vector_sum(terms, latent_means), vector_sum(terms[-1:], latent_means)
    means = {}
    for name, z in chosen.items():
        images = generate(generator, z.flatten(0, 1))
        means[name] = images.unflatten(0, (n, exemplars)).mean(1)
    latent, pixels, control = (
        ArithmeticResult.from_images(images, reader, wanted, realism)
        for images in (
            generate(generator, result),
            pixel_sum(terms, means),
            generate(generator, random_sum(result, last, seed=seed)),
        )
    )
    return TrialResult(exemplars, n, latent, pixels, control)
