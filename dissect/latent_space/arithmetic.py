"""Vector arithmetic on concepts, in latent space and in pixel space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.latent_space.exemplars import Condition, meeting
from dissect.latent_space.expression import Term
from dissect.models import generate
from dissect.segmentation import AttributeReader, Realism

__all__ = [
    "Shown",
    "TrialScore",
    "combined",
    "measured",
    "neighbours",
    "pixel_sum",
    "random_sum",
]


def combined(terms: Sequence[Term], means: Mapping[str, Tensor]) -> Tensor:
    """The sum of the concepts' means, each times its factor.

    Section 6.3.2 of Radford et al. (2015): vec("smiling woman") - vec("neutral woman") +
    vec("neutral man"), each vector the mean of the latents of three exemplars.
    """
    parts = [term.factor * means[term.concept] for term in terms]
    return torch.stack(parts).sum(0)


def pixel_sum(terms: Sequence[Term], means: Mapping[str, Tensor]) -> Tensor:
    """The same sum over mean images, brought back into [-1, 1]: the paper's baseline.

    Black is what adds nothing, so that images are summed as amounts of light.
    """
    light = {concept: (image + 1) / 2 for concept, image in means.items()}
    return combined(terms, light).clamp(0, 1) * 2 - 1


def neighbours(z: Tensor, n: int = 8, *, scale: float = 0.25, seed: int = 0) -> Tensor:
    """`n` latents (n, D) around `z` (D,): uniform noise of `scale` added to each component."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, len(z), generator=random) * 2 - 1
    return z + scale * noise.to(z)


def random_sum(result: Tensor, last: Tensor, *, seed: int = 0) -> Tensor:
    """Latents (N, D) as far from the last term's part of sums as the sums are, anywhere: a control.

    Args:
        result: sums (N, D).
        last: what their last terms contribute, (N, D).
        seed: of the directions.
    """
    random = torch.Generator().manual_seed(seed)
    steps = torch.randn(result.shape, generator=random).to(result)
    far = (result - last).norm(dim=1, keepdim=True)
    away: Tensor = last + steps * (far / steps.norm(dim=1, keepdim=True))
    return away


@dataclass(frozen=True)
class Shown:
    """What some images show, as shares of them.

    Attributes:
        wanted: has the wanted attributes.
        ordinary: lies among the ordinary samples (see `Realism`).
        both: does both.
        distance: median distance to ordinary samples.
    """

    wanted: float
    ordinary: float
    both: float
    distance: float

    @classmethod
    def of(
        cls,
        images: Tensor,
        reader: AttributeReader,
        wanted: Sequence[Condition],
        realism: Realism,
    ) -> "Shown":
        """What `images` (N, C, H, W) show."""
        met = meeting(reader.read(images), wanted, reader)
        far = realism.distance(images)
        near = realism.within(far)

        def share(rows: Tensor) -> float:
            return float(rows.float().mean())

        return cls(share(met), share(near), share(met & near), float(far.median()))


@dataclass(frozen=True)
class TrialScore:
    """How often sums of other exemplars show what is wanted of them.

    Attributes:
        exemplars: how many were averaged for each concept.
        n: trials.
        latent: sums of latents.
        pixels: the same sums in pixel space.
        random: random latents as far from the last concept as the sums (see `random_sum`).
    """

    exemplars: int
    n: int
    latent: Shown
    pixels: Shown
    random: Shown


def measured(
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
) -> TrialScore:
    """Sums of the means of other exemplars in each of `n` trials, and what they show.

    Args:
        generator: latents to images.
        reader: what reads the images.
        terms: the sum.
        pools: for each concept, latents (M, D) from which exemplars are drawn.
        wanted: what the result must show.
        realism: what is ordinary among the generator's samples.
        exemplars: how many are averaged for each concept.
        n: trials.
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
                "look through more samples or loosen its conditions"
            )
        rows = [torch.randperm(len(pool), generator=random)[:exemplars] for _ in range(n)]
        chosen[term.concept] = pool[torch.stack(rows).to(pool.device)]  # (n, exemplars, D)
    latent_means = {name: z.mean(1) for name, z in chosen.items()}
    result, last = combined(terms, latent_means), combined(terms[-1:], latent_means)
    means = {}
    for name, z in chosen.items():
        images = generate(generator, z.flatten(0, 1))
        means[name] = images.unflatten(0, (n, exemplars)).mean(1)
    latent, pixels, control = (
        Shown.of(images, reader, wanted, realism)
        for images in (
            generate(generator, result),
            pixel_sum(terms, means),
            generate(generator, random_sum(result, last, seed=seed)),
        )
    )
    return TrialScore(exemplars, n, latent, pixels, control)
