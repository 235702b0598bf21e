"""Everything a run needs to go on: networks, optimisers, moving average; and its files."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors, remove_files, remove_unfinished, write_tensors
from dissect._utils.random import seeded
from dissect.models.checkpoint import check_saveable
from dissect.models.dcgan import Discriminator, Generator
from dissect.training.average import update_average
from dissect.training.config import TrainConfig

__all__ = [
    "TrainState",
    "checkpoint_path",
    "checkpoints",
    "remove_temporary_files",
    "load_state",
    "save_state",
]

_NAME = re.compile(r"step-(\d{7,})\.safetensors")
_FORMAT = "dissect-training-1"
_WRITTEN = (
    "space",
    "step-*.safetensors",
    "generator.safetensors",
    "discriminator.safetensors",
    "samples-*.png",
    "losses.jsonl",
    "frechet.jsonl",
)


@dataclass
class TrainState:
    """A run after `step` steps. Random draws are functions of the step, so none is kept here."""

    config: TrainConfig
    generator: Generator
    discriminator: Discriminator
    average: Generator
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    step: int = 0
    seconds: float = 0.0  # spent in steps, over all sessions of the run
    # How it is run, such as how often it is saved: what a resumed run keeps, beside its settings.
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, config: TrainConfig, device: torch.device) -> "TrainState":
        """An untrained run: weights drawn from `config.seed`.

        Raises:
            DissectError: networks that cannot be built, or whose checkpoints could not be read.
        """
        shape: dict[str, Any] = {"image_size": config.image_size, "kernel": config.kernel}
        wide = {"latent_size": config.latent_size, "width": config.generator_width, **shape}
        narrow = {"width": config.discriminator_width, **shape}
        check_saveable("generator", wide)
        check_saveable("discriminator", narrow)
        with seeded(config.seed):
            generator, discriminator = Generator(**wide), Discriminator(**narrow)
            average = Generator(**generator.config)
        update_average(average, generator, 0.0)
        networks: list[nn.Module] = [generator, discriminator, average]
        for network in networks:
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average.requires_grad_(False).eval()
        return cls(
            config,
            generator,
            discriminator,
            average,
            _adam(generator, config, device),
            _adam(discriminator, config, device),
        )

    def set_rate(self, rate: float) -> None:
        """Use the learning rate `rate` from here on."""
        for _, _, optimizer in self._learners():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the run by name, sharing memory with it."""
        tensors: dict[str, Tensor] = {}
        for part, network in self._networks():
            tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
        for part, network, optimizer in self._learners():
            for name, parameter in network.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{part}_optimizer.{name}.{key}"] = value
        return tensors

    def checkpoint_bytes(self) -> int:
        """How large a checkpoint becomes, the optimisers' moments counted before they exist."""
        tensors = [
            value for _, network in self._networks() for value in network.state_dict().values()
        ]
        moments = 2 * [p for _, network, _ in self._learners() for p in network.parameters()]
        return sum(value.nbytes for value in (*tensors, *moments))

    def is_finite(self) -> bool:
        """Whether every weight, average and moment is a number."""
        return all(bool(value.isfinite().all()) for value in self.tensors().values())

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take the values of `tensors`, as `tensors()` named them.

        Raises:
            DissectError: a tensor is missing or has another shape.
        """
        for part, network in self._networks():
            values = {
                name: _fitting(tensors, f"{part}.{name}", value.shape)
                for name, value in network.state_dict().items()
            }
            network.load_state_dict(values)
        if self.step == 0:
            return
        for part, network, optimizer in self._learners():
            for name, parameter in network.named_parameters():
                prefix = f"{part}_optimizer.{name}"
                # A float32 count of steps, kept where the kind of Adam in use keeps it.
                count = _fitting(tensors, f"{prefix}.step", torch.Size([]))
                device = parameter.device if parameter.is_cuda else count.device
                state = {"step": count.float().to(device)}
                for key in ("exp_avg", "exp_avg_sq"):
                    value = _fitting(tensors, f"{prefix}.{key}", parameter.shape)
                    state[key] = torch.empty_like(parameter).copy_(value)
                optimizer.state[parameter] = state

    def _learners(self) -> list[tuple[str, nn.Module, torch.optim.Adam]]:
        """What learns, by its name in the checkpoint, each with its own optimiser."""
        return [
            ("generator", self.generator, self.generator_optimizer),
            ("discriminator", self.discriminator, self.discriminator_optimizer),
        ]

    def _networks(self) -> list[tuple[str, nn.Module]]:
        learners = [(name, network) for name, network, _ in self._learners()]
        return [*learners, ("average", self.average)]


def _fitting(tensors: dict[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    if name not in tensors:
        raise DissectError(f"the checkpoint has no tensor {name!r}: it is of another architecture")
    if tensors[name].shape != shape:
        raise DissectError(
            f"the checkpoint's {name!r} has shape {tuple(tensors[name].shape)}, this run needs "
            f"{tuple(shape)}: it is of another architecture"
        )
    return tensors[name]


def _adam(network: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Adam:
    return torch.optim.Adam(
        network.parameters(),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=device.type in ("cpu", "cuda"),
    )


def save_state(folder: Path, state: TrainState, *, keep: int = 2) -> Path:
    """The checkpoint just written to `folder`; of those before it, the newest stay.

    It and those before it are `keep` in all. Those of later steps, which were damaged and passed
    over, neither count nor are deleted: the run replaces them when it gets there.
    """
    about = {
        "format": _FORMAT,
        "config": json.dumps(state.config.to_dict()),
        "step": str(state.step),
        "seconds": repr(state.seconds),
        "options": json.dumps(state.options),
    }
    path = checkpoint_path(folder, state.step)
    write_tensors(path, state.tensors(), about)
    files = checkpoints(folder)
    remove_files(*files[files.index(path) + keep :])
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is kept."""
    return folder / f"step-{step:07d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first.

    Raises:
        DissectError: the folder cannot be listed.
    """
    if not folder.is_dir():
        return []
    try:
        matches = [_NAME.fullmatch(name) for name in os.listdir(folder)]
    except OSError as error:
        raise DissectError(f"cannot list {folder}: {error.strerror or error}") from error
    steps = sorted((int(match[1]) for match in matches if match), reverse=True)
    return [checkpoint_path(folder, step) for step in steps]


def remove_temporary_files(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a file of a run left in `folder`."""
    remove_unfinished(folder, *_WRITTEN)


def load_state(path: Path, device: torch.device) -> TrainState:
    """The run that `save_state` wrote to `path`, on `device`.

    Raises:
        DissectError: the file is truncated, damaged, or no checkpoint of a training.
    """
    tensors, about = read_tensors(path)
    if about.get("format") != _FORMAT:
        raise DissectError(f"{path} is not a training checkpoint of this version of dissect")
    try:
        step, seconds = int(about["step"]), float(about["seconds"])
        known = TrainConfig.from_dict(json.loads(about["config"]), str(path))
        options = dict(json.loads(about.get("options", "{}")))
    except (KeyError, ValueError, TypeError) as error:
        raise DissectError(f"{path} is not a training checkpoint of dissect") from error
    state = TrainState.start(known, device)
    state.step, state.seconds, state.options = step, seconds, options
    state.load_tensors(tensors)
    return state
