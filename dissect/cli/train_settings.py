"""What a run is told: a preset or a file of settings, and the options that were written."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect._utils.errors import DissectError
from dissect.cli.output import Output

if TYPE_CHECKING:
    import torch

    from dissect.training import TrainState

__all__ = ["Settings", "begun", "resumed", "settings"]

# Options whose names are not those of the settings they stand for.
_FIELDS = {"width": "generator_width"}
Settings = dict[str, Any]


def settings(
    options: Mapping[str, Any], given: set[str], preset: str | None, file: Path | None
) -> Settings:
    """The settings that were asked for; the others are at their defaults, or a resumed run's.

    Args:
        options: every option of the command by its parameter's name.
        given: which of them the user wrote.
        preset: the name of a preset, whose settings the written options replace.
        file: a file of settings instead.

    Raises:
        DissectError: both a preset and a file, or a setting that is wrong.
    """
    from dissect.data.dedup.keep import keep_digest
    from dissect.training import TrainConfig, preset_config, read_config

    if preset is not None and file is not None:
        raise DissectError("give --preset or --config, not both")
    base: Settings = {}
    if preset is not None:
        base = preset_config(preset).as_dict()
    elif file is not None:
        base = read_config(file).as_dict()
    known = {field.name for field in fields(TrainConfig)}
    written = {
        _FIELDS.get(name, name): value
        for name, value in options.items()
        if name in given and _FIELDS.get(name, name) in known
    }
    if written.get("keep") is not None:
        keep = Path(written["keep"]).absolute()
        written |= {"keep": str(keep), "keep_digest": keep_digest(keep)}
    asked = {**base, **written}
    if asked.get("keep") is not None and asked.get("keep_digest") is None:
        asked["keep_digest"] = keep_digest(Path(asked["keep"]))
    return asked


def begun(out: Path, device: "torch.device", asked: Settings) -> "TrainState":
    """A new run in `out`, as it was asked for.

    Raises:
        DissectError: there is a run already, or a setting is wrong.
    """
    from dissect.training import TrainConfig, TrainState, checkpoints

    if found := checkpoints(out):
        raise DissectError(
            f"{out} holds a training already ({found[0].name}); go on with --resume, or give "
            "another --out"
        )
    config = TrainConfig.from_dict(asked)
    name, _, argument = config.source.partition(":")
    if argument == "PATH":
        raise DissectError(f"say where the images are: dissect train {name}:FOLDER --preset ...")
    return TrainState.start(config, device)


def resumed(out: Path, device: "torch.device", asked: Settings, output: Output) -> "TrainState":
    """The run of the newest checkpoint in `out` that can be read, with what may change changed.

    Raises:
        DissectError: there is none, or a setting was asked for that cannot change.
    """
    from dissect.training import checkpoints, load_state

    found = checkpoints(out)
    for path in found:
        try:
            state = load_state(path, device)
        except DissectError as error:
            output.note(f"passing over {path.name}: {error}")
            continue
        state.config = state.config.changed(asked)
        output.note(f"going on from {path}")
        return state
    unreadable = (
        f"none of {len(found)} checkpoints in {out} can be read"
        if found
        else f"{out} holds no checkpoint"
    )
    raise DissectError(f"nothing to resume: {unreadable}")
