"""The fast passes compute what the plain modules compute."""

import copy

import pytest
import torch
from torch import Tensor, nn

from dissect.models.dcgan import Discriminator, Generator
from dissect.training import fast
from dissect.training.fast import fast_forward

NETWORKS = {
    "generator, both kinds of layer": (lambda: Generator(7, 64, 32, kernel=4), (4, 7)),
    "generator, few channels": (lambda: Generator(7, 8, 16, kernel=4), (4, 7)),
    "generator, paper's kernel": (lambda: Generator(7, 8, 16, kernel=5), (4, 7)),
    "discriminator, both kinds of layer": (
        lambda: Discriminator(32, 64, kernel=4),
        (4, 3, 64, 64),
    ),
    "discriminator, paper's kernel": (lambda: Discriminator(8, 16, kernel=5), (4, 3, 16, 16)),
}


def _pass(network: nn.Module, x: Tensor, *, quick: bool) -> dict[str, Tensor]:
    """The output, every gradient and every buffer after one pass through a copy of `network`."""
    network, x = copy.deepcopy(network).train(), x.clone().requires_grad_()
    y = fast_forward(network, x) if quick else network(x)
    generator = torch.Generator().manual_seed(5)
    y.backward(torch.randn(y.shape, generator=generator))
    found = {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
    found |= {"output": y.detach(), "gradient of x": x.grad}
    tensors = {name: value for name, value in found.items() if value is not None}
    assert tensors.keys() == found.keys()
    return tensors | dict(network.named_buffers())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", NETWORKS)
def test_output_gradients_and_statistics_are_the_modules_own(
    name: str, memory_format: torch.memory_format
) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    # In double precision the modules' own rounding leaves the comparison.
    network = build().to(memory_format=memory_format)
    x = torch.randn(shape)
    expected = _pass(copy.deepcopy(network).double(), x.double(), quick=False)
    found = _pass(network, x, quick=True)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        scale = value.double().abs().max().item()
        torch.testing.assert_close(
            found[key].double(), value.double(), rtol=1e-4, atol=1e-4 * scale, msg=key
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_repeated_pass_gives_the_same_bytes(name: str) -> None:
    build, shape = NETWORKS[name]
    network, x = build(), torch.randn(shape)
    first, second = (_pass(network, x, quick=True) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_frozen_weights_get_no_gradient() -> None:
    network = Discriminator(32, 64, kernel=4).requires_grad_(False)
    x = torch.randn(4, 3, 64, 64, requires_grad=True)
    fast_forward(network, x).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("side", [2, 4, 6])
def test_the_transforms_are_convolutions_that_are_each_others_adjoint(side: int) -> None:
    x = torch.randn(3, 5, side, side, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    y = nn.functional.conv_transpose2d(x, w, None, 2, 1)
    torch.testing.assert_close(fast._WinogradUp.apply(x, w), y)
    torch.testing.assert_close(fast._ColourUp.apply(x, w, None), y)
    wide = torch.randn_like(y, requires_grad=True)
    torch.testing.assert_close(
        fast._WinogradDown.apply(wide, w), nn.functional.conv2d(wide, w, None, 2, 1)
    )
    assert torch.autograd.gradcheck(fast._WinogradUp.apply, (x, w), fast_mode=True)
    assert torch.autograd.gradcheck(fast._WinogradDown.apply, (wide, w), fast_mode=True)
