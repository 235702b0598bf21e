"""Training the attribute network on rendered faces."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from dissect._utils.device import autocast
from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.random import seeded
from dissect.data import RenderedSource, batches
from dissect.data.synthetic import faces
from dissect.segmentation.attribute_network import AttributeNetwork
from dissect.training.augment import degrade
from dissect.training.fit import Fit, one_cycle

__all__ = ["AttributeConfig", "train_attributes"]


@dataclass(frozen=True, repr=False)
class AttributeConfig(ShortRepr):
    """How an attribute network is trained."""

    steps: int = 3_000
    batch_size: int = 64
    seed: int = 0
    learning_rate: float = 3e-3
    widths: tuple[int, ...] = (32, 64, 96, 128)
    hidden: int = 128
    clean_fraction: float = 0.4  # of each batch that is left as it was rendered

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2 or not self.learning_rate > 0:
            raise DissectError("steps must be at least 1, batch_size 2, learning_rate above 0")


def train_attributes(
    source: RenderedSource,
    config: AttributeConfig | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = no_progress,
) -> AttributeNetwork:
    """A network that reads the attributes of `source`'s faces, in eval mode.

    Squared error of the attributes, each scaled to deviation 1; AdamW with one cycle of the
    learning rate. Part of each batch is roughened, so that the network holds on a generator's
    samples; half of the batches are mirrored, which turns the yaw about.

    Args:
        source: the rendered faces.
        config: how; None is the default.
        device: where.
        progress: called every ten steps with their number, and the loss and images/s in words.

    Raises:
        DissectError: another source, or a loss that is not a number.
    """
    config = config or AttributeConfig()
    if source.name != "faces":
        raise DissectError(f"attributes are known of rendered faces only, not of {source.name}")
    device = torch.device(device)
    attributes = torch.from_numpy(faces.attributes(range(len(source)), source.seed)).to(device)
    with seeded(config.seed):
        network = AttributeNetwork(faces.ATTRIBUTES, source.size, config.widths, config.hidden)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.mean.copy_(attributes.mean(0))
    network.spread.copy_(attributes.std(0))
    yaw = network.names.index("yaw")
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-3)
    schedule = one_cycle(optimizer, config.learning_rate, config.steps)
    random = torch.Generator().manual_seed(config.seed)
    order = batches(source, config.batch_size, config.seed)
    fit = Fit(config.steps, config.batch_size, progress)
    network.train()
    for step in range(1, config.steps + 1):
        indices = next(order)
        clean = to_tensor(source.images(indices))
        target = attributes[torch.from_numpy(indices).to(device)]
        kept = round(config.clean_fraction * len(clean))
        shapes = torch.zeros(len(clean) - kept, *clean.shape[2:], dtype=torch.int64)
        rough, _ = degrade(clean[kept:], shapes, random)
        images = torch.cat([clean[:kept], rough])
        if bool(torch.rand((), generator=random) < 0.5):
            images = images.flip(3)
            target[:, yaw] *= -1
        target = (target - network.mean) / network.spread
        images = images.to(device, memory_format=torch.channels_last)
        with autocast(device):
            predicted = network.standard(images)
        loss = functional.mse_loss(predicted.float(), target)
        fit.descend(step, loss, optimizer, schedule)
    return network.eval()
