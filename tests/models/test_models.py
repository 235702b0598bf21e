import json
import math
import struct
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from dissect._utils.device import resolve_device
from dissect._utils.errors import DissectError
from dissect.models import (
    Discriminator,
    Generator,
    fingerprint,
    generate,
    latents_for,
    load,
    load_checkpoint,
    save_checkpoint,
)


def tiny(**other):
    return Generator(**({"latent_size": 5, "width": 2, "image_size": 16, "kernel": 4} | other))


def test_the_papers_generator_layer_by_layer():
    generator = Generator()
    shapes = {}
    x = torch.zeros(1, 100, 1, 1)
    for name, layer in generator.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes == {
        "layer4x4": (1024, 4, 4),
        "layer8x8": (512, 8, 8),
        "layer16x16": (256, 16, 16),
        "layer32x32": (128, 32, 32),
        "rgb": (3, 64, 64),
    }
    assert generator.layer8x8.conv.kernel_size == (5, 5)


def test_the_papers_discriminator_layer_by_layer():
    discriminator = Discriminator()
    shapes = {}
    x = torch.zeros(2, 3, 64, 64)
    for name, layer in discriminator.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes == {
        "layer32x32": (128, 32, 32),
        "layer16x16": (256, 16, 16),
        "layer8x8": (512, 8, 8),
        "layer4x4": (1024, 4, 4),
        "score": (1,),
    }
    assert not hasattr(discriminator.layer32x32, "norm")
    assert discriminator.layer16x16.activation.negative_slope == 0.2
    assert discriminator(torch.zeros(2, 3, 64, 64)).shape == (2,)


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("size", [8, 32])
def test_other_sizes_and_kernels_fit(size, kernel):
    generator = Generator(width=2, image_size=size, kernel=kernel)
    images = generator(torch.zeros(2, 100))
    assert images.shape == (2, 3, size, size)
    assert Discriminator(2, size, kernel=kernel)(images).shape == (2,)


def test_weights_are_drawn_as_in_the_paper():
    torch.manual_seed(0)
    generator = Generator(width=32).requires_grad_(False)
    assert math.isclose(float(generator.layer8x8.conv.weight.std()), 0.02, rel_tol=0.01)
    assert abs(float(generator.layer8x8.conv.weight.mean())) < 1e-4
    assert math.isclose(float(generator.layer4x4.norm.weight.mean()), 1, abs_tol=0.01)
    assert float(generator.layer4x4.norm.bias.abs().max()) == 0


@pytest.mark.parametrize("wrong", [{"image_size": 60}, {"image_size": 4}, {"kernel": 3}])
def test_networks_that_cannot_be_built_are_refused(wrong):
    with pytest.raises(DissectError):
        tiny(**wrong)


def test_a_checkpoint_gives_the_same_images(tmp_path):
    generator = tiny().eval()
    generator.layer4x4.norm.running_mean.normal_()
    path = save_checkpoint(tmp_path / "g.safetensors", generator, card={"steps": 7})
    loaded, card = load_checkpoint(path)
    z = torch.rand(3, 5)
    assert torch.equal(loaded(z), generator(z))
    assert card == {"steps": 7}
    assert fingerprint(loaded) == fingerprint(generator)
    assert not loaded.training


def test_half_precision_halves_the_file_and_keeps_variances(tmp_path):
    generator = Generator(width=8)
    generator.layer4x4.norm.running_var.fill_(1e-6)
    whole = save_checkpoint(tmp_path / "a", generator).stat().st_size
    half = save_checkpoint(tmp_path / "b", generator, half=True).stat().st_size
    assert half < 0.52 * whole
    loaded = load(tmp_path / "b")
    assert loaded.layer4x4.conv.weight.dtype == torch.float32
    assert float(loaded.layer4x4.norm.running_var[0]) == pytest.approx(1e-6, rel=1e-5)


def test_a_fingerprint_tells_weights_apart_and_ignores_memory_format():
    generator = tiny()
    before = fingerprint(generator)
    assert fingerprint(generator.to(memory_format=torch.channels_last)) == before
    generator.rgb.conv.weight.data[0, 0, 0, 0] += 1e-6
    assert fingerprint(generator) != before


def test_a_discriminator_is_not_a_generator(tmp_path):
    path = save_checkpoint(tmp_path / "d.safetensors", Discriminator(2, 16))
    assert isinstance(load(path, network="discriminator"), Discriminator)
    with pytest.raises(DissectError, match="holds a discriminator, and a generator is needed"):
        load(path)


def test_absent_things_are_named(tmp_path):
    with pytest.raises(DissectError, match="no model 'bedroms64'.*did you mean 'bedrooms64'"):
        load("bedroms64")
    with pytest.raises(DissectError, match="no model"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(DissectError, match="device 'mars' is not available here"):
        resolve_device("mars")


def test_an_absent_device_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    with pytest.raises(DissectError, match="device 'cuda' is not available here; have: cpu"):
        resolve_device("cuda")


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory):
    path = save_checkpoint(tmp_path_factory.mktemp("good") / "g", tiny(), card={"a": 1})
    return path.read_bytes()


def read(tmp_path, data):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    try:
        model, _ = load_checkpoint(path)
    except DissectError as error:
        assert "\n" not in str(error)
        return None
    return model


# Each example writes its own file: the folder is shared on purpose.
FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_refused(tmp_path, good_bytes, share):
    assert read(tmp_path, good_bytes[: int(len(good_bytes) * share)]) is None


