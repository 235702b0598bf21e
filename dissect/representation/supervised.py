"""The purely supervised network of the discriminator's architecture (section 5.2, Table 2)."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.random import seeded
from dissect._utils.result import Result
from dissect._utils.stats import wilson_interval
from dissect.data import LabelledSource
from dissect.models import Discriminator
from dissect.representation.protocols import EvaluationResult, LowDataProtocol

__all__ = [
    "SearchResult",
    "TrainingSetting",
    "random_setting",
    "search_classifier",
    "train_classifier",
]

Labels = NDArray[np.int64]

_BATCH = 250


@dataclass(frozen=True)
class TrainingSetting:
    """One setting of the random search."""

    learning_rate: float
    beta1: float
    weight_decay: float
    dropout: float
    batch_size: int
    epochs: int


@dataclass(frozen=True, repr=False)
class SearchResult(Result):
    """The outcome of a random search.

    Attributes:
        evaluation: on the test images, of the setting that was best on the validation images.
        best: that setting.
        validation: its accuracy on the validation images (what the paper reports).
        trials: every setting with its accuracy on the validation images.
    """

    evaluation: EvaluationResult
    best: TrainingSetting
    validation: float
    trials: tuple[tuple[TrainingSetting, float], ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each setting."""
        return [{**asdict(setting), "validation": reached} for setting, reached in self.trials]


def random_setting(number: int, seed: int) -> TrainingSetting:
    """The setting of trial `number`; rates and decay are uniform in their logarithm."""
    random = np.random.default_rng((seed, number))
    return TrainingSetting(
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
    setting: TrainingSetting,
    *,
    seed: int,
    device: torch.device,
) -> nn.Sequential:
    """A network of `like`'s architecture that ends in classes, trained on the images at `rows`.

    Args:
        like: the network whose widths and kernels are used; its weights are not.
        images: the training images.
        rows: which of them have labels.
        setting: how it is trained: Adam, cross entropy, dropout before the last layer.
        seed: of the weights, the order and the dropout.
        device: where it is trained.
    """
    n_classes = len(images.classes)
    with seeded(seed, device):
        body = Discriminator(**like.config)
        last = nn.Linear(cast(nn.Linear, body.score[1]).in_features, n_classes)
        nn.init.normal_(last.weight, 0.0, 0.02)
        nn.init.zeros_(last.bias)
        layers = [layer for name, layer in body.named_children() if name != "score"]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(setting.dropout), last).to(device)
        optimizer = torch.optim.Adam(
            model.parameters(),
            lr=setting.learning_rate,
            betas=(setting.beta1, 0.999),
            weight_decay=setting.weight_decay,
        )
        x = to_tensor(images.images(rows), device)
        y = torch.from_numpy(images.labels[rows]).to(device)
        model.train()
        size = min(setting.batch_size, len(rows))
        for _ in range(setting.epochs):
            # An incomplete batch is left out: its batch-norm statistics would be those of a few.
            order = torch.randperm(len(rows))[: len(rows) // size * size]
            for part in order.split(size):
                loss = cross_entropy(model(x[part]), y[part])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return model.eval()


def search_classifier(
    like: Discriminator,
    train: LabelledSource,
    test: LabelledSource,
    protocol: LowDataProtocol,
    *,
    trials: int = 64,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> SearchResult:
    """The best of `trials` random settings by validation accuracy, evaluated on `test`.

    Every trial uses the same labelled images, the first draw of `protocol`. The validation images
    are those of the features.

    Args:
        like: the discriminator whose architecture is used.
        train: the training images.
        test: the test images, used once.
        protocol: number of labels and of validation images.
        trials: number of settings (64 in the paper).
        seed: of the settings and of the weights.
        report: called with a line of text for each trial.

    Raises:
        DissectError: too few images, or no trial.
    """
    if trials < 1:
        raise DissectError(f"at least 1 trial is needed; got {trials}")
    device = next(like.parameters()).device
    n_classes = len(train.classes)
    held_out, pool = protocol.split(train.labels, n_classes)
    rows = protocol.draw(train.labels, pool, n_classes, 0)
    tried: list[tuple[TrainingSetting, float]] = []
    best: nn.Module = like
    for number in range(trials):
        setting = random_setting(number, seed)
        model = train_classifier(like, train, rows, setting, seed=seed + number, device=device)
        accuracy = float((_predicted(model, train, held_out) == train.labels[held_out]).mean())
        if all(accuracy > other for _, other in tried):
            best = copy.deepcopy(model)
        tried.append((setting, accuracy))
        if report is not None:
            report(f"trial {number + 1} of {trials}: {accuracy:.4f} of validation images")
    correct = int((_predicted(best, test, np.arange(len(test))) == test.labels).sum())
    interval = wilson_interval(correct, len(test))
    evaluation = EvaluationResult(correct / len(test), interval, None, {}, 0, "adam", True)
    setting, accuracy = max(tried, key=lambda pair: pair[1])
    return SearchResult(evaluation, setting, accuracy, tuple(tried))


def _predicted(model: nn.Module, images: LabelledSource, rows: Labels) -> Labels:
    device = next(model.parameters()).device
    classes: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            batch = images.images(rows[start : start + _BATCH])
            classes.append(model(to_tensor(batch, device)).argmax(1).cpu())
    return torch.cat(classes).numpy()
