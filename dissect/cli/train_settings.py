"""The settings of a run: a preset or a file, and the options beside it."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect._utils.errors import DamagedFileError, DissectError
from dissect._utils.io import read_metadata, user_path
from dissect._utils.text import near_names
from dissect.cli.options import Given
from dissect.cli.output import Output

if TYPE_CHECKING:
    import torch

    from dissect.training import TrainState

__all__ = ["Settings", "kept_options", "new_run", "resumed_run", "settings"]

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
    chosen = {**base, **written}
    if chosen.get("keep") is not None:
        keep = user_path(chosen["keep"])
        chosen["keep"] = str(keep)
        if "keep" in written or chosen.get("keep_digest") is None:
            chosen["keep_digest"] = keep_digest(keep)
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


def _from_root(chosen: Settings) -> Settings:
    """`chosen`, its source the same images in any working directory."""
    from dissect.data.sources import absolute_source

    source = chosen.get("source")
    return chosen | {"source": absolute_source(source)} if isinstance(source, str) else chosen


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
    config = TrainConfig.from_dict(_from_root(chosen))
    name, _, argument = config.source.partition(":")
    if argument == "PATH":
        raise DissectError(f"name the images' folder: dissect train {name}:FOLDER --preset ...")
    return TrainState.start(config, device)


def resumed_run(
    out: Path, device: "torch.device", chosen: Settings, output: Output
) -> "TrainState":
    """The run of the newest checkpoint in `out`, with what may change changed.

    One that is damaged is passed over. One that cannot be opened is not: its disk may come back.

    Raises:
        DissectError: there is none, one cannot be opened or is of another version, or a setting
            was chosen for that cannot change.
    """
    from dissect.training import checkpoints, load_state

    found = checkpoints(out)
    for path in found:
        try:
            state = load_state(path, device)
        except DamagedFileError as error:
            output.note(f"passing over {path.name}: {error}")
            continue
        changed = state.config.changed(_from_root(chosen))
        output.note(f"going on from {path}")
        before = state.config.to_dict()
        for name, value in changed.to_dict().items():
            if value != before[name]:
                output.note(f"{name} was {before[name]!r} and is {value!r} from here on")
        state.config = changed
        return state
    unreadable = (
        f"none of {len(found)} checkpoints in {out} can be read"
        if found
        else f"{out} holds no checkpoint"
    )
    raise DissectError(f"nothing to resume: {unreadable}")


def kept_options(out: Path, written: Mapping[str, Any], given: Given, output: Output) -> Settings:
    """The options of the run in `out`, but for those that the command line names.

    Args:
        out: the folder of a run.
        written: the options of this command line, by name, defaults among them.
        given: which of them are named.
        output: is told of those that change.

    Raises:
        DissectError: a checkpoint cannot be opened.
    """
    from dissect.training import checkpoints

    for path in checkpoints(out):
        try:
            about = json.loads(read_metadata(path).get("options", "{}"))
        except (DamagedFileError, ValueError):
            continue
        known = {name: value for name, value in about.items() if name in written}
        for name, value in known.items():
            if name in given and value != written[name]:
                output.note(f"{name} was {value!r} and is {written[name]!r} from here on")
        return {**written, **{name: v for name, v in known.items() if name not in given}}
    return dict(written)
