"""What the effect of every single unit costs, beside a loop that runs everything anew for each.

    python benchmarks/sweep.py

The plain loop removes one unit, draws all samples with a full forward pass, and segments them
with the segmenter as it was trained. It is timed on some of the units, by turns with the sweep on
the same ones, and is given as much for each of the others. The sweep is what
`dissect.selection.unit_effects` does. Seconds of processor time are given beside those of the
clock: on a machine that does other work, too, they are the fairer measure.

At least 2 times as fast from end to end, 3 times in the generator's part, and the same numbers to
1e-4 are what is asked of it.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import dissect
from dissect.dissection.single_unit import Tail, UnitEffects, unit_effects
from dissect.hooks import activations
from dissect.models import latents_for
from dissect.segmentation import Segmenter, UNet, load_unet
from dissect.units import Units

LAYER, BATCH = "layer8x8", 32

_Done = TypeVar("_Done")


@dataclass
class Clock:
    """Seconds by the wall clock, and of the processor, of what was timed."""

    wall: float = 0.0
    processor: float = 0.0

    def time(self, work: Callable[[], _Done]) -> _Done:
        wall, processor = time.perf_counter(), time.process_time()
        done = work()
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        return done

    def less(self, other: "Clock") -> None:
        self.wall -= other.wall
        self.processor -= other.processor

    def scale(self, factor: float, once: "Clock") -> None:
        """So much of it, and `once` what is done once."""
        self.wall = self.wall * factor + once.wall
        self.processor = self.processor * factor + once.processor

    def over(self, other: "Clock") -> str:
        """How many times as long as the other."""
        return (
            f"{self.processor / other.processor:.2f} in processor time, "
            f"{self.wall / other.wall:.2f} by the clock"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=256, help="samples")
    parser.add_argument("--units", type=int, default=16, help="units that the plain loop removes")
    parser.add_argument("--blocks", type=int, default=4, help="turns that they are removed in")
    parser.add_argument("--segmenter", default=None, help="weights; the bundled ones by default")
    arguments = parser.parse_args()
    model = dissect.load("bedrooms64")
    network, _ = load_unet(arguments.segmenter)
    plain_eyes, eyes = as_trained(network), Segmenter.from_unet(network)
    z = latents_for(model, arguments.n, 3)
    acts = activations(model, LAYER, z)
    total = acts.shape[1]
    drawn = np.random.default_rng(0).choice(total, arguments.units, replace=False)
    clocks = {name: Clock() for name in ("plain", "sweep", "plain drawing", "sweep drawing")}
    once = {name: Clock() for name in clocks}
    tail = once["sweep drawing"].time(partial(Tail.of, model, LAYER, acts))
    assert tail is not None
    parts: list[tuple[UnitEffects, UnitEffects]] = []
    for block in np.array_split(drawn, arguments.blocks):
        units = [int(unit) for unit in block]
        found = []
        for name, fast, seen in (("plain", False, plain_eyes), ("sweep", True, eyes)):
            # What runs once for all units is timed apart, and counted once.
            once[name] = Clock()
            once[name].time(partial(sweep, model, z, seen, [], fast))
            clocks[name].less(once[name])
            found.append(clocks[name].time(partial(sweep, model, z, seen, units, fast)))
        parts.append((found[0], found[1]))
        clocks["plain drawing"].time(partial(draw_plainly, model, z, units, total))
        clocks["sweep drawing"].time(partial(draw_quickly, tail, units, len(z)))
    for name, clock in clocks.items():
        clock.scale(total / len(drawn), once[name])
    print(
        f"{LAYER}: {total} units on {arguments.n} samples, {torch.get_num_threads()} threads, from "
        f"{len(drawn)} of the units in {arguments.blocks} turns"
    )
    for name, clock in clocks.items():
        print(f"{name:<16}{clock.processor:8.0f} s of processor time, {clock.wall:8.0f} s")
    print(f"end to end: {clocks['plain'].over(clocks['sweep'])} times as fast")
    print(f"drawing:    {clocks['plain drawing'].over(clocks['sweep drawing'])} times as fast")
    print(f"largest difference of a share of pixels or of a mean change: {difference(parts):.1e}")


def as_trained(network: UNet) -> Segmenter:
    """The segmenter that anyone would write down first."""

    def label(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([network(part).argmax(1) for part in images.split(BATCH)])

    return Segmenter(network.classes, label)


def sweep(
    model: nn.Module, z: Tensor, eyes: Segmenter, units: list[int], fast: bool
) -> UnitEffects:
    return unit_effects(model, LAYER, z, eyes, units=units, fast=fast)


def draw_plainly(model: nn.Module, z: Tensor, units: list[int], total: int) -> None:
    for unit in units:
        for part in z.split(BATCH):
            with torch.inference_mode(), dissect.ablated(model, Units(LAYER, (unit,), total)):
                model(part)


def draw_quickly(tail: Tail, units: list[int], n: int) -> None:
    for unit in units:
        for _ in tail.without(unit, torch.arange(n)):
            pass


def difference(parts: list[tuple[UnitEffects, UnitEffects]]) -> float:
    """Of counts, in shares of all pixels, and of mean changes."""
    worst = 0.0
    for plain, quick in parts:
        pixels = max(int(plain.before.sum()), 1)
        worst = max(
            worst,
            float(np.abs(plain.after - quick.after).max()) / pixels,
            float(np.abs(plain.both - quick.both).max()) / pixels,
            float(np.abs(plain.change - quick.change).max()),
        )
    return worst


if __name__ == "__main__":
    main()
