"""One step of the GAN game."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.parallel import DistributedDataParallel

from dissect._utils.device import autocast
from dissect._utils.distributed import ProcessGroup
from dissect.training.average import update_average
from dissect.training.diffaugment import augment, augmentations
from dissect.training.state import TrainState

__all__ = ["Losses", "TrainingModules", "train_step"]

Forward = Callable[[Tensor], Tensor]


class TrainingModules(NamedTuple):
    """The two networks as a step calls them: in several processes, their gradients are averaged."""

    generate: Forward
    discriminate: Forward
    group: ProcessGroup

    @classmethod
    def create(cls, state: TrainState, group: ProcessGroup) -> "TrainingModules":
        """Those of `state`, whose gradients are averaged over `group`."""
        if group.size == 1:
            return cls(state.generator, state.discriminator, group)
        # Batch norm is each process's own. Its statistics follow from the batches, and are not
        # sent: that would change them between the two passes of the discriminator's step.
        with group.communicating():
            generator, discriminator = (
                DistributedDataParallel(network, broadcast_buffers=False)
                for network in (state.generator, state.discriminator)
            )
        return cls(generator, discriminator, group)


class Losses(NamedTuple):
    """Means over the batch, as 0-d tensors: reading them waits for the device."""

    discriminator: Tensor
    generator: Tensor


def train_step(
    state: TrainState,
    real: Tensor,
    z: Tensor,
    modules: TrainingModules | None = None,
    *,
    auxiliary_loss: Callable[[Tensor], Tensor] | None = None,
) -> Losses:
    """The losses of one step of each network; `state` has moved one step on.

    The discriminator learns on `real` and on G(z), in two batches because batch norm sees them
    apart, then the generator learns against the new discriminator with the non-saturating loss
    (Goodfellow et al. 2014, section 3; Radford et al. 2015, section 4).

    Args:
        state: the run, changed in place.
        real: images (N, channels, size, size) in [-1, 1].
        z: latents (N, latent_size).
        modules: the networks as several processes call them, `real` and `z` being this one's
            rows of the batch; None is one process.
        auxiliary_loss: what the discriminator is to learn besides: from `real` to a loss that is
            added to its own. Gradients of other parameters than the discriminator's are left to
            the caller.
    """
    config, device = state.config, real.device
    modules = modules or TrainingModules.create(state, ProcessGroup())
    changes = augmentations(config.augment)

    n, group = len(real), modules.group
    rows = {"first": group.rank * n, "total": group.size * n}

    def seen(images: Tensor, part: int) -> Tensor:
        # Drawn from the seed and the step: a resumed run sees the same changes.
        return augment(images, changes, (config.seed, state.step, part), **rows)

    state.set_rate(config.rate_at(state.step))
    state.generator.train()
    state.discriminator.train()
    with autocast(device):
        fake = modules.generate(z)
        real_logits = modules.discriminate(seen(real, 0))
        fake_logits = modules.discriminate(seen(fake.detach(), 1))
        extra_loss = 0 if auxiliary_loss is None else auxiliary_loss(real)
    # -log sigmoid(x) is softplus(-x), and -log(1 - sigmoid(x)) is softplus(x).
    discriminator_loss = (softplus(-real_logits.float()) + softplus(fake_logits.float())).mean()
    _descend(discriminator_loss + extra_loss, state.discriminator_optimizer, group)

    with (
        _frozen(state.discriminator),
        autocast(device),
    ):
        logits = state.discriminator(seen(fake, 2))
    generator_loss = softplus(-logits.float()).mean()
    _descend(generator_loss, state.generator_optimizer, group)

    state.step += 1
    # A young average would remember the first weights for long: it follows closely at first.
    decay = min(config.average_decay, (1 + state.step) / (10 + state.step))
    update_average(state.average, state.generator, decay)
    return Losses(discriminator_loss.detach(), generator_loss.detach())


def _descend(loss: Tensor, optimizer: torch.optim.Adam, group: ProcessGroup) -> None:
    optimizer.zero_grad(set_to_none=True)
    with group.communicating():  # in which gradients are averaged
        loss.backward()
    optimizer.step()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    # The gradient passes through to the images, but none is computed for the weights.
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
