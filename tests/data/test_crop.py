import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.data.crop import _cut, crop_faces, face_boxes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "cache"))


def test_a_box_is_cut_with_its_margin_as_far_as_the_image_allows():
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(60)[None], np.arange(40)[:, None]
    inside = _cut(image, (20, 10, 20), 0.1)
    assert inside.shape == (24, 24, 3)
    assert inside[0, 0].tolist()[:2] == [18, 8]
    corner = _cut(image, (0, 0, 20), 0.5)
    assert corner.shape == (40, 40, 3)
    assert corner[0, 0].tolist()[:2] == [0, 0]
    edge = _cut(image, (45, 20, 15), 0.1)
    assert edge[-1, -1].tolist()[:2] == [59, 35]


def test_values_out_of_range_are_refused(tmp_path):
    with pytest.raises(DissectError, match="smallest of at least 24"):
        crop_faces(tmp_path, tmp_path / "out", smallest=10)


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(DissectError, match=r"dissect-gan\[faces\]"):
        crop_faces(tmp_path, tmp_path / "out")


def test_opencv_without_cascades_is_told(tmp_path, monkeypatch):
    import types

    bare = types.SimpleNamespace(__version__="5.0.0")
    monkeypatch.setitem(__import__("sys").modules, "cv2", bare)
    with pytest.raises(DissectError, match=r"5.0.0 has no cascade classifier"):
        crop_faces(tmp_path, tmp_path / "out")


@pytest.fixture
def people(shared_data):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    return np.load(shared_data / "olivetti-faces.npz")["faces"]


def test_faces_are_found_where_they_are(people, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        scene = np.full((240, 320), 128, np.uint8)
        scene += rng.integers(0, 4, scene.shape, dtype=np.uint8)
        large = Image.fromarray(people[10 * number]).resize((128, 128))
        scene[60:188, 100:228] = np.asarray(large)
        Image.fromarray(scene).save(photos / f"{number}.png")
    Image.new("L", (320, 240), 128).save(photos / "empty.png")
    (photos / "broken.jpg").write_bytes(b"none")
    with pytest.raises(SystemExit) as ended:
        main(["data", "faces", str(photos), "--out", str(tmp_path / "faces"), "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n_images"] == 7
    assert said["n_faces"] == len(said["files"]) >= 5
    assert said["n_without_faces"] >= 1
    assert list(said["skipped"]) == ["broken.jpg"]
    assert all(Image.open(path).size == (64, 64) for path in said["files"])
    scene = np.asarray(Image.open(photos / "0.png").convert("RGB"))
    ((x, y, side),) = face_boxes(scene)
    assert 70 <= x < x + side <= 250
    assert 25 <= y < y + side <= 215
    larger = crop_faces(photos, tmp_path / "none", smallest=200)
    assert (len(larger.files), larger.n_too_small) == (0, said["n_faces"])


def test_real_faces_are_found(people, shared_data, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(0, 400, 8):
        Image.fromarray(people[number]).resize((128, 128)).save(photos / f"{number}.png")
    assert len(crop_faces(photos, tmp_path / "out").files) >= 40
    smiles = tmp_path / "smiles"
    smiles.mkdir()
    with tarfile.open(shared_data / "smile-faces.tar.xz") as archive:
        for member in archive:
            if member.isfile() and len(list(smiles.iterdir())) < 40:
                stream = archive.extractfile(member)
                assert stream is not None
                face = Image.open(stream).resize((128, 128))
                face.save(smiles / f"{len(list(smiles.iterdir()))}.png")
    assert len(crop_faces(smiles, tmp_path / "out2").files) >= 20
