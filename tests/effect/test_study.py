import numpy as np
import pytest
import torch
from helpers.effect import EYES, Picture, scene

import dissect.effect.study
from dissect._utils.errors import DissectError
from dissect.effect.measure import measure_effect
from dissect.effect.report import report
from dissect.effect.study import study_effect, study_size, unit_counts
from dissect.models import Generator, latents_for
from dissect.segmentation import Segmenter
from dissect.surgery.intervention import Intervention
from dissect.surgery.split import split_at
from dissect.units import Units

COLOURS = Units("grid", (0, 1, 2), 3)


class Bright:
    """Opens where the first colour is bright, that is on the windows alone."""

    layer = "grid"

    def probability(self, activations):
        return (activations[:, 0] > 0).float()


def gated_and_not(units=COLOURS):
    return {"everywhere": Intervention(units), "probe": Intervention(units, Bright())}


def study(units=COLOURS, **options):
    return study_effect(Picture(), gated_and_not(units), scene([0, 2]), EYES, "window", **options)


def test_doses_are_powers_of_two_and_all():
    assert unit_counts(1) == [1]
    assert unit_counts(2) == [2]
    assert unit_counts(12) == [2, 4, 8, 12]
    assert unit_counts(16) == [2, 4, 8, 16]


def test_a_gated_edit_takes_the_window_and_leaves_the_wall_that_one_everywhere_takes():
    edits = study(controls=1).edits
    # Without its three colours a window is 0, between dark and bright: a door.
    assert edits["everywhere"].removal() == edits["probe"].removal() == 1
    assert edits["probe"].iou_kept("wall") == 1
    assert edits["everywhere"].iou_kept("wall") == 0
    assert edits["probe"].change() == 0
    assert edits["everywhere"].change() == 1


def test_the_response_to_number_and_strength_is_that_of_the_colours_mean():
    found = study(controls=1)
    # Of two colours gone a third of the brightness is left, of half of each a half: no window,
    # which is above a half. A quarter gone leaves three quarters.
    assert {k: e.removal() for k, e in found.by_units["probe"].items()} == {2: 1, 3: 1}
    shares = {dose: e.removal() for dose, e in found.by_strength["probe"].items()}
    assert shares[0.25] == 0
    assert all(shares[dose] == 1 for dose in (0.5, 1.0, 2.0))


def test_controls_are_as_many_random_units_at_the_same_gate_and_strength():
    found = study(Units("grid", (0,), 3), controls=4, seed=3)
    # One colour of three gone leaves two thirds of the brightness: still a window.
    for gate, outside in (("everywhere", 1 / 3), ("probe", 0)):
        assert len(found.random[gate]) == 4
        assert all(one.removal() == 0 for one in found.random[gate])
        assert all(one.change() == pytest.approx(outside) for one in found.random[gate])
    edit = Intervention(Units("grid", (0,), 3), Bright(), None, 0.3, 1.5, None, torch.arange(3.0))
    control = edit.control(7)
    assert control.units.indices != (0,)
    assert len(control.units) == 1
    assert (control.gate, control.threshold, control.strength) == (edit.gate, 0.3, 1.5)


def test_a_replacement_is_that_of_each_unit_whichever_they_are():
    # A window's colours become -1, which is wall, where only they are replaced by it.
    edit = Intervention(COLOURS, Bright(), replacement=torch.full((3,), -1.0))
    found = study_effect(Picture(), {"probe": edit}, scene([0, 2]), EYES, "window", controls=1)
    assert found.edits["probe"].replacement().tolist() == [1, 0, 0]
    with pytest.raises(DissectError, match=r"each of the 3 units of 'grid', not the shape \(1,\)"):
        Intervention(Units("grid", (0,), 3), replacement=torch.zeros(1))


def test_a_few_latents_serve_the_controls_and_doses_and_all_of_them_the_edit():
    found = study(controls=2, n_control_samples=1)
    assert found.n_control_samples == 1
    assert len(found.edits["probe"]) == 4
    others = [*found.random["probe"], *found.by_units["probe"].values()]
    assert {len(one) for one in [*others, *found.by_strength["probe"].values()]} == {1}
    # The edit itself is one of the doses.
    assert found.by_units["probe"][3].removal() == 1


@pytest.mark.parametrize("chunk", [1, 3])
def test_latents_worked_off_in_chunks_give_the_same(monkeypatch, chunk):
    whole = study(controls=2, n_control_samples=3)
    monkeypatch.setattr(dissect.effect.study, "_CHUNK", chunk)
    parts = study(controls=2, n_control_samples=3)
    for one, two in zip(
        [whole.edits["everywhere"], *whole.random["probe"]],
        [parts.edits["everywhere"], *parts.random["probe"]],
        strict=True,
    ):
        assert np.array_equal(one.both, two.both)
        assert np.array_equal(one.outside, two.outside)
    assert np.array_equal(whole.features, parts.features)


