import pytest
import torch
from test_effect import EYES, Picture, scene

from dissect.effect_study import doses, study_effect, study_size
from dissect.errors import DissectError
from dissect.units import Units

COLOURS = Units("grid", (0, 1, 2), 3)


class Bright:
    """Opens where the first colour is bright, that is on the windows alone."""

    layer = "grid"

    def probability(self, activations):
        return (activations[:, 0] > 0).float()


def study(units=COLOURS, **options):
    return study_effect(
        Picture(),
        units,
        scene([0, 2]),
        EYES,
        "window",
        gates={"everywhere": None, "probe": Bright()},
        **options,
    )


def test_doses_are_powers_of_two_and_all():
    assert doses(1) == [1]
    assert doses(2) == [2]
    assert doses(12) == [2, 4, 8, 12]
    assert doses(16) == [2, 4, 8, 16]


def test_a_gated_edit_takes_the_window_and_leaves_the_wall_that_one_everywhere_takes():
    edits = study(controls=1).edits
    # Without its three colours a window is 0, between dark and bright: a door.
    assert edits["everywhere"].removed() == edits["probe"].removed() == 1
    assert edits["probe"].kept("wall") == 1
    assert edits["everywhere"].kept("wall") == 0
    assert edits["probe"].change() == 0
    assert edits["everywhere"].change() == 1


def test_the_response_to_number_and_strength_is_that_of_the_colours_mean():
    found = study(controls=1)
    # Of two colours gone a third of the brightness is left, of half of each a half: no window,
    # which is above a half. A quarter gone leaves three quarters.
    assert {k: e.removed() for k, e in found.by_units["probe"].items()} == {2: 1, 3: 1}
    shares = {dose: e.removed() for dose, e in found.by_strength["probe"].items()}
    assert shares[0.25] == 0
    assert all(shares[dose] == 1 for dose in (0.5, 1.0, 2.0))


def test_controls_are_as_many_random_units_at_the_same_gate():
    found = study(Units("grid", (0,), 3), controls=4, seed=3)
    # One colour of three gone leaves two thirds of the brightness: still a window.
    for gate, outside in (("everywhere", 1 / 3), ("probe", 0)):
        assert len(found.random[gate]) == 4
        assert all(one.removed() == 0 for one in found.random[gate])
        assert all(one.change() == pytest.approx(outside) for one in found.random[gate])


def test_the_distance_to_real_images_is_that_of_the_features():
    real = EYES.features(Picture()(scene([0, 2]))).double().numpy()
    found = study(controls=1, real=real)
    assert found.frechet["before"] == pytest.approx(0, abs=1e-9)
    assert found.frechet["everywhere"] > found.frechet["probe"] > 0


def test_every_edit_that_is_measured_moves_the_bar_by_one():
    steps = []
    study(controls=2, watch=steps.append)
    assert sum(steps) == study_size(3, 2, 2)


def test_an_empty_set_is_refused():
    with pytest.raises(DissectError, match="no unit to remove"):
        study(Units("grid", (), 3))


def test_the_same_seed_draws_the_same_controls():
    torch.manual_seed(5)
    first, second = (study(Units("grid", (0, 1), 3), seed=7) for _ in range(2))
    for one, two in zip(first.random["everywhere"], second.random["everywhere"], strict=True):
        assert (one.after == two.after).all()
