"""Auxiliary tasks of the discriminator: what it may learn from real images besides the GAN game.

`rotations`: by how many quarter turns was a real image turned? (Chen, Zhai, Ritter, Lucic and
Houlsby 2019, "Self-supervised GANs via auxiliary rotation loss", arXiv 1811.11212, the
discriminator's half of it.)

`contrast`: which two of many views show the same real image? (Chen, Kornblith, Norouzi and Hinton
2020, "A simple framework for contrastive learning of visual representations", arXiv 2002.05709, on
a discriminator as in Jeong and Shin 2021, "Training GANs with stronger augmentations via
contrastive discriminator", arXiv 2103.09742, but beside the game and not in its place.)

A task's convolutions are the discriminator's own; its last layers (the head) are its own, and are
not saved with the discriminator.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dissect._utils.errors import DissectError
from dissect._utils.random import seeded
from dissect.models import Discriminator
from dissect.models.dcgan import initialize
from dissect.training import TrainState
from dissect.training.diffaugment import augment, augmentations

__all__ = ["AuxiliaryTasks", "contrast_loss", "rotate", "two_views"]

ROTATIONS = 4
_HIDDEN, _OUTPUT = 512, 128  # of the contrast's head: SimCLR's is as deep, and ends as wide
# The views are those of SimCLR, appendix A; crops are not as small, for images of 32 pixels.
_AREA, _LOG_ASPECT = (0.25, 1.0), (math.log(3 / 4), math.log(4 / 3))
_P_COLOUR, _P_GREY, _STRENGTH = 0.8, 0.2, 0.4
_TEMPERATURE = 0.2
# Tell the random draws of a step apart: 0 to 2 are those of the game's augmentation.
_DRAWS = {"rotations": 3, "contrast": 4}


def rotate(images: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`images` (N, C, S, S), each turned by 0 to 3 quarters at random, and the quarters (N,).

    The same key gives the same turns.
    """
    drawn = np.random.default_rng(key).integers(0, ROTATIONS, len(images))
    quarters = torch.from_numpy(drawn).to(images.device)
    result = images.clone()
    for quarter in range(1, ROTATIONS):
        chosen = quarters == quarter
        result[chosen] = torch.rot90(images[chosen], quarter, (2, 3))
    return result, quarters


def two_views(images: Tensor, key: tuple[int, ...]) -> Tensor:
    """Two views of each of `images` (N, C, S, S): (2 N, C, S, S), all first ones first.

    A view is a crop of a quarter of the area to all of it, at full size, mirrored half of the time,
    with another brightness, contrast and saturation, or without colour. Images and views are in
    [-1, 1]; the same key gives the same views.
    """
    random = np.random.default_rng(key)
    x = torch.cat([images, images]).float()
    n = len(x)

    def chance(probability: float) -> NDArray[np.bool_]:
        return random.uniform(size=n) < probability

    def per_image(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(x)[:, None, None, None]

    area, aspect = random.uniform(*_AREA, n), np.exp(random.uniform(*_LOG_ASPECT, n))
    width, height = np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)
    right, down = (random.uniform(side - 1, 1 - side) for side in (width, height))
    width = np.where(chance(0.5), -width, width)
    zero = np.zeros(n)
    affine = np.stack([width, zero, right, zero, height, down], 1).reshape(n, 2, 3)
    theta = torch.from_numpy(affine.astype(np.float32)).to(x.device)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    coloured = chance(_P_COLOUR)
    brightness, contrast, saturation = (
        per_image(np.where(coloured, random.uniform(1 - _STRENGTH, 1 + _STRENGTH, n), 1.0))
        for _ in range(3)
    )
    saturation = saturation * per_image(np.where(chance(_P_GREY), 0.0, 1.0))
    x = (x + 1) * brightness - 1
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, contrast)
    x = torch.lerp(x.mean(1, keepdim=True), x, saturation)
    return x.clamp(-1, 1)


