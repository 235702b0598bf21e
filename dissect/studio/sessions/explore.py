"""A generator taken apart: units of a layer by their part in a concept, and edits seen at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect._utils.text import near_names
from dissect.annotations import Annotations
from dissect.effect.compare import fresh_latents
from dissect.effect.measure import measure_effect, observe
from dissect.hooks import activations
from dissect.latent_space import Direction
from dissect.probe import Probe
from dissect.probe.fit import grid_layers
from dissect.segmentation import Segmenter
from dissect.studio.sessions.generator import GeneratorSession, Pixels
from dissect.studio.sessions.layer_study import LayerStudy, study_layer
from dissect.studio.sessions.page_edit import PageEdit
from dissect.studio.sessions.saving import SavedGenerator, Saver
from dissect.studio.sessions.unit_ranking import RankingKind, RankingProgress, UnitRankingJob
from dissect.studio.sessions.walk import fitting
from dissect.surgery import Intervention
from dissect.units import Units

__all__ = ["Choose", "Edited", "ExploreSession", "Measured"]

_STUDIES_KEPT = 12
_FRESH = 48
_RULE = "chosen in the studio"
# Small, because the end of the server waits for the batch that is measured.
_BATCH = 8
# What the page opens with, where a generator has it.
_FIRST_LAYER = "layer8x8"
# Seconds without a picture requested, after which the page is idle.
_IDLE = 0.5

Choose = Callable[[Probe], Intervention]
"""What rule `auto` chose for the layer and the concept of a probe; a DissectError says why not."""


@dataclass(frozen=True)
class Edited:
    """A sample as an edit leaves it, (H, W, 3), and the segmenter's classes of it, (H, W)."""

    pixels: Pixels
    labels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Measured:
    """The share of a concept's pixels that an edit removes on samples that nobody looked at.

    Attributes:
        n: how many samples.
        removed, removed_ci: the edit, and 95% over resampled samples.
        random, random_ci: as many random units of the layer, edited in the same way.
    """

    n: int
    removed: float
    removed_ci: tuple[float, float]
    random: float
    random_ci: tuple[float, float]


def nothing_chosen(_: Probe) -> Intervention:
    """For a generator for which rule `auto` was asked."""
    raise DissectError("rule auto has chosen nothing for this model")


