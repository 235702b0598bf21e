"""How many bedrooms one core renders in a second: `python benchmarks/render.py`.

Processor time is counted, not the clock on the wall, so that other work on the machine matters
less; the best of several blocks is told, beside the median.
"""

import argparse
import statistics
import time

from dissect.data.synthetic.bedrooms import render


def main() -> None:
    """Print images per second."""
    parser = argparse.ArgumentParser(description="Bedrooms rendered per second on one core.")
    parser.add_argument("--size", type=int, default=64, help="pixels of each side")
    parser.add_argument("--count", type=int, default=1000, help="images in all")
    parser.add_argument("--block", type=int, default=50, help="images timed together")
    parser.add_argument("--seed", type=int, default=0, help="series of bedrooms")
    options = parser.parse_args()
    if options.count < 1 or options.block < 1:
        parser.error("--count and --block must be 1 or more")
    render(0, options.seed, options.size)
    rates = [
        rate(range(first, min(first + options.block, options.count)), options.seed, options.size)
        for first in range(0, options.count, options.block)
    ]
    print(
        f"{max(rates):.0f} images/s of {options.size}x{options.size} on one core "
        f"(median {statistics.median(rates):.0f}, {len(rates)} blocks of {options.block})"
    )


def rate(indices: range, seed: int, size: int) -> float:
    """Images rendered in a second of processor time."""
    begin = time.process_time()
    for index in indices:
        render(index, seed, size)
    return len(indices) / (time.process_time() - begin)


if __name__ == "__main__":
    main()
