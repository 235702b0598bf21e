"""The generator and the discriminator of Radford, Metz and Chintala (2015), figure 1."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.models.gated import GatedEdit

__all__ = ["Discriminator", "Generator", "add_edit", "initialize"]

LEAKY_SLOPE = 0.2


class Generator(nn.Module):
    """Latents (N, latent_size) to images (N, channels, image_size, image_size) in [-1, 1].

    A projection to 4x4, then fractionally-strided convolutions that double the grid, each with
    batch norm and ReLU, and a last one with tanh to colours. The layers are called by the grid
    they make: `layer4x4`, `layer8x8`, ..., `rgb`; each is a `Sequential` of `conv`, `norm` and
    `activation`, so that a layer's output is what comes after the ReLU.

    Args:
        latent_size: components of z, uniform in [-1, 1] (100 in the paper).
        width: channels of the last hidden layer; each earlier layer has twice as many (128 in
            the paper: 1024, 512, 256, 128 for 64x64 images).
        image_size: side of the image, 8 times a power of two.
        channels: colours of the image.
        kernel: side of the strided kernels: 5 (the paper) or 4.
        widths: channels of each hidden layer, where units were excised; None is the paper's.
        edits: modules that edit units at the end of a layer, in order: the layer's name under
            `layer`, and the arguments of `GatedEdit` but for `units`.

    Raises:
        DissectError: a size that no such network has, or an edit of no layer.

    >>> import torch
    >>> generator = Generator(latent_size=8, width=4, image_size=32).eval()
    >>> [name for name, _ in generator.named_children()]
    ['layer4x4', 'layer8x8', 'layer16x16', 'rgb']
    >>> tuple(generator(torch.zeros(2, 8)).shape)
    (2, 3, 32, 32)
    """

    def __init__(
        self,
        latent_size: int = 100,
        width: int = 128,
        image_size: int = 64,
        channels: int = 3,
        kernel: int = 5,
        widths: Sequence[int] | None = None,
        edits: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        doublings = _doublings(image_size, kernel, latent_size, width, channels, *(widths or ()))
        usual = _halved(width, doublings)
        wide = usual if widths is None else tuple(widths)
        if len(wide) != doublings:
            raise DissectError(f"{doublings} hidden layers need as many widths, not {len(wide)}")
        self.latent_size = latent_size
        self.width = width
        self.image_size = image_size
        self.kernel = kernel
        # By name: what a user attaches to the network must not run with it.
        grids = [4 * 2**step for step in range(doublings)]
        self.layers = (*(f"layer{grid}x{grid}" for grid in grids), "rgb")
        self.layer4x4 = _block(nn.ConvTranspose2d(latent_size, wide[0], 4, bias=False), nn.ReLU())
        for step in range(1, doublings):
            conv = _up(wide[step - 1], wide[step], kernel, bias=False)
            self.add_module(self.layers[step], _block(conv, nn.ReLU()))
        last = OrderedDict(conv=_up(wide[-1], channels, kernel, bias=True), activation=nn.Tanh())
        self.rgb = nn.Sequential(last)
        initialize(self)
        for edit in edits:
            self._add_edit(**edit)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make a network of this shape, with its edits; what JSON can hold."""
        blocks = {name: self.get_submodule(name) for name in self.layers}
        *widths, channels = (_out_channels(block) for block in blocks.values())
        edits = [
            {"layer": name, **part.config}
            for name, block in blocks.items()
            for part in block.children()
            if isinstance(part, GatedEdit)
        ]
        config: dict[str, Any] = {
            "latent_size": self.latent_size,
            "width": self.width,
            "image_size": self.image_size,
            "channels": channels,
            "kernel": self.kernel,
        }
        # Both are left out where there is nothing to say, so that older readers know the rest.
        if tuple(widths) != _halved(self.width, len(widths)):
            config["widths"] = widths
        if edits:
            config["edits"] = edits
        return config

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents of shape (N, latent_size)."""
        x = z.reshape(z.shape[0], -1, 1, 1)
        for name in self.layers:
            x = getattr(self, name)(x)
        return x

    def _add_edit(self, layer: str, **settings: Any) -> None:
        block = self.get_submodule(layer) if layer in self.layers else None
        if not isinstance(block, nn.Sequential):
            raise DissectError(f"there is no layer {layer!r} to edit")
        add_edit(block, GatedEdit(_out_channels(block), **settings))


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) in [-1, 1] to logits (N,) of being real.

    Strided convolutions that halve the grid, each with LeakyReLU (slope 0.2) and all but the
    first with batch norm, then one unit over the flattened 4x4 grid. The paper ends in a sigmoid;
    the logit before it is returned because the loss is computed from it without rounding. Layers
    are called by the grid they make: `layer32x32` ... `layer4x4`, `score`.

    Args:
        width: channels of the first layer; each later layer has twice as many (128 in the
            authors' code for LSUN).
        image_size: side of the image, 8 times a power of two.
        channels: colours of the image.
        kernel: side of the strided kernels: 5 (the paper) or 4.

    Raises:
        DissectError: a size that no such network has.

    >>> import torch
    >>> discriminator = Discriminator(width=4, image_size=32).eval()
    >>> tuple(discriminator(torch.zeros(2, 3, 32, 32)).shape)
    (2,)
    """

    def __init__(
        self, width: int = 128, image_size: int = 64, channels: int = 3, kernel: int = 5
    ) -> None:
        super().__init__()
        doublings = _doublings(image_size, kernel, width, channels)
        self.config = {
            "width": width,
            "image_size": image_size,
            "channels": channels,
            "kernel": kernel,
        }
        self.image_size = image_size
        grids = [image_size // 2**step for step in range(1, doublings + 1)]
        self.layers = (*(f"layer{grid}x{grid}" for grid in grids), "score")
        before, wide = channels, width
        for name in self.layers[:-1]:
            self.add_module(name, _down(before, wide, kernel, norm=wide > width))
            before, wide = wide, wide * 2
        score = OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(before * 16, 1))
        self.score = nn.Sequential(score)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N,) for images of shape (N, channels, image_size, image_size)."""
        x = images
        for name in self.layers:
            x = getattr(self, name)(x)
        return x.squeeze(1)


def initialize(network: nn.Module) -> None:
    """Draw the weights as the paper has them (section 4): normal, mean 0, standard deviation 0.02.

    Batch norm's scales are drawn around 1 with the same standard deviation, as in the authors'
    code; every bias is 0.
    """
    for module in network.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            continue  # it has no values, and drawing them would import all of torch's compiler
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def add_edit(layer: nn.Module, edit: GatedEdit) -> None:
    """Register the edit with the layer: as `edit`, or `edit2` and so on after others."""
    count = 1
    while hasattr(layer, name := "edit" if count == 1 else f"edit{count}"):
        count += 1
    layer.add_module(name, edit)


def _out_channels(block: nn.Module) -> int:
    """The channels that the convolution of a layer gives."""
    return int(block.conv.out_channels)  # type: ignore[union-attr, arg-type]


def _halved(width: int, layers: int) -> tuple[int, ...]:
    """The paper's widths: each layer half as wide as the one before, the last one `width`."""
    return tuple(width * 2**step for step in reversed(range(layers)))


