"""The settings of a run: a preset or a file, and the options beside it."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect._utils.errors import DissectError
from dissect._utils.text import near_names
from dissect.cli.output import Output

if TYPE_CHECKING:
    import torch

    from dissect.training import TrainState

__all__ = ["Settings", "new_run", "resumed_run", "settings"]

Settings = dict[str, Any]


def settings(
    written: Mapping[str, Any],
    preset: str | None,
    file: Path | None,
    assignments: Sequence[str],
) -> Settings:
    """The settings that were given; the others are at their defaults, or a resumed run's.

    Args:
        written: the options that the user wrote, by their parameters' names.
        preset: the name of a preset, whose settings the written options replace.
        file: a file of settings instead.
        assignments: other settings, each `KEY=VALUE`.

    Raises:
        DissectError: both a preset and a file, or a setting that is unknown or wrong.
    """
    from dissect.data.dedup.keep import keep_digest
    from dissect.training import TrainConfig, preset_config, read_config

    if preset is not None and file is not None:
        raise DissectError("give --preset or --config, not both")
    base: Settings = {}
    if preset is not None:
        base = preset_config(preset).to_dict()
    elif file is not None:
        base = read_config(file).to_dict()
    known = {field.name for field in fields(TrainConfig)}
    written = {name: value for name, value in written.items() if name in known}
    written |= _assigned(assignments, known)
    if written.get("keep") is not None:
        keep = Path(written["keep"]).absolute()
        written |= {"keep": str(keep), "keep_digest": keep_digest(keep)}
    chosen = {**base, **written}
    if chosen.get("keep") is not None and chosen.get("keep_digest") is None:
        chosen["keep_digest"] = keep_digest(Path(chosen["keep"]))
    return chosen


def _assigned(assignments: Sequence[str], known: Collection[str]) -> Settings:
    """What `--set KEY=VALUE` gives: numbers and booleans as in JSON, anything else as text."""
    found: Settings = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise DissectError(f"--set takes KEY=VALUE, not {text!r}")
        if name not in known:
            raise DissectError(f"--set {name!r} is no setting; known: {near_names(name, known)}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def new_run(out: Path, device: "torch.device", chosen: Settings) -> "TrainState":
    """A new run in `out`.

    Raises:
        DissectError: there is a run already, or a setting is wrong.
    """
    from dissect.training import TrainConfig, TrainState, checkpoints

    if found := checkpoints(out):
        raise DissectError(
            f"{out} holds a training already ({found[0].name}); go on with --resume, or give "
            "another --out"
        )
    config = TrainConfig.from_dict(chosen)
    name, _, argument = config.source.partition(":")
    if argument == "PATH":
        raise DissectError(f"name the images' folder: dissect train {name}:FOLDER --preset ...")
    return TrainState.start(config, device)


def resumed_run(
    out: Path, device: "torch.device", chosen: Settings, output: Output
) -> "TrainState":
    """The run of the newest checkpoint in `out` that can be read, with what may change changed.

    Raises:
        DissectError: there is none, or a setting was chosen for that cannot change.
    """
    from dissect.training import checkpoints, load_state

    found = checkpoints(out)
    for path in found:
        try:
            state = load_state(path, device)
        except DissectError as error:
            output.note(f"passing over {path.name}: {error}")
            continue
        state.config = state.config.changed(chosen)
        output.note(f"going on from {path}")
        return state
    unreadable = (
        f"none of {len(found)} checkpoints in {out} can be read"
        if found
        else f"{out} holds no checkpoint"
    )
    raise DissectError(f"nothing to resume: {unreadable}")
