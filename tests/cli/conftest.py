"""A tiny generator, boxes on its samples, and segmenters of it, written to files."""

import pytest
import torch

from dissect._utils.images import to_images
from dissect.annotations import AnnotatedImage, Annotations, Box, pixels_digest
from dissect.hooks import activations
from dissect.models import Generator, fingerprint, generate, latents_for, load, save_checkpoint
from dissect.segmentation import UNet, save_unet


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A tiny generator with a concept that can be read: where unit 0 of layer8x8 is strong."""
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(3)
    generator = Generator(latent_size=8, width=4, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in generator.children():
            layer.conv.weight.normal_(0, 0.3)
    save_checkpoint(folder / "g.safetensors", generator)
    images = to_images(generate(generator, latents_for(generator, 30, 5)))
    strength = activations(generator, "layer8x8", latents_for(generator, 30, 5))[:, 0]
    annotated = []
    for place, image in enumerate(images):
        row, column = divmod(int(strength[place].argmax()), 8)
        boxes = (Box(column * 4, row * 4, 4, 4),) if place % 3 == 0 else ()
        digest = pixels_digest(image)
        annotated.append(AnnotatedImage(32, 32, boxes, seed=5, index=place, sha256=digest))
    Annotations("spot", tuple(annotated), fingerprint(generator)).save(folder / "spot.json")
    return folder


@pytest.fixture(scope="module")
def eyes(study, tmp_path_factory):
    """A segmenter that sees a spot in a tenth of the pixels of the tiny generator's samples."""
    torch.manual_seed(0)
    network = UNet(("wall", "spot"), widths=(4, 6)).eval()
    with torch.no_grad():
        generator = load(study / "g.safetensors")
        logits = network(generate(generator, latents_for(generator, 40, 9)))
        ahead = (logits[:, 0] - logits[:, 1]).flatten().quantile(0.1)
        network.classify.bias[4:] += ahead  # four logits of a class: one for each pixel of 2x2
    path = tmp_path_factory.mktemp("eyes") / "eyes.safetensors"
    return save_unet(path, network, card={"source": "bedrooms"}, half=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny generator and a tiny segmenter, neither of which has learned anything."""
    folder = tmp_path_factory.mktemp("units")
    torch.manual_seed(3)
    generator = Generator(latent_size=8, width=4, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in (generator.layer4x4, generator.layer8x8, generator.layer16x16, generator.rgb):
            layer.conv.weight.normal_(0, 0.3)
    save_checkpoint(folder / "g.safetensors", generator)
    network = UNet(("wall", "window", "bed"), widths=(4, 6))
    with torch.no_grad():
        network.classify.weight.normal_(0, 3)
    save_unet(folder / "s.safetensors", network, card={})
    return folder
