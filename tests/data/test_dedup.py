"""De-duplication: groups by brute force, the list to keep, planted copies, the commands."""

import json
from collections import defaultdict
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.data import source
from dissect.data.dedup import (
    CERTAIN,
    SIDE,
    SubsetSource,
    first_alike,
    first_of_each,
    fit_hasher,
    groups_of,
    hash_images,
    read_keep,
    write_keep,
)
from dissect.data.dedup.autoencoder import normalized
from dissect.data.dedup.disturb import jpeg_jitter
from dissect.training import checkpoints, load_state


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("DISSECT_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2**63, 2**64 - 1]))))
def test_groups_are_those_of_a_table(pairs):
    codes = np.array(pairs, np.uint64).reshape(-1, 2)
    first = first_of_each(codes)
    table = defaultdict(list)
    for place, pair in enumerate(pairs):
        table[pair].append(place)
    assert first.tolist() == [table[pair][0] for pair in pairs]
    assert groups_of(first) == sorted(group for group in table.values() if len(group) > 1)


def test_every_bit_of_a_code_counts():
    codes = np.zeros((129, 2), np.uint64)
    for bit in range(128):
        codes[bit + 1, bit // 64] = np.uint64(1) << np.uint64(bit % 64)
    assert first_of_each(codes).tolist() == list(range(129))


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.sampled_from([0, 1, 2, CERTAIN]), st.sampled_from([3]))
        | st.tuples(st.integers(0, 15), st.just(CERTAIN), st.just(CERTAIN)),
        max_size=12,
    )
)
def test_images_alike_are_those_of_all_pairs(rows):
    # Four bits, the last of the code.
    codes = np.zeros((len(rows), 16), np.uint8)
    codes[:, 15] = [value for value, _, _ in rows]
    near_threshold = np.array([pair for _, *pair in rows], np.uint8).reshape(-1, 2)
    places = np.where(near_threshold == CERTAIN, CERTAIN, 127 - near_threshold.astype(int)).astype(
        np.uint8
    )
    first = first_alike(codes.view(np.uint64), places)

    def alike(one, other):
        def turned(row):
            masks = [0] + [1 << bit for bit in row[1:] if bit != CERTAIN]
            return {row[0] ^ a ^ (b if a != b else 0) for a in masks for b in masks}

        return other[0] in turned(one) or one[0] in turned(other)

    expected = list(range(len(rows)))
    for _ in rows:
        for place, row in enumerate(rows):
            for other, another in enumerate(rows):
                if alike(row, another):
                    expected[place] = min(expected[place], expected[other])
    assert first.tolist() == expected


def test_what_the_autoencoder_sees_does_not_change_with_brightness_and_contrast():
    random = np.random.default_rng(0)
    dark = random.integers(20, 100, (3, SIDE, SIDE, 3), dtype=np.uint8)
    seen = normalized(dark)
    assert np.allclose(seen.mean(1), 0, atol=1e-5)
    assert np.allclose(seen.std(1), 1, atol=1e-3)
    # Exactly twice as bright, and a constant: nothing is rounded.
    assert np.allclose(normalized(dark * 2 + 30), seen, atol=1e-4)
    # One colour: no noise to enlarge.
    assert not normalized(np.full((1, SIDE, SIDE, 3), 7, np.uint8)).any()


def test_a_quality_of_almost_100_leaves_smooth_pictures_as_they_are():
    ramp = np.linspace(60, 180, SIDE)
    picture = np.broadcast_to(ramp[None, :, None, None], (200, SIDE, SIDE, 3)).astype(np.uint8)
    copies = jpeg_jitter(picture, np.random.default_rng(0)).astype(int)
    change = np.abs(copies - picture).reshape(200, -1)
    same = (change.max(1) == 0).mean()
    # Three tenths are not compressed and three tenths not given a gain or an offset.
    assert 0 < same < 0.2
    assert np.median(change.max(1)) > 5


