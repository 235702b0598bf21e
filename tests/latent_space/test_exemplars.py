import json

import pytest
import torch

from dissect._utils.errors import DissectError
from dissect.latent_space import Exemplars, extremes, matching, most_confident, parse_conditions
from dissect.segmentation import AttributeReader

READER = AttributeReader(("turn", "smile", "hat"), lambda images: images[:, :3, 0, 0])


def test_conditions_by_hand():
    conditions = parse_conditions("smile>0.5, turn<-.25", READER.names)
    assert [str(condition) for condition in conditions] == ["smile>0.5", "turn<-0.25"]
    values = torch.tensor([[-1.0, 0.6, 0], [-1, 0.5, 0], [0, 0.9, 0], [-0.3, 0.51, 1]])
    assert matching(values, conditions, READER).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("smile", "no condition"), ("smile=1", "no condition"), ("smlie>1", "'smile'"), ("", "no co")],
)
def test_malformed_conditions_are_refused(text, wrong):
    with pytest.raises(DissectError, match=wrong):
        parse_conditions(text, READER.names)


def test_exemplars_are_kept_and_checked(tmp_path):
    picked = Exemplars({"a": (3, 1), "b": (0,)}, seed=4, n=10, fingerprint="ff", how="by eye")
    again = Exemplars.load(picked.save(tmp_path / "e.json"))
    assert again == picked
    assert again.indices("a") == (3, 1)
    with pytest.raises(DissectError, match="has no concept 'c'; it has: 'a', 'b'"):
        again.indices("c")
    again.check("ff")
    with pytest.raises(DissectError, match="another model"):
        again.check("00")
    values = json.loads((tmp_path / "e.json").read_text())
    values["concepts"]["a"] = [10]
    (tmp_path / "e.json").write_text(json.dumps(values))
    with pytest.raises(DissectError, match="10 of 'a' is out of range: there are 10, 0 to 9"):
        Exemplars.load(tmp_path / "e.json")


def test_the_ends_are_extreme_and_otherwise_alike():
    values = torch.randn(400, 3)
    low, high = extremes(values, 0, 4, pool=40)
    ordered = values[:, 0].sort().values
    assert float(values[low, 0].max()) <= float(ordered[39])
    assert float(values[high, 0].min()) >= float(ordered[-40])
    apart = (values[low].mean(0) - values[high].mean(0)).abs()
    assert float(apart[1:].max()) < 0.25
    assert len(set(low.tolist())) == len(set(high.tolist())) == 4


def test_ends_are_alike_in_latents_too():
    z = torch.randn(800, 10)
    values = torch.cat([z[:, :1] + 0.5 * torch.randn(800, 1), torch.randn(800, 2)], 1)

    def astray(low, high):
        return float((z[low].mean(0) - z[high].mean(0))[1:].norm())

    assert astray(*extremes(values, 0, 4, z=z)) < 0.5 * astray(*extremes(values, 0, 4))


def test_the_clearest_lie_deepest_inside_the_concept():
    z = torch.rand(600, 5) * 2 - 1
    values = torch.stack([z[:, 0] + 0.3 * torch.randn(600), z[:, 1], z[:, 2]], 1)
    conditions = parse_conditions("turn>0.3,smile<0,hat>-0.5,hat<0.5", READER.names)
    rows = most_confident(z, values, conditions, READER)
    met = matching(values, conditions, READER)
    assert bool(met[rows].all())
    assert len(rows) == max(20, round(0.25 * int(met.sum())))
    margins = torch.minimum(z[:, 0], -z[:, 1])
    assert float(margins[rows].mean()) > float(margins[met].mean()) + 0.1
    everyone = most_confident(z, values, conditions, READER, fraction=1)
    assert sorted(everyone.tolist()) == met.nonzero()[:, 0].tolist()
    assert everyone[: len(rows)].tolist() == rows.tolist()
    with pytest.raises(DissectError, match="above 0, up to 1"):
        most_confident(z, values, conditions, READER, fraction=0)