def contrast_loss(embeddings: Tensor) -> Tensor:
    """SimCLR's loss (equation 1) of the embeddings (2 N, D) of `two_views`."""
    unit = functional.normalize(embeddings, dim=1)
    logits = unit @ unit.t() / _TEMPERATURE
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    other_view = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return functional.cross_entropy(logits.masked_fill(itself, float("-inf")), other_view)


class TaskNetwork(nn.Module):
    """The convolutions of a discriminator, shared with it, and a head of its own."""

    def __init__(self, discriminator: Discriminator, task: str) -> None:
        super().__init__()
        *features, score = discriminator.children()
        self.features = nn.Sequential(*features)
        n_features = score.get_submodule("linear").in_features
        assert isinstance(n_features, int)
        if task == "rotations":
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(n_features, ROTATIONS))
        else:
            self.head = nn.Sequential(
                nn.Flatten(),
                nn.Linear(n_features, _HIDDEN),
                nn.ReLU(),
                nn.Linear(_HIDDEN, _OUTPUT),
            )
        initialize(self.head)

    def forward(self, images: Tensor) -> Tensor:
        """What the head makes of images (N, C, S, S)."""
        output: Tensor = self.head(self.features(images))
        return output


class AuxiliaryTasks:
    """The tasks that a run's discriminator learns, each with its head and the head's optimiser.

    Args:
        state: the run.
        weights: the weight of each task's loss beside the game's, by name: `rotations`,
            `contrast`. A task that is not named is not learned.

    Raises:
        DissectError: an unknown task.
    """

    def __init__(self, state: TrainState, weights: Mapping[str, float]) -> None:
        config, device = state.config, next(state.discriminator.parameters()).device
        self._state, self._weights = state, weights
        self.networks: dict[str, TaskNetwork] = {}
        self._optimizers: dict[str, torch.optim.Adam] = {}
        if unknown := sorted(set(weights) - set(_DRAWS)):
            raise DissectError(f"unknown task {unknown[0]!r}: use {', '.join(_DRAWS)}")
        for number, name in enumerate(_DRAWS):
            if name not in weights:
                continue
            with seeded(config.seed + number):
                network = TaskNetwork(state.discriminator, name)
            network.to(device)
            self.networks[name] = network
            self._optimizers[name] = torch.optim.Adam(
                network.head.parameters(), betas=(config.beta1, config.beta2), fused=True
            )

    def loss(self, real: Tensor) -> Tensor:
        """The weighted sum of the tasks' losses on real images (N, C, S, S); for `train_step`."""
        config, step = self._state.config, self._state.step
        total = real.new_zeros(())
        for name, network in self.networks.items():
            key = (config.seed, step, _DRAWS[name])
            if name == "rotations":
                turned, quarters = rotate(real, key)
                # Seen as everything else that the discriminator sees.
                output = network(augment(turned, augmentations(config.augment), key))
                loss = functional.cross_entropy(output.float(), quarters)
            else:
                output = network(two_views(real, key))
                with torch.autocast(real.device.type, enabled=False):
                    loss = contrast_loss(output.float())
            total = total + self._weights[name] * loss
        return total

    def zero_grad(self) -> None:
        """Forget the heads' gradients, before a step."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """Move the heads along the gradients of `loss`."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments of every head, by name."""
        return {name: value.detach().cpu().contiguous() for name, value in self._named()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of `tensors`, as `tensors()` named them."""
        for name, network in self.networks.items():
            optimizer = self._optimizers[name]
            for key, parameter in network.head.named_parameters():
                with torch.no_grad():
                    parameter.copy_(tensors[f"{name}.{key}"])
                optimizer.state[parameter] = {
                    moment: tensors[f"{name}.{key}.{moment}"].to(parameter.device, copy=True)
                    for moment in ("step", "exp_avg", "exp_avg_sq")
                }

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, network in self.networks.items():
            for key, parameter in network.head.named_parameters():
                yield f"{name}.{key}", parameter
                for moment, value in self._optimizers[name].state[parameter].items():
                    yield f"{name}.{key}.{moment}", value
