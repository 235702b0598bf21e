"""What most commands begin with: a generator, where a concept is on its samples, and a probe."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dissect.cli.options import LabelOptions, ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dissect.probe import Probe
    from dissect.segmentation import Segmenter
    from dissect.segmentation.pseudo_labels import ConceptLabels

__all__ = ["Study"]


@dataclass(frozen=True)
class Study:
    """A generator and a concept; what takes long is made when it is first asked for.

    Attributes:
        options: what names the model and the layer.
        label_options: what names the concept and its labels.
        generator: the model.
        labels: where the concept is on its samples.
    """

    options: ModelOptions
    label_options: LabelOptions
    generator: "nn.Module"
    labels: "ConceptLabels"

    @classmethod
    def load(cls, model: ModelOptions, labels: LabelOptions, *, label_seed: int = 0) -> "Study":
        """The study that the options name.

        Labels of every command come from the same samples, whatever the seed of fresh ones.

        Raises:
            DissectError: no such model, boxes or segmenter.
        """
        generator = model.load()
        return cls(model, labels, generator, labels.load(generator, model.model, seed=label_seed))

    @property
    def layer(self) -> str:
        """The layer that is studied."""
        return self.options.layer

    @property
    def concept(self) -> str:
        """The concept that is studied."""
        return self.labels.concept

    @cached_property
    def probe(self) -> "Probe":
        """The probe of the layer, without the resampling that its score would take."""
        from dissect.probe.fit import fit_from_labels

        return fit_from_labels(self.generator, self.labels, self.layer, scored=False)

    @cached_property
    def segmenter(self) -> "Segmenter":
        """The segmenter, which knows the concept."""
        segmenter = self.label_options.load_segmenter(self.generator)
        segmenter.class_id(self.concept)
        return segmenter

    @cached_property
    def is_measurable(self) -> bool:
        """Whether the segmenter knows the concept; drawn boxes may be of any other."""
        segmenter = self.label_options.load_segmenter(self.generator)
        return self.concept in segmenter.classes

    @cached_property
    def fingerprint(self) -> str:
        """Of the generator."""
        from dissect.models import fingerprint

        return fingerprint(self.generator)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the layer.

        Raises:
            DissectError: no such layer, or one without a grid.
        """
        from dissect._utils.errors import DissectError
        from dissect.hooks import activations
        from dissect.models import latents_for

        shape = activations(self.generator, self.layer, latents_for(self.generator, 1)).shape
        if len(shape) != 4:
            raise DissectError(
                f"layer {self.layer!r} gives {tuple(shape)}, not a grid of units (N, C, H, W)"
            )
        return shape[2], shape[3]

    def fresh(self, n: int, seed: int) -> "Tensor":
        """`n` latents of `seed` that come after every labelled one."""
        from dissect.effect.compare import fresh_latents

        return fresh_latents(self.generator, n, seed, self.labels.annotations)

    def shown(self, z: "Tensor", n: int) -> list[int]:
        """The `n` rows of `z` in which the probe sees most of the concept; all where it is all."""
        from dissect.effect.compare import top_samples_by_concept

        if len(z) == n:
            return list(range(n))
        return top_samples_by_concept(self.generator, self.probe, z, n)

    def shown_text(self, n: int, pool: int) -> str:
        """What `shown` picked, in words."""
        if pool == n:
            return f"{n} fresh samples"
        return f"the {n} of {pool} fresh samples in which the probe sees most {self.concept}"
