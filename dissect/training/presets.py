"""Settings of runs by name, and as a TOML file with one line per setting."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dissect._utils.errors import DissectError
from dissect._utils.text import near_names
from dissect.training.config import TrainConfig

__all__ = ["PRESETS", "preset", "read_config", "to_toml"]

# The user names the folder of the images.
_SOMEWHERE = "PATH"

PRESETS: Mapping[str, tuple[str, TrainConfig]] = {
    "bedrooms64": (
        "the bundled model of this name: rendered bedrooms",
        TrainConfig(
            source="bedrooms",
            images=100_000,
            steps=16_000,
            batch_size=64,
            generator_width=64,
            discriminator_width=48,
            kernel=4,
            decay_from=0.5,
        ),
    ),
    "faces64": (
        "rendered faces",
        TrainConfig(
            source="faces",
            images=60_000,
            steps=8_000,
            batch_size=64,
            generator_width=64,
            discriminator_width=32,
            kernel=4,
            decay_from=0.5,
        ),
    ),
    "lsun64": (
        "section 4.1 of the paper: 5 epochs of 3,033,042 LSUN bedrooms less its 275,000 duplicates",
        TrainConfig(source=f"lsun:{_SOMEWHERE}", steps=107_736),
    ),
    "imagenet32": (
        "section 4.3: ImageNet-1k as 32x32 centre crops, for features that classify; the "
        "discriminator's three layers have the 28,672 pooled features of section 5.1",
        TrainConfig(
            source=f"folder:{_SOMEWHERE}",
            image_size=32,
            steps=100_000,
            discriminator_width=256,
        ),
    ),
    "cifar32": (
        "CIFAR-10's training images, a small stand-in for imagenet32",
        TrainConfig(
            source=f"cifar10:{_SOMEWHERE}",
            image_size=32,
            steps=20_000,
            generator_width=64,
            discriminator_width=64,
        ),
    ),
}


def preset(name: str) -> TrainConfig:
    """The run called `name`.

    Raises:
        DissectError: there is none.
    """
    if name not in PRESETS:
        raise DissectError(f"unknown preset {name!r}; known ones: {near_names(name, PRESETS)}")
    return PRESETS[name][1]


def to_toml(config: TrainConfig, comment: str = "") -> str:
    """`config` as TOML, which `read_config` reads; settings that are None are left out."""
    lines = [f"# {line}" for line in comment.splitlines()]
    for name, value in config.to_dict().items():
        if value is not None:
            # Strings, numbers, booleans and lists are written in JSON as in TOML.
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def read_config(path: Path) -> TrainConfig:
    """The run that the TOML file at `path` describes; other settings are at their defaults.

    Raises:
        DissectError: it cannot be read, is not TOML, or has a setting that is unknown or wrong.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DissectError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DissectError(f"{path} is not valid TOML: {error}") from error
    return TrainConfig.from_dict(values, str(path))
