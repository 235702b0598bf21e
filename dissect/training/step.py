"""One step of the GAN game."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dissect._utils.device import autocast_dtype
from dissect._utils.distributed import World
from dissect.training.average import update_average
from dissect.training.diffaugment import augment, augmentations
from dissect.training.distributed import Forward, shared_forward
from dissect.training.fast import fast_forward
from dissect.training.shared_weights import SharedWeights
from dissect.training.state import TrainState
from dissect.training.tasks import TASKS

__all__ = ["Losses", "Players", "train_step"]


class Players(NamedTuple):
    """The two networks as they are called in training, and how an optimiser makes its step."""

    generate: Forward
    judge: Forward
    world: World
    step: Callable[[torch.optim.Adam], None]

    @classmethod
    def of(cls, state: TrainState, world: World) -> "Players":
        """Those of `state`, whose gradients are averaged over `world`."""
        device = next(state.generator.parameters()).device
        heads = [learner.optimizer for learner in state.tasks.values()]
        optimizers = (state.generator_optimizer, state.discriminator_optimizer, *heads)
        together = SharedWeights.of(optimizers, world, device)
        # Where weights are shared, no gradient is sent.
        among = world if together is None else World()

        def step(optimizer: torch.optim.Adam) -> None:
            if optimizer in heads:  # whose gradients DistributedDataParallel does not see
                for parameter in optimizer.param_groups[0]["params"]:
                    parameter.grad = world.mean(parameter.grad)
            optimizer.step()

        networks = (state.generator, state.discriminator)
        generate, judge = (shared_forward(network, among) for network in networks)
        return cls(generate, judge, world, step if together is None else together.step)


class Losses(NamedTuple):
    """Means over the batch, as 0-d tensors: reading them waits for the device."""

    discriminator: Tensor
    generator: Tensor


def train_step(
    state: TrainState, real: Tensor, z: Tensor, players: Players | None = None
) -> Losses:
    """The losses of one step of each network; `state` has moved one step on.

    The discriminator learns on `real` and on G(z), in two batches because batch norm sees them
    apart, then the generator learns against the new discriminator with the non-saturating loss
    (Goodfellow et al. 2014, section 3; Radford et al. 2015, section 4). Where the run has
    auxiliary tasks, the discriminator does each on the real images, in a batch of its own.

    Args:
        state: the run, changed in place.
        real: images (N, channels, size, size) in [-1, 1].
        z: latents (N, latent_size).
        players: the networks as several processes call them, `real` and `z` being this one's
            share; None is one process.
    """
    config, device = state.config, real.device
    players = players or Players.of(state, World())
    changes = augmentations(config.augment)

    n, world = len(real), players.world
    place = {"first": world.rank * n, "total": world.size * n}

    def seen(images: Tensor, part: int) -> Tensor:
        # Drawn from the seed and the step: a resumed run sees the same changes.
        return augment(images, changes, (config.seed, state.step, part), **place)

    state.set_rate(config.rate_at(state.step))
    state.generator.train()
    state.discriminator.train()
    dtype = autocast_dtype(device)
    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        fake = players.generate(z)
        real_logits = players.judge(seen(real, 0))
        fake_logits = players.judge(seen(fake.detach(), 1))
        learnt = [state.discriminator_optimizer]
        answered = []
        for name, learner in state.tasks.items():
            learnt.append(learner.optimizer)
            task = TASKS[name]
            pictures, right = task.pose(real, (config.seed, state.step, task.part), **place)
            if task.augmented:
                pictures = seen(pictures, task.part)
            answered.append((name, fast_forward(learner.reader, pictures), right))
    # -log sigmoid(x) is softplus(-x), and -log(1 - sigmoid(x)) is softplus(x).
    discriminator_loss = (softplus(-real_logits.float()) + softplus(fake_logits.float())).mean()
    loss = discriminator_loss
    for name, read, right in answered:
        loss = loss + getattr(config, name) * TASKS[name].loss(read.float(), right, world)
    _descend(loss, players, *learnt)

    with (
        _frozen(state.discriminator),
        torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        logits = fast_forward(state.discriminator, seen(fake, 2))
    generator_loss = softplus(-logits.float()).mean()
    _descend(generator_loss, players, state.generator_optimizer)

    state.step += 1
    # A young average would remember the first weights for long: it follows closely at first.
    decay = min(config.average_decay, (1 + state.step) / (10 + state.step))
    update_average(state.average, state.generator, decay)
    return Losses(discriminator_loss.detach(), generator_loss.detach())


def _descend(loss: Tensor, players: Players, *optimizers: torch.optim.Adam) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        players.step(optimizer)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    # The gradient passes through to the images, but none is computed for the weights.
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
