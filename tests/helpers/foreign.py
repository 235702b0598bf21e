"""Small generators of the families' patterns, as a user's own file would hold them."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import dissect

LATENT = 16


class Plain(nn.Module):
    """Two convolutions and a last operation."""

    latent_size = LATENT

    def __init__(self, channels=3, last=torch.tanh):
        super().__init__()
        self.up, self.rgb = nn.ConvTranspose2d(LATENT, 16, 16), nn.Conv2d(16, channels, 1)
        self.last = last

    def forward(self, z):
        return self.last(8 * self.rgb(torch.relu(self.up(z[:, :, None, None]))))


class Conditional(Plain):
    """A label beside the latent."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, LATENT)

    def forward(self, z, y):
        return super().forward(z + self.embed(y))


class Noisy(Plain):
    """Noise at every step, drawn in four ways."""

    def forward(self, z):
        hidden = torch.relu(self.up(z[:, :, None, None]))
        hidden = hidden + 0.3 * torch.randn_like(hidden)
        hidden = hidden + 0.1 * torch.randn(len(z), 1, 16, 16)
        hidden = hidden + hidden.new_empty(len(z), 1, 16, 16).normal_(0, 0.1)
        return torch.tanh(self.rgb(F.dropout(hidden, 0.2, training=True)))


class NumpyNoisy(Plain):
    """Noise that no seed of torch reaches."""

    def forward(self, z):
        noise = torch.from_numpy(np.random.default_rng().normal(size=(len(z), 3, 16, 16)))
        return torch.tanh(super().forward(z) + noise.float())


class BatchMean(Plain):
    """An image that depends on its batch-mates."""

    def forward(self, z):
        images = super().forward(z)
        return torch.tanh(images - images.mean(0, keepdim=True))


class Several(Plain):
    """A tuple with an image and what is none, or a list of images at two resolutions."""

    def __init__(self, *, images=1):
        super().__init__()
        self.images = images

    def forward(self, z):
        image = super().forward(z)
        return (image, None, z) if self.images == 1 else [image, image[:, :, ::2, ::2]]


class Styled(nn.Module):
    """A mapping network to a vector for each of three layers, and modulated convolutions."""

    def __init__(self):
        super().__init__()
        self.z_dim = LATENT
        self.mapping = nn.Sequential(nn.Linear(LATENT, LATENT), nn.LeakyReLU(0.2))
        self.const = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.styles = nn.ModuleList(nn.Linear(LATENT, 8) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.rgb = nn.Conv2d(8, 3, 1)

    def synthesis(self, ws):
        x = self.const.expand(len(ws), -1, -1, -1)
        for layer, (style, conv) in enumerate(zip(self.styles, self.convs, strict=True)):
            x = F.interpolate(x, scale_factor=2) if layer else x
            x = F.leaky_relu(conv(x * (1 + style(ws[:, layer]))[:, :, None, None]), 0.2)
        return torch.tanh(self.rgb(x))


class Cropped(nn.Module):
    """Layers with a margin of cells around the picture, as StyleGAN3 has them."""

    latent_size = 4

    def __init__(self, margin=10, scale=1):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.layer, self.rgb = nn.ConvTranspose2d(4, 8, 16 + 2 * margin), nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = F.interpolate(self.layer(z[:, :, None, None]).relu(), scale_factor=self.scale)
        border, side = self.margin * self.scale, 16 * self.scale
        return self.rgb(x)[:, :, border : border + side, border : border + side].tanh()


def seeded(make):
    """What `make` gives, with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def plain():
    return seeded(Plain)


def grey():
    return seeded(lambda: Plain(1))


def sigmoid():
    return seeded(lambda: Plain(3, torch.sigmoid))


def clamped():
    return seeded(lambda: Plain(3, lambda x: x.clamp(0, 1)))


def stated():
    return dissect.adapt(clamped(), value_range=(0, 1))


def transparent():
    return seeded(lambda: Plain(4, torch.sigmoid))


def half():
    return seeded(Plain).half()


def brain():
    return seeded(Plain).bfloat16()


def double():
    return seeded(Plain).double()


def conditional():
    return seeded(Conditional)


def third():
    return dissect.adapt(conditional(), inputs={"y": 3})


def mixed():
    """Each row has a label of its own."""

    def latents(n, seed, start):
        rows = torch.arange(start, start + n) + seed
        return dissect.latents(n, seed, start=start, size=LATENT), rows % 10

    return conditional(), latents


def noisy():
    return seeded(Noisy)


def numpy_noisy():
    return seeded(NumpyNoisy)


def batch_mean():
    return seeded(BatchMean)


def a_tuple():
    return seeded(Several)


def pyramid():
    return seeded(lambda: Several(images=2))


def largest():
    return dissect.adapt(pyramid(), output=0)


def two_arguments():
    return plain(), lambda n, seed: dissect.latents(n, seed, size=LATENT)


def without_start():
    return plain(), lambda n, seed, start: dissect.latents(n, seed, size=LATENT)


def one_draw():
    def latents(n, seed, start):
        return torch.randn(n, LATENT, generator=torch.Generator().manual_seed(seed + start))

    return plain(), latents


def unseeded():
    return plain(), lambda n, seed, start: torch.randn(n, LATENT)


def without_seed():
    return plain(), lambda n, seed, start: dissect.latents(n, 0, start=start, size=LATENT)


def unnamed_size():
    return seeded(Styled)


def styled():
    return dissect.adapt(
        seeded(Styled),
        latent_size=LATENT,
        distribution="normal",
        inputs={"psi": 1.0},
        mapping=lambda g, z, psi: (psi * g.mapping(z))[:, None].repeat(1, 3, 1),
        call=lambda g, ws: g.synthesis(ws),
    )


def two_axes():
    return dissect.adapt(plain(), latent_size=(2, 8), call=lambda g, z: g(z.flatten(1)))


def closed_over():
    model = plain()
    return dissect.adapt(model, call=lambda g, z: model(z))


def cropped():
    return seeded(Cropped)


class Wrapper(nn.Module):
    latent_size = LATENT

    def __init__(self):
        super().__init__()
        self.inner = Plain()

    def forward(self, z):
        return self.inner(z)


def wrapped():
    return seeded(Wrapper)


class Blocks(nn.Module):
    """A block with batch norm, read by one convolution."""

    latent_size = LATENT

    def __init__(self):
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(LATENT, 16, 8), nn.BatchNorm2d(16), nn.ReLU())
        self.rgb = nn.Conv2d(16, 3, 1)

    def forward(self, z):
        return self.rgb(self.up(z[:, :, None, None])).tanh()


class ConditionalBlocks(Blocks):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, LATENT)

    def forward(self, z, y):
        return super().forward(z + self.embed(y))


def blocks():
    return seeded(Blocks)


def conditional_blocks():
    return dissect.adapt(seeded(ConditionalBlocks), inputs={"y": 3})