def _doublings(image_size: int, kernel: int, *counts: int) -> int:
    """How many times a 4x4 grid is doubled to make the image, at least 1."""
    steps = (image_size // 4).bit_length() - 1
    if steps < 1 or 4 * 2**steps != image_size:
        raise DissectError(f"image size {image_size} cannot be built: use 8, 16, 32, 64, 128, ...")
    if kernel not in (4, 5):
        raise DissectError(f"kernel {kernel} is not offered: use 5 (the paper) or 4")
    if min(counts) < 1:
        raise DissectError("latent size, width and channels must be at least 1")
    return steps


def _up(before: int, after: int, kernel: int, *, bias: bool) -> nn.ConvTranspose2d:
    # Both kernels double the grid: 5 needs one row of output padding, 4 fits exactly.
    padding, extra = (2, 1) if kernel == 5 else (1, 0)
    return nn.ConvTranspose2d(before, after, kernel, 2, padding, extra, bias=bias)


def _block(conv: nn.ConvTranspose2d, activation: nn.Module) -> nn.Sequential:
    parts = OrderedDict(conv=conv, norm=nn.BatchNorm2d(conv.out_channels), activation=activation)
    return nn.Sequential(parts)


def _down(before: int, after: int, kernel: int, *, norm: bool) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    padding = 2 if kernel == 5 else 1
    parts["conv"] = nn.Conv2d(before, after, kernel, 2, padding, bias=not norm)
    if norm:
        parts["norm"] = nn.BatchNorm2d(after)
    parts["activation"] = nn.LeakyReLU(LEAKY_SLOPE)
    return nn.Sequential(parts)