@FUZZ
@given(st.data())
def test_flipped_bits_end_in_an_error_or_in_a_network(tmp_path, good_bytes, data):
    header = 8 + int.from_bytes(good_bytes[:8], "little")
    damaged = bytearray(good_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most flips go to the header, where they can do harm.
        last = header - 1 if data.draw(st.booleans()) else len(damaged) - 1
        damaged[data.draw(st.integers(0, last))] ^= 1 << data.draw(st.integers(0, 7))
    model = read(tmp_path, bytes(damaged))
    if model is not None:
        assert all(bool(v.isfinite().all()) for v in model.state_dict().values())


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path, data):
    assert read(tmp_path, data) is None


def test_foreign_and_inconsistent_headers_are_refused(tmp_path, good_bytes):
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(save({"x": torch.zeros(2)}))
    with pytest.raises(DissectError, match="not a dissect checkpoint.*factory"):
        load_checkpoint(foreign)
    size = struct.unpack("<Q", good_bytes[:8])[0]
    header = json.loads(good_bytes[8 : 8 + size])
    header["__metadata__"]["config"] = json.dumps({"width": 10**9})
    text = json.dumps(header).encode()
    assert read(tmp_path, struct.pack("<Q", len(text)) + text + good_bytes[8 + size :]) is None


def test_not_a_number_in_the_weights_is_refused(tmp_path):
    generator = tiny()
    generator.rgb.conv.bias.data[0] = math.nan
    path = save_checkpoint(tmp_path / "nan", generator)
    with pytest.raises(DissectError, match=r"rgb\.conv\.bias holds values that are not numbers"):
        load_checkpoint(path)


FACTORY = """
import torch
from torch import nn

class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ConvTranspose2d(3, 3, 8)
    def forward(self, z):
        return self.body(z[:, :, None, None])

def plain():
    model = Foreign()
    model.latent_size = 3
    return model

def with_latents():
    return Foreign(), lambda n, seed, start: 10.0 * seed + torch.arange(start, start + n * 1.0)[
        :, None
    ].expand(n, 3)

def silent():
    return Foreign()

def broken():
    raise RuntimeError("no weights")

def nothing():
    return 3
"""


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "foreign.py"
    path.write_text(FACTORY)
    return path


def test_a_factory_gives_any_module(factory):
    model = load(f"{factory}:plain")
    assert isinstance(model, nn.Module)
    assert not model.training
    assert latents_for(model, 4, seed=2).shape == (4, 3)
    assert generate(model, latents_for(model, 5), batch_size=2).shape == (5, 3, 8, 8)


def test_a_factory_may_bring_its_latents(factory):
    model = load(f"{factory}:with_latents")
    assert latents_for(model, 2, 0, start=9).tolist() == [[9.0] * 3, [10.0] * 3]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "has no function 'missing'; it has: plain, with_latents"),
        ("broken", r"broken\(\) failed: RuntimeError: no weights"),
        ("nothing", r"must return an nn.Module"),
    ],
)
def test_a_factory_that_fails_is_one_line(factory, name, message):
    with pytest.raises(DissectError, match=message):
        load(f"{factory}:{name}")


@pytest.mark.parametrize("beside", ["parts.py", "parts/__init__.py", "parts/inside.py"])
def test_factories_of_one_file_name_with_code_of_one_name_beside_them(tmp_path, beside):
    name = "parts.inside" if "inside" in beside else "parts"
    path = list(sys.path)
    for place, size in (("one", 3), ("other", 7)):
        code = tmp_path / place / beside
        code.parent.mkdir(parents=True)
        code.write_text(f"SIZE = {size}\n")
        (tmp_path / place / "model.py").write_text(
            f"""
from dataclasses import dataclass
from torch import nn

@dataclass
class Settings:
    size: int

def make():
    from {name} import SIZE
    size = Settings(SIZE).size
    model = nn.Sequential(nn.Unflatten(1, (size, 1, 1)), nn.ConvTranspose2d(size, 3, 8))
    model.latent_size = size
    model.settings = Settings
    return model
"""
        )
    one = load(f"{tmp_path / 'one' / 'model.py'}:make")
    other = load(f"{tmp_path / 'other' / 'model.py'}:make")
    assert (one.latent_size, other.latent_size) == (3, 7)
    assert one.settings.__module__ != other.settings.__module__
    assert sys.path == path
    assert name not in sys.modules


def test_what_is_attached_to_a_network_does_not_run_with_it(tmp_path):
    class Refuses(nn.Module):
        def forward(self, x):
            raise RuntimeError("not a layer")

    for model, inputs in (
        (tiny(), torch.rand(2, 5)),
        (Discriminator(2, 16), torch.rand(2, 3, 16, 16)),
    ):
        model.eval()
        before = model(inputs)
        model.notes = Refuses()
        assert torch.equal(model(inputs), before)
        again, _ = load_checkpoint(save_checkpoint(tmp_path / "x", model))
        assert torch.equal(again(inputs), before)


def test_a_model_without_latents_says_what_to_add(factory):
    with pytest.raises(DissectError, match="give it an attribute latent_size"):
        latents_for(load(f"{factory}:silent"), 1)


def test_loading_is_quick_and_leaves_the_compiler_alone():
    code = (
        "import sys, torch; from dissect import load; load('bedrooms64');"
        "assert 'torch._dynamo' not in sys.modules, 'the compiler was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