def test_the_list_comes_back_and_says_what_it_is_of(tmp_path):
    path = write_keep(tmp_path / "keep.txt", np.array([0, 2, 5]), "folder:my photos", 6)
    assert path.read_text().splitlines() == [
        "# dissect keep: 3 of the 6 images of folder:my photos",
        "0",
        "2",
        "5",
    ]
    assert read_keep(path, 6).tolist() == [0, 2, 5]
    with pytest.raises(DissectError, match="source of 6 images, and this one has 7"):
        read_keep(path, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\n1\n", "no list of images to keep"),
        ("# dissect keep: 2 of the 6 images of x\n0\n", "cut short"),
        ("# dissect keep: 2 of the 6 images of x\n3\n1\n", "altered"),
        ("# dissect keep: 1 of the 6 images of x\n6\n", "altered"),
        ("# dissect keep: 1 of the 6 images of x\none\n", "no list of images to keep"),
        ("\x00\x01", "no list of images to keep"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, text, message):
    path = tmp_path / "keep.txt"
    path.write_text(text)
    with pytest.raises(DissectError, match=message):
        read_keep(path, 6)
    with pytest.raises(DissectError, match="No such file"):
        read_keep(tmp_path / "absent.txt", 6)


def test_a_kept_source_holds_the_images_on_the_list_and_no_others():
    whole = source("bedrooms", size=16, count=8)
    kept = SubsetSource(whole, np.array([1, 4, 6]))
    assert len(kept) == 3
    assert (kept.images([2, 0]) == whole.images([6, 1])).all()
    with pytest.raises(DissectError, match="out of range"):
        kept.images([3])


def brightened_and_compressed(image):
    stream = BytesIO()
    ImageEnhance.Brightness(image).enhance(1.1).save(stream, "JPEG", quality=80)
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """200 bedrooms; of the first 40 a brighter copy, compressed again."""
    path = tmp_path_factory.mktemp("photos")
    for place, pixels in enumerate(source("bedrooms", size=64, count=200).images(range(200))):
        image = Image.fromarray(pixels)
        image.save(path / f"{place:03d}.png")
        if place < 40:
            (path / f"copy{place:03d}.jpg").write_bytes(brightened_and_compressed(image))
    return path


def test_planted_copies_are_found_and_nothing_else(folder):
    photos = source(f"folder:{folder}", size=SIDE)
    hasher = fit_hasher(photos, steps=300)
    first = first_alike(*hash_images(hasher, photos))
    found = {tuple(photos.files[place] for place in group) for group in groups_of(first)}
    wanted = {(f"{place:03d}.png", f"copy{place:03d}.jpg") for place in range(40)}
    assert found <= wanted
    assert len(found) >= 36


def test_the_same_seed_is_the_same_code():
    crops = source("bedrooms", size=SIDE, count=128)
    codes = [hash_images(fit_hasher(crops, steps=3, seed=seed), crops)[0] for seed in (0, 0, 1)]
    assert (codes[0] == codes[1]).all()
    assert (codes[0] != codes[2]).any()


def test_dedup_writes_a_list_that_train_keeps_to(folder, tmp_path, capfd):
    spec, out = f"folder:{folder}", tmp_path / "dedup"
    with pytest.raises(SystemExit) as end:
        main(["dedup", spec, "--steps", "100", "--out", str(out), "--json"])
    assert end.value.code == 0
    found = json.loads(capfd.readouterr().out)
    assert found["n_images"] == 240
    assert found["n_duplicates"] > 0
    keep = read_keep(out / "keep.txt", 240)
    assert len(keep) == 240 - found["n_duplicates"]
    listed = json.loads((out / "duplicates.json").read_text())["groups"]
    assert sum(len(group) - 1 for group in listed) == found["n_duplicates"]
    assert all(group[0] in keep for group in listed)
    assert Image.open(out / "collisions.png").width > 300
    run = tmp_path / "run"
    words = (
        f"train {spec} --keep {out / 'keep.txt'} --out {run} --image-size 16 --batch-size 8 "
        "--set generator_width=4 --set discriminator_width=4 --set kernel=4 --steps"
    ).split()
    with pytest.raises(SystemExit) as end:
        main([*words, "2"])
    assert end.value.code == 0
    assert f"{16 / len(keep):.2f} epochs" in capfd.readouterr().out
    config = load_state(checkpoints(run)[0], torch.device("cpu")).config
    assert config.keep == str(out / "keep.txt")
    # The same name with other contents is not the same run.
    write_keep(out / "keep.txt", keep[:-1], spec, 240)
    with pytest.raises(SystemExit) as end:
        main([*words[:2], "--out", str(run), "--resume", "--steps", "3"])
    assert end.value.code == 2
    assert "has changed since this run was begun" in capfd.readouterr().err
