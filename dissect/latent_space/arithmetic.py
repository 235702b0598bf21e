"""Vector arithmetic on concepts, in latent space and in pixel space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissect.attributes import AttributeReader, Realism
from dissect.errors import DissectError
from dissect.latent_space.exemplars import Condition, meeting
from dissect.latent_space.expression import Term
from dissect.latent_space.reading import draw

__all__ = ["TrialScore", "combined", "measured", "neighbours", "pixel_sum"]


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


@dataclass(frozen=True)
class TrialScore:
    """How often sums show what is wanted of them, as shares of all trials.

    Attributes:
        exemplars: how many were averaged for each concept.
        n: trials.
        wanted: the latent sum's image has the wanted attributes.
        ordinary: it lies among the ordinary samples (see `Realism`).
        both: it does both.
        pixel_wanted, pixel_ordinary, pixel_both: the same of the sum in pixel space.
        distance, pixel_distance: median distance to ordinary samples.
    """

    exemplars: int
    n: int
    wanted: float
    ordinary: float
    both: float
    pixel_wanted: float
    pixel_ordinary: float
    pixel_both: float
    distance: float
    pixel_distance: float


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
    latent = draw(generator, combined(terms, {name: z.mean(1) for name, z in chosen.items()}))
    means = {}
    for name, z in chosen.items():
        images = draw(generator, z.flatten(0, 1))
        means[name] = images.unflatten(0, (n, exemplars)).mean(1)
    pixel = pixel_sum(terms, means)
    shown = [meeting(reader.read(images), wanted, reader) for images in (latent, pixel)]
    far = [realism.distance(images) for images in (latent, pixel)]
    near = [realism.within(distance) for distance in far]

    def share(met: Tensor) -> float:
        return float(met.float().mean())

    return TrialScore(
        exemplars=exemplars,
        n=n,
        wanted=share(shown[0]),
        ordinary=share(near[0]),
        both=share(shown[0] & near[0]),
        pixel_wanted=share(shown[1]),
        pixel_ordinary=share(near[1]),
        pixel_both=share(shown[1] & near[1]),
        distance=float(far[0].median()),
        pixel_distance=float(far[1].median()),
    )
