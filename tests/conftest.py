from pathlib import Path

import pytest
import torch
from hypothesis import settings

# A busy machine is no reason to fail.
settings.register_profile("dissect", deadline=None)
settings.load_profile("dissect")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for trying things out; it lies beside the repository and is not part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data is not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
