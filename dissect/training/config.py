"""The settings of a training run: one frozen value, kept in every checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any

from pydantic import create_model

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, parse
from dissect.training.diffaugment import augmentations

__all__ = ["TrainConfig"]

_MAY_CHANGE = {"steps", "learning_rate", "decay_from", "average_decay"}
# Where the images and the list lie may change, where digests say that they are the same.
_PLACES = {"source": "source_digest", "keep": "keep_digest"}
_MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class TrainConfig:
    """A DCGAN training run. Batch size, rates and betas default to the paper's (section 4)."""

    source: str = "bedrooms"
    images: int | None = None  # how many of the source; None is all of it
    keep: str | None = None  # a list of `dissect dedup`: use only the images on it
    keep_digest: str | None = None  # of that file, so that a resumed run sees the same images
    source_digest: str | None = None  # of the images' number and names, for the same purpose
    source_seed: int = 0  # of a rendered source; apart, so that another run renders nothing anew
    image_size: int = 64
    steps: int = 20_000
    batch_size: int = 128
    seed: int = 0
    latent_size: int = 100
    generator_width: int = 128
    discriminator_width: int = 128
    kernel: int = 5
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    # The fraction of the run after which the learning rate falls linearly to 0; 1 is never (paper).
    decay_from: float = 1.0
    average_decay: float = 0.999
    # Differentiable augmentation of what the discriminator sees, such as "colour,cutout"; "" is
    # none (the paper).
    augment: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            DissectError: a value out of its range, named.
        """
        for name in ("image_size", "steps", "latent_size", "generator_width"):
            if getattr(self, name) < 1:
                raise DissectError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.discriminator_width < 1:
            raise DissectError("discriminator_width must be at least 1")
        if self.batch_size < 2:
            raise DissectError("batch_size must be at least 2: batch norm needs company")
        for name in ("seed", "source_seed"):
            if not 0 <= getattr(self, name) <= _MAX_SEED:
                raise DissectError(
                    f"{name} must be from 0 to {_MAX_SEED}; got {getattr(self, name)}"
                )
        if self.images is not None and self.images < self.batch_size:
            raise DissectError(f"images must be at least one batch of {self.batch_size}")
        if not self.learning_rate > 0:
            raise DissectError(f"learning_rate must be above 0; got {self.learning_rate}")
        for name in ("beta1", "beta2", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise DissectError(f"{name} must be in [0, 1); got {getattr(self, name)}")
        if not 0 <= self.decay_from <= 1:
            raise DissectError(f"decay_from must be in [0, 1]; got {self.decay_from}")
        augmentations(self.augment)

    def rate_at(self, step: int) -> float:
        """The learning rate of `step` (0-based)."""
        start = self.decay_from * self.steps
        if step < start or self.decay_from >= 1:
            return self.learning_rate
        return self.learning_rate * max(0.0, (self.steps - step) / (self.steps - start))

    def changed(self, values: Mapping[str, Any]) -> "TrainConfig":
        """The same run with other settings, as far as a run that has begun can change.

        Steps, rates and the average's decay can; what the networks and the order of the images
        depend on cannot. The images may have moved: they are compared when they are opened.

        Raises:
            DissectError: another value for a setting that cannot change.
        """
        for name, value in values.items():
            moved = name in _PLACES and getattr(self, _PLACES[name]) is not None and value
            if name not in _MAY_CHANGE and not moved and value != getattr(self, name):
                raise DissectError(
                    f"this run was begun with {name} {getattr(self, name)!r}, not {value!r}; what "
                    f"can change on resuming: {', '.join(sorted(_MAY_CHANGE))}"
                )
        return replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "settings") -> "TrainConfig":
        """The run with these settings; the others are at their defaults.

        Args:
            values: settings by name.
            where: what they are called in an error, such as the path of their file.

        Raises:
            DissectError: one that is unknown, of a wrong type or out of its range.
        """
        read = parse(_settings_model(), values, where)
        try:
            return cls(**read.model_dump(exclude_unset=True))
        except DissectError as error:
            raise DissectError(f"{where}: {error}") from error


@cache
def _settings_model() -> type[FileModel]:
    """The fields of `TrainConfig`, each checked for its type."""
    settings: dict[str, Any] = {
        each.name: (each.type, each.default) for each in fields(TrainConfig)
    }
    model: type[FileModel] = create_model("TrainingSettings", __base__=FileModel, **settings)
    return model
