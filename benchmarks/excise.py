"""How much faster a generator is without its units: excised against baked, and how alike."""

import time

import torch

import dissect
from dissect.probe import fit_probe_from_boxes
from dissect.units import Units

LAYER, BATCH, BLOCKS = "layer8x8", 64, 15


def main() -> None:
    model = dissect.load("bedrooms64")
    boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    probe = fit_probe_from_boxes(model, boxes, layer=LAYER, scored=False)
    z = dissect.latents(BATCH, seed=1)
    print(f"batch {BATCH}, {torch.get_num_threads()} threads; median and best of {BLOCKS} passes")
    for rule in ("top:32", "positive"):
        units = probe.units(rule)
        report(rule, model, units, z)
    half = Units(LAYER, tuple(range(0, probe.weight.numel(), 2)), probe.weight.numel())
    report("every second unit", model, half, z)


def report(name: str, model: torch.nn.Module, units: Units, z: torch.Tensor) -> None:
    """One line: the same removal baked and excised, timed by turns."""
    baked, excised = dissect.bake(model, units), dissect.excise(model, units)
    times: dict[str, list[float]] = {"baked": [], "excised": []}
    with torch.inference_mode():
        difference = float((baked(z) - excised(z)).abs().max())
        for _ in range(BLOCKS):
            for key, network in (("baked", baked), ("excised", excised)):
                start = time.perf_counter()
                network(z)
                times[key].append(time.perf_counter() - start)
    middle = {key: sorted(values)[BLOCKS // 2] for key, values in times.items()}
    best = {key: min(values) for key, values in times.items()}
    weights = [sum(p.numel() for p in network.parameters()) for network in (baked, excised)]
    print(
        f"{name}: {len(units)} of {units.total} units of {units.layer}; "
        f"{weights[0]:,} to {weights[1]:,} parameters; "
        f"{middle['baked'] * 1e3:.0f} to {middle['excised'] * 1e3:.0f} ms a batch "
        f"({middle['baked'] / middle['excised']:.2f} times as fast; of the best passes "
        f"{best['baked'] / best['excised']:.2f}); largest difference {difference:.1e}"
    )


if __name__ == "__main__":
    main()
