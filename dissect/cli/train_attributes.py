"""`dissect train-attributes`: a network that reads the attributes of faces."""

import time
from typing import Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.evaluate import error_table, error_values
from dissect.cli.options import DeviceOptions, TrainingOutputOptions, with_groups
from dissect.cli.output import Output

__all__ = ["train_attributes"]
# About what is written at the end, to be found out before images are rendered.
_NETWORK_BYTES = 2**22


@with_groups
def train_attributes(
    device: DeviceOptions,
    output: TrainingOutputOptions,
    source: Annotated[
        str, typer.Argument(help="A rendered source, whose attributes are known: faces.")
    ] = "faces",
    images: Annotated[int, typer.Option(help="How many renders to train on.", min=2)] = 40_000,
    steps: Annotated[int, typer.Option(help="Steps of training.")] = 3_000,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 64,
) -> None:
    """Train an attribute network, write attributes.safetensors and print its held-out error."""
    from dissect._utils.io import check_writable
    from dissect._utils.progress import progress_bar
    from dissect.data import RenderedSource
    from dissect.data import source as open_source
    from dissect.segmentation import (
        AttributeReader,
        evaluate_attributes,
        load_attribute_network,
        save_attribute_network,
    )
    from dissect.training.attributes import AttributeConfig, train_attributes

    printed = Output(as_json=output.as_json)
    out, seed = output.out, output.seed
    check_writable(out, _NETWORK_BYTES)
    opened = open_source(source, count=images)
    if not isinstance(opened, RenderedSource) or opened.name != "faces":
        raise DissectError(f"attributes are known of rendered faces only, not of {source}")
    config = AttributeConfig(steps=steps, batch_size=batch_size, seed=seed)
    started = time.perf_counter()
    with progress_bar("training", steps) as progress:
        network = train_attributes(opened, config, device=device.resolve(), progress=progress)
    seconds = max(round(time.perf_counter() - started), 1)
    card: dict[str, Any] = {"source": source, "images": images, "steps": steps}
    path = save_attribute_network(
        out / "attributes.safetensors",
        network,
        card={**card, "batch_size": batch_size, "seed": seed, "seconds": seconds},
    )
    printed.wrote(path)
    errors = evaluate_attributes(AttributeReader.from_network(load_attribute_network(path)[0]))
    rate = round(steps * batch_size / seconds, 1)
    printed.result(
        {"steps": steps, "images_per_s": rate, **error_values(errors)}, error_table(errors)
    )
