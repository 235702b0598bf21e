"""Training a DCGAN as the paper does, so that nothing is lost."""

from dissect.training.config import TrainConfig
from dissect.training.export import save_networks
from dissect.training.loop import Report, sample_average, train
from dissect.training.monitor import FrechetMeter, TrainingMonitor
from dissect.training.presets import PRESETS, read_config, to_toml
from dissect.training.presets import preset as preset_config
from dissect.training.sources import open_images
from dissect.training.state import TrainState, checkpoints, load_state, save_state

__all__ = [
    "PRESETS",
    "FrechetMeter",
    "Report",
    "TrainConfig",
    "TrainState",
    "TrainingMonitor",
    "checkpoints",
    "load_state",
    "open_images",
    "preset_config",
    "read_config",
    "sample_average",
    "save_networks",
    "save_state",
    "to_toml",
    "train",
]
