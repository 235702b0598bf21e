"""The purely supervised network of the discriminator's architecture (section 5.2, Table 2)."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect.data import LabelledSource
from dissect.models import Discriminator
from dissect.representation.protocols import FewLabels, Judged, wilson

__all__ = ["Searched", "Trial", "search", "settings_of", "train_classifier"]

Labels = NDArray[np.int64]

_AT_ONCE = 250


@dataclass(frozen=True)
class Trial:
    """One setting of the random search."""

    learning_rate: float
    beta1: float
    weight_decay: float
    dropout: float
    batch_size: int
    epochs: int


@dataclass(frozen=True)
class Searched:
    """The outcome of a search.

    Attributes:
        judged: on the test images, of the setting that was best on the validation images.
        best: that setting.
        validation: its accuracy on the validation images (what the paper reports).
        trials: every setting with its accuracy on the validation images.
    """

    judged: Judged
    best: Trial
    validation: float
    trials: tuple[tuple[Trial, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """The search, ready for JSON."""
        return {
            "best": asdict(self.best),
            "validation": self.validation,
            "trials": [{**asdict(trial), "validation": found} for trial, found in self.trials],
        }


def settings_of(number: int, seed: int) -> Trial:
    """The setting of trial `number`: rates and decay uniform in their logarithm."""
    random = np.random.default_rng((seed, number))
    return Trial(
        learning_rate=float(10 ** random.uniform(-4, -2)),
        beta1=float(random.choice([0.5, 0.9])),
        weight_decay=float(10 ** random.uniform(-6, -2)),
        dropout=float(random.uniform(0, 0.7)),
        batch_size=int(random.choice([32, 64, 128])),
        epochs=int(random.choice([25, 50, 100])),
    )


def train_classifier(
    like: Discriminator,
    images: LabelledSource,
    rows: Labels,
    trial: Trial,
    *,
    seed: int,
    device: torch.device,
) -> nn.Sequential:
    """A network of `like`'s architecture that ends in classes, trained on the images at `rows`.

    Args:
        like: whose widths and kernels are taken; its weights are not.
        images: the training images.
        rows: which of them have labels.
        trial: how it is trained: Adam, cross entropy, dropout before the last layer.
        seed: of the weights, the order and the dropout.
        device: where it is trained.
    """
    n_classes = len(images.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = Discriminator(**like.config)
        linear = body.score[1]
        assert isinstance(linear, nn.Linear)
        last = nn.Linear(linear.in_features, n_classes)
        nn.init.normal_(last.weight, 0.0, 0.02)
        nn.init.zeros_(last.bias)
        layers = [layer for name, layer in body.named_children() if name != "score"]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(trial.dropout), last).to(device)
        optimizer = torch.optim.Adam(
            model.parameters(),
            lr=trial.learning_rate,
            betas=(trial.beta1, 0.999),
            weight_decay=trial.weight_decay,
        )
        x = to_tensor(images.images(rows), device)
        y = torch.from_numpy(images.labels[rows]).to(device)
        model.train()
        size = min(trial.batch_size, len(rows))
        for _ in range(trial.epochs):
            # What does not fill a batch would be normalised by statistics of a few.
            order = torch.randperm(len(rows))[: len(rows) // size * size]
            for part in order.split(size):
                loss = cross_entropy(model(x[part]), y[part])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return model.eval()


def search(
    like: Discriminator,
    train: LabelledSource,
    test: LabelledSource,
    protocol: FewLabels,
    *,
    trials: int = 64,
    seed: int = 0,
    watch: Callable[[str], None] | None = None,
) -> Searched:
    """The best of `trials` random settings by validation accuracy, and how it does on `test`.

    Every trial sees the same labelled images, the first draw of `protocol`; the validation images
    are those of the features.

    Args:
        like: the discriminator whose architecture is taken.
        train: the training images.
        test: the test images, looked at once.
        protocol: how many labels, and how many images for validation.
        trials: how many settings (64 in the paper).
        seed: of the settings and of the weights.
        watch: told about each trial.

    Raises:
        DissectError: too few images, no trial, or no setting whose network gives numbers.
    """
    if trials < 1:
        raise DissectError(f"at least 1 trial is needed; got {trials}")
    device = next(like.parameters()).device
    n_classes = len(train.classes)
    validation, pool = protocol.split(train.labels, n_classes)
    rows = protocol.draw(train.labels, pool, n_classes, 0)
    found: list[tuple[Trial, float]] = []
    best: nn.Module | None = None
    for number in range(trials):
        trial = settings_of(number, seed)
        model = train_classifier(like, train, rows, trial, seed=seed + number, device=device)
        reached = float((_predicted(model, train, validation) == train.labels[validation]).mean())
        if best is None or reached > max(other for _, other in found):
            best = copy.deepcopy(model)
        found.append((trial, reached))
        if watch is not None:
            watch(f"trial {number + 1} of {trials}: {reached:.4f} of validation images")
    assert best is not None
    places = np.arange(len(test))
    right = int((_predicted(best, test, places) == test.labels).sum())
    judged = Judged(right / len(test), wilson(right, len(test)), None, {}, 0, "adam", True)
    setting, reached = max(found, key=lambda pair: pair[1])
    return Searched(judged, setting, reached, tuple(found))


def _predicted(model: nn.Module, images: LabelledSource, rows: Labels) -> Labels:
    device = next(model.parameters()).device
    found: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            part = images.images(rows[start : start + _AT_ONCE])
            found.append(model(to_tensor(part, device)).argmax(1).cpu())
    return torch.cat(found).numpy()
