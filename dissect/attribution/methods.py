"""Which pixels one unit answers to, by captum's methods, at one position of its layer.

    gradient = guided_backprop(D, images, "layer4x4", unit=3)     # where it responds most
    gradient = guided_backprop(D, images, "layer4x4", unit=3, position=(1, 2))

Every function takes the same target: a `unit` (for all images, or one for each) and a `position`
(row and column for all images or for each; None: where the unit responds most in each image).
captum's explainers are used once each, since they keep the handles of earlier hooks.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.attribution.rectifiers import LayerOutput, checked_rule, guided_network
from dissect.attribution.target import Position, Target, Unit
from dissect.hooks import resolve_layer

__all__ = [
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "integrated_gradients",
    "occlusion",
    "saliency",
]

_NO_PATH = ("hook did not obtain", "appears to not have been used", "does not require grad")


def guided_backprop(
    model: nn.Module,
    images: Tensor,
    layer: str,
    unit: Unit,
    position: Position = None,
    *,
    rule: str = "strict",
    batch_size: int = 100,
) -> Tensor:
    """Guided backpropagation from one unit at one position, the shape of `images`.

    The gradient of the unit with respect to the image, but for what passes an activation
    backwards. With x the activation's input in the forward pass and g the gradient that comes in
    from above:

        ReLU               g where x > 0 and g > 0, else 0 (Springenberg et al. 2014)
        LeakyReLU, strict  the same: g where x > 0 and g > 0, else 0
        LeakyReLU, leaky   g where x > 0 and g > 0, slope * g where x <= 0 and g > 0, else 0

    The strict rule treats a LeakyReLU as a ReLU, and shows only what made the unit respond; the
    leaky one removes what is negative from the network's own gradient. On a network without
    LeakyReLU both are captum's `NeuronGuidedBackprop`, bit for bit. (As there, where an
    activation's input is also used beside it, as in a residual block with the activation first,
    the sum of both gradients is what is set to 0 where it is negative.)

    Radford et al. (2015), section 6.2 and Figure 5.

    Args:
        model: in evaluation mode; left as it was found. Its activations before the layer must be
            `nn.ReLU` and `nn.LeakyReLU` modules; in place or used more than once is fine, and so
            is a slope below 0.
        images: (N, C, H, W), or whatever the model takes, as floats in its range.
        layer: the name of the layer that the unit belongs to.
        unit: which unit, for all images or (N,).
        position: its row and column, for all images or (N, 2); None: where it responds most.
        rule: "strict" or "leaky".
        batch_size: images in a forward and backward pass.

    Raises:
        DissectError: no such layer, unit, position or rule; batch norm in training mode; or a
            network in which the rule would have no effect, because there is no module of those
            kinds or something else clips the gradient: another activation, a comparison, a
            minimum or maximum, or a bound. The message names it and its module.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3)).eval()
    >>> tuple(guided_backprop(model, torch.randn(5, 3, 8, 8), "2", unit=1).shape)
    (5, 3, 8, 8)
    """
    from captum.attr import NeuronGuidedBackprop

    rule = checked_rule(rule)
    target = Target.from_arguments(model, images, layer, unit, position, batch_size)
    with guided_network(model, layer, target.images[:1], rule) as network:
        return _attribute(
            lambda part: NeuronGuidedBackprop(network, network).attribute(part.images, part.select),
            target,
            batch_size,
        )


def deconvolution(
    model: nn.Module,
    images: Tensor,
    layer: str,
    unit: Unit,
    position: Position = None,
    *,
    batch_size: int = 100,
) -> Tensor:
    """captum's `NeuronDeconvolution` of one unit at one position, the shape of `images`.

    As guided backpropagation, but activations pass backwards what is positive of g, whatever
    their input was (Zeiler and Fergus 2014). A slope has no part in that, so that ReLU and
    LeakyReLU are treated alike.

    Arguments and errors are those of `guided_backprop`.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3)).eval()
    >>> tuple(deconvolution(model, torch.randn(5, 3, 8, 8), "2", unit=1).shape)
    (5, 3, 8, 8)
    """
    from captum.attr import NeuronDeconvolution

    target = Target.from_arguments(model, images, layer, unit, position, batch_size)
    with guided_network(model, layer, target.images[:1], "strict") as network:
        return _attribute(
            lambda part: NeuronDeconvolution(network, network).attribute(part.images, part.select),
            target,
            batch_size,
        )


def saliency(
    model: nn.Module,
    images: Tensor,
    layer: str,
    unit: Unit,
    position: Position = None,
    *,
    absolute: bool = True,
    batch_size: int = 100,
) -> Tensor:
    """captum's `NeuronGradient`, the plain gradient of one unit: the shape of `images`.

    Args:
        model, images, layer, unit, position, batch_size: as in `guided_backprop`; any activations.
        absolute: the gradient's size without its sign, as in Simonyan et al. (2014).

    Raises:
        DissectError: no such layer, unit or position; or batch norm in training mode.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3)).eval()
    >>> tuple(saliency(model, torch.randn(5, 3, 8, 8), "2", unit=1).shape)
    (5, 3, 8, 8)
    """
    from captum.attr import NeuronGradient

    target = Target.from_arguments(model, images, layer, unit, position, batch_size)
    network = LayerOutput(model, layer)
    gradient = _attribute(
        lambda part: NeuronGradient(network, network).attribute(part.images, part.select),
        target,
        batch_size,
    )
    return gradient.abs() if absolute else gradient


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    layer: str,
    unit: Unit,
    position: Position = None,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 50,
    batch_size: int = 100,
) -> Tensor:
    """captum's `NeuronIntegratedGradients` of one unit at one position: the shape of `images`.

    Its sum over an image is the unit's value there less its value for the baseline (Sundararajan
    et al. 2017), up to the error of the `steps`.

    Args:
        model, images, layer, unit, position, batch_size: as in `guided_backprop`; any activations.
        baseline: the image at which the path begins, a value for all pixels or (1, C, H, W); 0 is
            mid grey for images in [-1, 1].
        steps: points of the path, at least 1.

    Raises:
        DissectError: no such layer, unit or position; no steps; or batch norm in training mode.

    >>> import torch
    >>> from torch import nn
    >>> flat = nn.Sequential(nn.Flatten(), nn.Identity()).eval()
    >>> integrated_gradients(flat, torch.tensor([[[3.0, 5.0]]]), "1", unit=1).tolist()
    [[[0.0, 5.0]]]
    """
    from captum.attr import NeuronIntegratedGradients

    if steps < 1:
        raise DissectError(f"a path has at least 1 step, not {steps}")
    target = Target.from_arguments(model, images, layer, unit, position, batch_size)
    start = baseline.to(target.images.device) if isinstance(baseline, Tensor) else baseline
    network = LayerOutput(model, layer)
    return _attribute(
        lambda part: NeuronIntegratedGradients(network, network).attribute(
            part.images,
            part.select,
            baselines=start,
            n_steps=steps,
            internal_batch_size=batch_size,
        ),
        target,
        batch_size,
    )


def grad_cam(
    model: nn.Module,
    images: Tensor,
    layer: str,
    unit: Unit,
    position: Position = None,
    *,
    at: str,
    batch_size: int = 100,
) -> Tensor:
    """captum's `LayerGradCam` of one unit at one position, on an earlier layer: (N, 1, h, w).

    The earlier layer's activations, each unit weighted by the mean of its gradient, summed over its
    units; negative where they speak against the unit (Selvaraju et al. 2017, without the last
    ReLU). captum hooks the earlier layer while it runs.

    Args:
        model, images, layer, unit, position, batch_size: as in `guided_backprop`; any activations.
        at: the name of the earlier layer, (N, C, h, w).

    Raises:
        DissectError: no such layer, unit or position; `at` does not run before the layer; or batch
            norm in training mode.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3)).eval()
    >>> tuple(grad_cam(model, torch.randn(5, 3, 8, 8), "2", unit=1, at="0").shape)
    (5, 1, 6, 6)
    """
    from captum.attr import LayerGradCam

    earlier = resolve_layer(model, at)
    target = Target.from_arguments(model, images, layer, unit, position, batch_size)
    network = LayerOutput(model, layer)
    return _attribute(
        lambda part: LayerGradCam(_values(network, part), earlier).attribute(part.images),
        target,
        batch_size,
        source=f"layer {at!r}",
    )


def occlusion(
    model: nn.Module,
    images: Tensor,
    layer: str,
    unit: Unit,
    position: Position = None,
    *,
    window: int = 8,
    stride: int = 4,
    value: float = 0.0,
    batch_size: int = 100,
) -> Tensor:
    """captum's `Occlusion` of one unit at one position, the shape of `images`.

    How much the unit falls where a square of the image is covered, averaged over the squares that
    cover a pixel (Zeiler and Fergus 2014).

    Args:
        model, images, layer, unit, position, batch_size: as in `guided_backprop`; any activations;
            images (N, C, H, W).
        window: side of the square in pixels, at most that of the image.
        stride: pixels between two squares, at least 1 and at most `window`.
        value: what covers; 0 is mid grey for images in [-1, 1].

    Raises:
        DissectError: no such layer, unit or position; a window or stride out of range; or batch
            norm in training mode.

    >>> import torch
    >>> from torch import nn
    >>> mean = nn.Sequential(nn.AvgPool2d(4)).eval()
    >>> occlusion(mean, torch.ones(1, 1, 4, 4), "0", unit=0, window=2, stride=2)[0, 0, 0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    from captum.attr import Occlusion

    if not 1 <= stride <= window <= min(images.shape[2:], default=0):
        raise DissectError(
            f"window {window} and stride {stride} must be 1 <= stride <= window <= the side of "
            f"the images (N, C, H, W); got images {tuple(images.shape)}"
        )
    target = Target.from_arguments(model, images, layer, unit, position, batch_size)
    network = LayerOutput(model, layer)
    return _attribute(
        lambda part: Occlusion(_values(network, part)).attribute(
            part.images,
            sliding_window_shapes=(images.shape[1], window, window),
            strides=(images.shape[1], stride, stride),
            baselines=value,
        ),
        target,
        batch_size,
    )


def _values(network: LayerOutput, target: Target) -> Callable[[Tensor], Tensor]:
    """The function from images to the attributed entries, for the methods without a neuron."""
    return lambda images: target.select(network(images))


def _attribute(
    method: Callable[[Target], Any], target: Target, batch_size: int, *, source: str = "the image"
) -> Tensor:
    """The method's attribution of the target in batches, on the device of the images given."""
    parts = []
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        # What captum does on every call.
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
        warnings.filterwarnings("ignore", "Input Tensor .* did not already require gradients")
        for part in target.split(batch_size):
            try:
                parts.append(method(part).detach())
            except (AssertionError, RuntimeError) as error:
                # captum asserts that a layer ran; torch, that there is a gradient.
                if "use_reentrant=True" in str(error):
                    raise DissectError(
                        "the model uses torch.utils.checkpoint with use_reentrant=True, through "
                        "which torch gives no gradient of one layer: use use_reentrant=False, or "
                        "turn checkpointing off"
                    ) from error
                if not any(words in str(error) for words in _NO_PATH):
                    raise
                raise DissectError(
                    f"the unit does not depend on {source}: it must lie before the unit's layer, "
                    "with nothing detached between, as checkpoint(use_reentrant=True) does"
                ) from error
    return torch.cat(parts).to(target.device)
