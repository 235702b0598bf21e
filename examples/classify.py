"""Table 1 through the API: what a discriminator has learned about CIFAR-10 without labels.

    dissect train cifar10:PATH --preset cifar32 --set kernel=4
    python examples/classify.py cifar10:PATH out/training/discriminator.safetensors [LABELS]

Prints the accuracy of the linear classifier on the discriminator's features, on those of the same
network with random weights, and on raw pixels.
"""

import sys

import dissect
from dissect.data import labelled
from dissect.representation import FeatureStudy


def main(spec: str, checkpoint: str, labels: int | None = None) -> None:
    """Evaluate the features with the first so many labels (None: all)."""
    train, test = labelled(spec)
    discriminator = dissect.load(checkpoint, network="discriminator")
    study = FeatureStudy(train.first(labels, train.size), test, discriminator)
    for row in ("pixels", "random", "discriminator"):
        result = study.run(row).evaluation
        low, high = result.interval
        print(
            f"{row:14} {result.n_features:6} features, C {result.c:g}: {result.accuracy:.1%} "
            f"({low:.1%} to {high:.1%})"
        )


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python examples/classify.py cifar10:PATH DISCRIMINATOR [LABELS]")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) == 4 else None)
