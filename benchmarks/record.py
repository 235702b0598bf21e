"""What recording one layer costs, beside a forward pass that ends there by itself.

    python benchmarks/record.py

Every way to get the activation of `layer8x8` is timed in turn, repeat by repeat, in processor time.
The table gives the least time of each, divided by that of the bare partial forward pass: only the
submodules up to that layer, called by hand, and nothing kept. `record(stop=True)` may take at most
1.05, and no longer than a trace of a few lines on torch's public hooks.
"""

import argparse
import random
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import dissect

LAYER = "layer8x8"


def bare(model: nn.Module, z: Tensor) -> Tensor:
    x = z.reshape(len(z), -1, 1, 1)
    for name, layer in model.named_children():
        x = layer(x)
        if name == LAYER:
            break
    return x


def recorded(model: nn.Module, z: Tensor) -> Tensor:
    with dissect.record(model, LAYER, stop=True) as acts:
        model(z)
    return acts[LAYER]


class _Reached(Exception):  # noqa: N818
    """Ends the pass of the trace."""


class Trace:
    """The least that a recording with an early stop can be; the block ends with the pass."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        self.layer = model.get_submodule(layer)

    def __enter__(self) -> "Trace":
        def keep(module: nn.Module, args: object, output: Tensor) -> None:
            self.output = output.detach()
            raise _Reached

        self.handle = self.layer.register_forward_hook(keep)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        self.handle.remove()
        return kind is _Reached


def traced(model: nn.Module, z: Tensor) -> Tensor:
    with Trace(model, LAYER) as trace:
        model(z)
    return trace.output


def recorded_without_stop(model: nn.Module, z: Tensor) -> Tensor:
    with dissect.record(model, LAYER) as acts:
        model(z)
    return acts[LAYER]


def by_captum(model: nn.Module, z: Tensor) -> Tensor:
    from captum.attr import LayerActivation

    result: Tensor = LayerActivation(model, model.get_submodule(LAYER)).attribute(z)
    return result


def full(model: nn.Module, z: Tensor) -> Tensor:
    result: Tensor = model(z)
    return result


WAYS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "bare partial forward pass": bare,
    "dissect.record, stop=True": recorded,
    "trace on public hooks": traced,
    "dissect.record": recorded_without_stop,
    "captum LayerActivation": by_captum,
    "full forward pass": full,
}


def ratios(
    model: nn.Module, batch: int, repeats: int, device: torch.device
) -> tuple[float, list[float]]:
    """The least milliseconds of the first way, and the ratio of each way's least time to it."""
    z = dissect.latents(batch, device=device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    least = [float("inf") for _ in WAYS]
    order = list(enumerate(WAYS.values()))
    shuffle = random.Random(0).shuffle
    for repeat in range(repeats + 3):
        # Each way leaves the caches to the next as it used them: none is always to follow the same.
        shuffle(order)
        for row, way in order:
            _wait(device)
            start = clock()
            way(model, z)
            _wait(device)
            # The first repeats warm caches and the allocator up.
            if repeat >= 3:
                least[row] = min(least[row], clock() - start)
    return 1000 * least[0], [seconds / least[0] for seconds in least]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description="What recording one layer costs.")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=800, help="at batch 1; a fortieth at 100")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model = dissect.Generator(width=options.width).eval().to(device)

    columns = []
    with torch.no_grad():
        for batch in (1, 100):
            repeats = max(5, options.repeats if batch == 1 else options.repeats // 40)
            columns.append((batch, *ratios(model, batch, repeats, device)))

    print(f"{LAYER} of a width-{options.width} generator, {device}, {options.threads} threads")
    print("least time over that of the bare partial forward pass".ljust(30))
    heads = (f"batch {batch} ({ms:.2f} ms)" for batch, ms, _ in columns)
    print("".ljust(28), *(head.rjust(22) for head in heads))
    for row, name in enumerate(WAYS):
        print(name.ljust(28), *(f"{times[row]:.3f}".rjust(22) for _, _, times in columns))


if __name__ == "__main__":
    main()