@pytest.fixture
def generator_and_eyes():
    torch.manual_seed(0)
    generator = Generator(latent_size=6, width=8, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in generator.children():
            layer.conv.weight.normal_(0, 0.3)
    eyes = Segmenter(
        ("dark", "bright"),
        lambda images: (images.mean(1) > 0).long(),
        features=lambda images: images.mean((2, 3)),
    )
    edits = {"everywhere": Intervention(Units("layer8x8", (1, 4, 6), 16), strength=1.5)}
    return generator, eyes, edits


def test_edits_of_a_generator_split_at_the_layer_are_those_of_the_whole(
    monkeypatch, generator_and_eyes
):
    generator, eyes, edits = generator_and_eyes
    z = latents_for(generator, 70)

    def measured():
        return study_effect(generator, edits, z, eyes, "bright", controls=2, n_control_samples=10)

    fast = measured()
    monkeypatch.setattr(
        dissect.effect.study, "split_at", lambda model, layer: (torch.nn.Identity(), model)
    )
    plain = measured()
    assert fast.edits["everywhere"].removal() != 0
    for one, two in (
        (fast.edits["everywhere"], plain.edits["everywhere"]),
        (fast.random["everywhere"][1], plain.random["everywhere"][1]),
        (fast.by_units["everywhere"][2], plain.by_units["everywhere"][2]),
    ):
        for name, value in one.arrays().items():
            # Counts are equal; sums differ in the last digits where torch has several threads.
            assert np.allclose(value, getattr(two, name), 1e-5, 1e-7, equal_nan=True), name


def test_an_edit_of_two_layers_measures_the_same_with_and_without_the_split(generator_and_eyes):
    generator, eyes, _ = generator_and_eyes
    later = Intervention(Units("layer16x16", (0, 3), 8))
    edit = Intervention(Units("layer8x8", (1, 4, 6), 16)) + later
    z = latents_for(generator, 60)
    studied = study_effect(generator, {"both": edit, "later": later}, z, eyes, "bright", controls=1)
    head, tail = split_at(generator, "layer8x8")
    split = measure_effect(tail, eyes, head(z), "bright", edit)
    alone = measure_effect(generator, eyes, z, "bright", later)
    for one, two in ((studied.edits["both"], split), (studied.edits["later"], alone)):
        for name, value in one.arrays().items():
            assert np.allclose(value, getattr(two, name), 1e-5, 1e-7, equal_nan=True), name
    assert studied.edits["both"].change() != studied.edits["later"].change()


def test_threads_change_nothing(generator_and_eyes):
    generator, eyes, edits = generator_and_eyes
    z = latents_for(generator, 120)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(
                study_effect(generator, edits, z, eyes, "bright", controls=3, n_control_samples=90)
            )
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, two in zip(
        [found[0].edits["everywhere"], *found[0].random["everywhere"]],
        [found[1].edits["everywhere"], *found[1].random["everywhere"]],
        strict=True,
    ):
        for name, value in one.arrays().items():
            assert np.array_equal(value, getattr(two, name), equal_nan=True), name
    assert not generator.layer8x8._forward_hooks


def test_an_edit_beside_has_no_controls_and_no_doses():
    filled = Intervention(COLOURS, Bright(), replacement=torch.full((3,), -1.0))
    found = study(controls=1, beside={"filled": filled})
    assert found.edits["filled"].removal() == 1
    assert "filled" not in found.random
    assert "filled" not in found.by_units


def test_the_distance_to_real_images_is_that_of_the_features():
    real = EYES.features(Picture()(scene([0, 2]))).double().numpy()
    found = report(study(controls=2), real)
    assert found.distances["everywhere"].before.value == pytest.approx(0, abs=1e-9)
    everywhere, gated = (found.distances[name].change for name in ("everywhere", "probe"))
    assert everywhere.value > gated.value > 0
    assert everywhere.low <= everywhere.value <= everywhere.high
    # Two random sets of three colours of three are the edit itself.
    controls = found.control_distances["everywhere"]
    assert controls.sets == pytest.approx([everywhere.value] * 2)
    assert controls.mean == pytest.approx(controls.edit)
    assert report(study(controls=2)).distances == {}


def test_random_sets_that_remove_as_much_are_counted():
    found = report(study(controls=3))
    assert found.as_much("probe") == 3
    one = report(study(Units("grid", (0, 1), 3), controls=3))
    assert one.to_dict()["random"]["probe"]["as_much"] == one.as_much("probe")


@pytest.mark.parametrize("few", [2, 300])
def test_every_image_that_is_drawn_moves_the_bar(few):
    steps = []
    filled = {"filled": Intervention(COLOURS, Bright())}
    study(controls=2, n_control_samples=few, beside=filled, progress=steps.append)
    assert sum(steps) == study_size(
        gated_and_not(), 4, beside=filled, controls=2, n_control_samples=few
    )


def test_an_empty_set_is_refused():
    with pytest.raises(DissectError, match="no unit to remove"):
        study(Units("grid", (), 3))


def test_samples_without_the_concept_are_refused():
    with pytest.raises(DissectError, match="sees no window in any of 4 samples"):
        study_effect(Picture(), gated_and_not(), scene([]), EYES, "window", controls=1)


def test_the_same_seed_draws_the_same_controls():
    first, second = (study(Units("grid", (0, 1), 3), seed=7) for _ in range(2))
    for one, two in zip(first.random["everywhere"], second.random["everywhere"], strict=True):
        assert (one.after == two.after).all()
