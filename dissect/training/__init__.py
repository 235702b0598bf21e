"""Training a DCGAN as the paper does, so that nothing is lost."""

from dissect.training.config import TrainConfig
from dissect.training.export import save_networks
from dissect.training.loop import Report, sample_average, train
from dissect.training.state import TrainState, checkpoints, load_state, save_state

__all__ = [
    "Report",
    "TrainConfig",
    "TrainState",
    "checkpoints",
    "load_state",
    "sample_average",
    "save_networks",
    "save_state",
    "train",
]
