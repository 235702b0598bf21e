"""Matrix products in bfloat16 compute what the plain modules compute."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.training import CPU, TINY
from torch import Tensor, nn

from dissect.models.dcgan import Discriminator, Generator
from dissect.training import TrainState, products, step
from dissect.training.fast import fast_forward
from dissect.training.step import train_step

# At these widths some layers are made by products whole, some only their kernel's gradient.
NETWORKS = {
    "generator": (lambda kernel: Generator(7, 64, 32, kernel=kernel), (8, 7)),
    "discriminator": (lambda kernel: Discriminator(64, 32, kernel=kernel), (8, 3, 32, 32)),
}


def _pass(network: nn.Module, x: Tensor, how: str) -> dict[str, Tensor]:
    """The output, every gradient and every buffer after one pass through a copy of `network`."""
    network, x = copy.deepcopy(network).train(), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=how != "exact"):
        y = fast_forward(network, x) if how == "products" else network(x)
    generator = torch.Generator().manual_seed(5)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    found = {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
    found |= {"output": y.detach(), "gradient of x": x.grad}
    tensors = {name: value for name, value in found.items() if value is not None}
    assert tensors.keys() == found.keys()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in network.parameters())
    return tensors | dict(network.named_buffers())


def _astray(value: Tensor, exact: Tensor) -> float:
    value = value.detach().double()
    return float((value - exact).norm() / exact.double().norm())


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_further_from_the_exact_result_than_autocast_itself(name: str, kernel: int) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = build(kernel).to(memory_format=torch.channels_last)
    x = torch.randn(shape)
    exact = _pass(copy.deepcopy(network).double(), x.double(), "exact")
    usual, found = (_pass(network, x, how) for how in ("autocast", "products"))
    assert found.keys() == exact.keys()
    for key, value in exact.items():
        if "num_batches" in key:
            assert torch.equal(found[key], value)
            continue
        assert _astray(found[key], value) < 1.3 * _astray(usual[key], value) + 1e-4, key
        # Rounded at every layer, the gradients of these networks are within a tenth or so.
        assert _astray(found[key], value) < 0.15, key


@pytest.mark.parametrize("folded", [0, 10**9])
@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("side", [1, 2, 5])
def test_of_whole_numbers_the_products_are_the_convolutions_exactly(
    side: int, kernel: int, folded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bfloat16 holds whole numbers up to 256, and no sum here is larger.
    monkeypatch.setattr(products, "_FOLDED", folded)
    generator = torch.Generator().manual_seed(side)

    def draw(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=generator).float()

    w = draw(5, 3, kernel, kernel)
    x, y = draw(2, 5, side, side), draw(2, 3, 2 * side, 2 * side)
    up = nn.ConvTranspose2d(5, 3, kernel, 2, (kernel - 1) // 2, kernel - 4, bias=False)
    down = nn.Conv2d(3, 5, kernel, 2, (kernel - 1) // 2, bias=False)
    for conv, product, given, towards in (
        (up, products._Up, x, y),
        (down, products._Down, y, x),
    ):
        results = []
        for bfloat16 in (False, True):
            conv.weight = nn.Parameter(w.clone())
            values = (given.bfloat16() if bfloat16 else given.clone()).requires_grad_()
            made = product.apply(values, conv.weight) if bfloat16 else conv(values)
            made.backward(towards.to(made.dtype))
            results.append((made.float(), values.grad.float(), conv.weight.grad))
        assert results[0][2].abs().max() <= 256
        for exact, found in zip(*results, strict=True):
            assert torch.equal(found, exact)


@pytest.mark.parametrize("name", NETWORKS)
def test_frozen_weights_get_no_gradient_and_change_nothing_else(name: str) -> None:
    build, shape = NETWORKS[name]
    network, x = build(4), torch.randn(shape)
    learning = _pass(network, x, "products")
    x.requires_grad_()
    network.train().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        y = fast_forward(network, x)
    generator = torch.Generator().manual_seed(5)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert _astray(y, learning["output"]) < 0.02
    assert _astray(x.grad, learning["gradient of x"]) < 0.05


def test_training_in_bfloat16_repeats_its_bytes_and_keeps_float32_weights(monkeypatch) -> None:
    # Emulated where the processor does not compute in it.
    monkeypatch.setattr(step, "autocast_dtype", lambda device: torch.bfloat16)
    config = replace(TINY, generator_width=64, discriminator_width=64, image_size=16)
    generator = torch.Generator().manual_seed(1)
    real = torch.rand(config.batch_size, 3, 16, 16, generator=generator) * 2 - 1
    z = torch.rand(config.batch_size, config.latent_size, generator=generator) * 2 - 1
    runs = []
    for _ in range(2):
        state = TrainState.start(config, CPU)
        before = {name: value.clone() for name, value in state.tensors().items()}
        for _ in range(2):
            train_step(state, real, z)
        runs.append(state.tensors())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    for name, value in before.items():
        assert runs[0][name].dtype == value.dtype
        if name.endswith("conv.weight"):
            assert not torch.equal(runs[0][name], value)