class ExploreSession:
    """One generator: its layers, what is known of its concepts, and its samples edited.

    Args:
        generator: the generator.
        concepts: by name, a function to the boxes as they are now.
        segmenter: what counts a concept's pixels; None leaves all of that out.
        out: the folder that units, pictures and checkpoints are saved in, and rankings kept.
        directions: to move samples along; those of other generators are left out.
        chosen: what rule `auto` chose.
        edit: the edit of a file; on its layer the page offers it in place of what `auto` chose.

    Raises:
        DissectError: the edit is of another model, or of a layer without a grid.
    """

    def __init__(
        self,
        generator: GeneratorSession,
        concepts: Mapping[str, Callable[[], Annotations]],
        segmenter: Segmenter | None,
        out: Path,
        directions: Mapping[str, Direction] | None = None,
        chosen: Choose = nothing_chosen,
        edit: Intervention | None = None,
    ) -> None:
        self.generator = generator
        self.segmenter = segmenter
        self.layers = tuple(grid_layers(generator.model))
        self._concepts = dict(concepts)
        self.directions = fitting(generator, directions or {})
        self._saver = Saver(out)
        self._studies: OrderedDict[object, LayerStudy] = OrderedDict()
        self._making = threading.Lock()
        self._closed = threading.Event()
        self._chosen = chosen
        self.edit = edit
        if edit is not None:
            edit.units.check(
                generator.fingerprint, self._check_layer(edit.units.layer), edit.units.total
            )
        # By study, or in words why there is none.
        self._autos: WeakKeyDictionary[LayerStudy, Intervention | str] = WeakKeyDictionary()
        self._ranking_job: UnitRankingJob | None = None
        if segmenter is not None:
            self._ranking_job = UnitRankingJob(
                generator.model,
                segmenter,
                lambda: generator.idle_seconds() > _IDLE,
                out / "rankings",
            )

    def concepts(self) -> dict[str, int]:
        """The concepts that have boxes, and how many."""
        counted = {name: boxes().n_boxes for name, boxes in self._concepts.items()}
        return {name: boxes for name, boxes in counted.items() if boxes}

    def study(self, layer: str, concept: str) -> LayerStudy:
        """The units of a layer beside a concept; slow the first time.

        Raises:
            DissectError: no such layer or concept, or boxes that no probe can be fitted to.
        """
        self._check_layer(layer)
        if concept not in self._concepts:
            raise DissectError(
                f"no boxes of {concept!r} here: {near_names(concept, self._concepts)}"
            )
        boxes = self._concepts[concept]()
        key = (layer, concept, boxes.images)
        with self._making:
            if key not in self._studies:
                self._studies[key] = study_layer(self.generator, boxes, layer)
                while len(self._studies) > _STUDIES_KEPT:
                    self._studies.popitem(last=False)
            self._studies.move_to_end(key)
            return self._studies[key]

    def prepare(self) -> None:
        """Make the study that the page opens with, before the page asks for it."""
        with suppress(DissectError):  # which the page will be told
            layer = _FIRST_LAYER if _FIRST_LAYER in self.layers else self.layers[0]
            for concept in list(self.concepts())[:1]:
                self.study(layer, concept)

    def auto(self, study: LayerStudy, *, refresh: bool = False) -> Intervention:
        """The edit of the file, or what rule `auto` chose for the study's layer and concept.

        `refresh` asks the rule again.

        Raises:
            DissectError: it chose nothing, or where it did the file is damaged.
        """
        if self.edit is not None and self.edit.units.layer == study.probe.layer:
            return self.edit
        if refresh or study not in self._autos:
            try:
                self._autos[study] = self._chosen(study.probe)
            except DissectError as error:
                self._autos[study] = str(error)
        found = self._autos[study]
        if isinstance(found, str):
            raise DissectError(found)
        return found

    def units(self, study: LayerStudy, indices: Sequence[int], rule: str | None = None) -> Units:
        """Units of the study's layer by number, in their order of strength.

        Raises:
            DissectError: a number that is no unit's, or one twice.
        """
        strength = study.scores["weight"]
        ranked = sorted(indices, key=lambda unit: -strength[unit] if unit < len(strength) else 0)
        return Units(
            layer=study.probe.layer,
            indices=tuple(ranked),
            total=len(strength),
            concept=study.probe.concept or None,
            rule=rule,
            model=self.generator.fingerprint,
        )

    def strengths(self, layer: str, seed: int, index: int) -> Tensor:
        """What every unit of a layer does on one sample, (C, h, w)."""
        self._check_layer(layer)
        with self.generator.lock:
            z = self.generator.latent(seed, index)
            return activations(self.generator.model, layer, z, to="cpu")[0]

    def _check_layer(self, layer: str) -> str:
        if layer not in self.layers:
            raise DissectError(f"no layer {layer!r} to explore: {near_names(layer, self.layers)}")
        return layer

    def before(self, seed: int, index: int) -> Edited:
        """A sample as it is."""
        return self._seen(self.generator.draw(self.generator.latent(seed, index)))

    def intervention(self, study: LayerStudy, edit: PageEdit) -> Intervention:
        """The page's edit of the study's layer, as it is applied, saved and baked.

        Raises:
            DissectError: units or cells that the layer does not have, a value out of range, or an
                existing edit where there is none.
        """
        existing = self.auto(study) if edit.where == "auto" else None
        return edit.intervention(study, self.units(study, edit.units, _RULE), existing)

    def after(self, edit: Intervention, seed: int, index: int) -> Edited:
        """A sample after an edit."""
        return self._seen(self.generator.draw(self.generator.latent(seed, index), edit))

    def measured(
        self, study: LayerStudy, concept: str, edit: Intervention, seed: int, control: int
    ) -> Measured:
        """What an edit removes of a concept on samples of a seed that have no boxes.

        Args:
            study, concept: what is counted, and the name of its boxes.
            edit: what is done; `control` is the seed of the random units beside it.
            seed: of the samples.

        Raises:
            DissectError: no segmenter, or one that does not know the concept.
        """
        if self.segmenter is None:
            raise DissectError("without a segmenter nothing can be counted: give --segmenter FILE")
        model = self.generator.model
        z = fresh_latents(model, _FRESH, seed, self._concepts[concept]())
        with self.generator.lock:
            before = observe(model, self.segmenter, z, batch_size=_BATCH, progress=self._check_open)
            effects = [
                measure_effect(
                    model,
                    self.segmenter,
                    z,
                    study.probe.concept,
                    partial(tested.applied, model),
                    before=before,
                    batch_size=_BATCH,
                    progress=self._check_open,
                )
                for tested in (edit, edit.control(control))
            ]
        of_edit, of_random = effects
        return Measured(
            n=len(z),
            removed=of_edit.removal(),
            removed_ci=of_edit.estimate("removal").interval,
            random=of_random.removal(),
            random_ci=of_random.estimate("removal").interval,
        )

    def _check_open(self, _n: int, _note: str = "", /) -> None:
        if self._closed.is_set():
            raise DissectError("the server is ending")

    def ranking(self, study: LayerStudy, by: RankingKind) -> RankingProgress:
        """How far the units of the study's layer are ranked by what takes long to measure.

        Raises:
            DissectError: no segmenter, or one that does not know the concept.
        """
        self.class_of(study)
        assert self._ranking_job is not None
        return self._ranking_job.request(study.probe.layer, by)

    def class_of(self, study: LayerStudy) -> int:
        """The number of the study's concept among the segmenter's classes.

        Raises:
            DissectError: no segmenter, or one that does not know the concept.
        """
        if self.segmenter is None:
            raise DissectError("without a segmenter nothing can be counted: give --segmenter FILE")
        return self.segmenter.class_id(study.probe.concept)

    def close(self) -> None:
        """End what is measured, in the background or for a request."""
        self._closed.set()
        if self._ranking_job is not None:
            self._ranking_job.close()

    def save_edit(self, edit: Intervention) -> Path:
        """The path of a file that now holds the edit.

        Raises:
            DissectError: nothing is edited.
        """
        return self._saver.edit(edit)

    def save_picture(self, pictures: Sequence[Pixels]) -> Path:
        """The path of a file that now holds the pictures side by side, enlarged."""
        return self._saver.picture(pictures)

    def save_generator(self, edit: Intervention, seed: int, index: int) -> SavedGenerator:
        """The generator with the edit, in a file that was read back.

        Args:
            edit: what is done; brushed cells are those of every sample from now on.
            seed, index: the sample that the file must draw as the page does.

        Raises:
            DissectError: nothing is edited, or a generator of another kind.
        """
        z = self.generator.latent(seed, index)
        with self.generator.lock:
            return self._saver.generator(self.generator.model, edit, z)

    def _seen(self, images: Tensor) -> Edited:
        labels = None
        if self.segmenter is not None:
            labels = self.segmenter.labels(images)[0].to(torch.uint8).cpu().numpy()
        return Edited(to_images(images)[0], labels)
