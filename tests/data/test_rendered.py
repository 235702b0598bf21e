import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect.data import RenderedSource, Renderer, source, source_version
from dissect.data.synthetic.bedrooms import CLASSES
from dissect.data.synthetic.bedrooms import render as render_bedroom

SIZE = 16
ROWS = 10  # of a block
BLOCK_BYTES = ROWS * SIZE * SIZE * 4
CLASS_NAMES = ("low", "middle", "high")

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def noise(index: int, seed: int, size: int) -> Pair:
    image = np.random.default_rng((seed, index)).integers(0, 256, (size, size, 3), np.uint8)
    return image, image[..., 0] // 86


def slow_noise(index: int, seed: int, size: int) -> Pair:
    """`noise` that takes 5 ms and logs which process drew what."""
    time.sleep(0.005)
    with open(os.environ["RENDER_LOG"], "a") as log:
        log.write(f"{os.getpid()} {index}\n")
    return noise(index, seed, size)


def failing(index: int, seed: int, size: int) -> Pair:
    if index == 13:
        raise DissectError("nothing to draw at 13")
    return noise(index, seed, size)


class Counting:
    """`noise` that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, index: int, seed: int, size: int) -> Pair:
        self.calls += 1
        return noise(index, seed, size)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


def opened(render=noise, count=25, version="1", seed=3, workers=1) -> RenderedSource:
    renderer = Renderer("noise", render, CLASS_NAMES, version)
    return RenderedSource(
        renderer, count=count, size=SIZE, seed=seed, workers=workers, block_bytes=BLOCK_BYTES
    )


def drawn(indices, seed=3) -> Pair:
    pairs = [noise(index, seed, SIZE) for index in indices]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def assert_right(rendered: RenderedSource) -> None:
    images, masks = drawn(range(len(rendered)), rendered.seed)
    np.testing.assert_array_equal(rendered.images(range(len(rendered))), images)
    np.testing.assert_array_equal(rendered.masks(range(len(rendered))), masks)


def blocks(cache: Path) -> list[Path]:
    return sorted(cache.rglob("block-*.bin"))


def in_process(program: str, **environment: str) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); from test_rendered import *; {program}"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_read_is_what_the_renderer_draws():
    rendered = opened()
    order = [24, 0, 9, 10, 9, 19, 20]
    images, masks = drawn(order)
    np.testing.assert_array_equal(rendered.images(np.array(order)), images)
    np.testing.assert_array_equal(rendered.masks(order), masks)
    assert len(rendered) == 25
    assert rendered.classes == CLASS_NAMES
    assert rendered.images([]).shape == (0, SIZE, SIZE, 3)


def test_what_is_read_is_a_copy_that_may_be_changed():
    rendered = opened()
    rendered.images([0])[:] = 0
    assert_right(rendered)


def test_the_second_opening_renders_nothing():
    opened()
    again = Counting()
    assert_right(opened(again))
    assert again.calls == 0


def test_seeds_and_sizes_do_not_mix():
    first, second = opened(seed=1), opened(seed=2)
    assert_right(first)
    assert_right(second)
    larger = RenderedSource(Renderer("noise", noise, CLASS_NAMES, "1"), count=2, size=20, seed=1)
    assert larger.masks([1]).shape == (1, 20, 20)


def test_a_larger_count_adds_and_a_smaller_one_takes_the_first():
    opened(count=25)
    more = Counting()
    assert_right(opened(more, count=32))
    assert more.calls == 12  # the unfinished third block, and the two images of a fourth
    fewer = Counting()
    assert_right(opened(fewer, count=7))
    assert_right(opened(fewer, count=25))
    assert fewer.calls == 0


def cut_short(block: Path) -> None:
    os.truncate(block, block.stat().st_size - 1)


def emptied(block: Path) -> None:
    block.write_bytes(b"")


def lengthened(block: Path) -> None:
    block.write_bytes(block.read_bytes() + b"\0")


def pixel_changed(block: Path) -> None:
    content = bytearray(block.read_bytes())
    content[-5] ^= 1
    block.write_bytes(content)


def checksum_changed(block: Path) -> None:
    header_changed(block, "crc32", 1)


def header_of_another_seed(block: Path) -> None:
    header_changed(block, "seed", 4)


def header_without_length(block: Path) -> None:
    header_changed(block, "bytes", None)


def header_changed(block: Path, key: str, value: object) -> None:
    content = block.read_bytes()
    header = {**json.loads(content[:4096]), key: value}
    block.write_bytes(json.dumps(header).encode().ljust(4096) + content[4096:])


def header_no_json(block: Path) -> None:
    block.write_bytes(b"\xff" + block.read_bytes()[1:])


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        cut_short,
        emptied,
        lengthened,
        pixel_changed,
        checksum_changed,
        header_of_another_seed,
        header_without_length,
        header_no_json,
    ],
)
def test_a_broken_block_is_rendered_again_and_no_other(cache: Path, damage):
    opened()
    before = [block.read_bytes() for block in blocks(cache)]
    damage(blocks(cache)[1])
    repaired = Counting()
    assert_right(opened(repaired))
    assert repaired.calls == ROWS
    assert [block.read_bytes() for block in blocks(cache)] == before


def test_a_block_that_breaks_while_the_source_is_open_is_mended(cache: Path):
    rendered = opened()
    rendered.images([0])
    pixel_changed(blocks(cache)[2])
    assert_right(rendered)


def test_another_version_of_the_renderer_is_rendered_anew(cache: Path):
    old = opened(version="1")

    def inverted(index: int, seed: int, size: int) -> Pair:
        image, mask = noise(index, seed, size)
        return 255 - image, mask

    new = opened(inverted, version="2")
    np.testing.assert_array_equal(new.images(range(25)), 255 - drawn(range(25))[0])
    # Whoever still runs the old version is not served the new pictures.
    assert_right(old)
    assert len(blocks(cache)) == 3


def test_several_workers_draw_the_same_bytes(cache: Path):
    opened(workers=1)
    alone = [block.read_bytes() for block in blocks(cache)]
    for block in blocks(cache):
        block.unlink()
    assert_right(opened(workers=2))
    assert [block.read_bytes() for block in blocks(cache)] == alone


@pytest.mark.parametrize("workers", [1, 2])
def test_the_renderer_s_own_error_comes_through_and_whole_blocks_stay(cache: Path, workers):
    with pytest.raises(DissectError, match="nothing to draw at 13"):
        opened(failing, workers=workers)
    assert [block.name for block in blocks(cache)] == ["block-00000.bin"]
    mended = Counting()
    assert_right(opened(mended))
    assert mended.calls == 15


def test_a_killed_rendering_goes_on_where_it_stopped(cache: Path, tmp_path: Path):
    log = tmp_path / "log"
    child = in_process("opened(slow_noise, count=200, workers=2)", RENDER_LOG=str(log))
    deadline = time.monotonic() + 120
    while len(blocks(cache)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    kept = len(blocks(cache))
    assert 2 <= kept < 20
    # A file that it was writing, had it been killed then.
    (blocks(cache)[0].parent / ".block-00009.bin.abc").write_bytes(b"half")
    rest = Counting()
    assert_right(opened(rest, count=200))
    assert rest.calls == 200 - kept * ROWS
    assert not list(cache.rglob(".block-*"))
    workers = {int(line.split()[0]) for line in log.read_text().splitlines()} - {child.pid}
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_runs, workers))


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_interrupted_rendering_ends_at_once_and_goes_on_later(cache: Path, tmp_path: Path):
    log = tmp_path / "log"
    program = (
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "opened(slow_noise, count=2000, workers=2)"
    )
    child = in_process(program, RENDER_LOG=str(log))
    deadline = time.monotonic() + 120
    while not blocks(cache) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=120)
    assert error.strip().endswith("KeyboardInterrupt")
    assert not list(cache.rglob(".block-*"))
    assert_right(opened(count=50))


def test_two_processes_at_once_share_the_work(tmp_path: Path):
    log = tmp_path / "log"
    program = (
        "r = opened(slow_noise, count=60); "
        "print(hashlib.sha256(r.images(range(60)).tobytes()).hexdigest())"
    )
    children = [in_process(program, RENDER_LOG=str(log)) for _ in range(2)]
    said = [child.communicate(timeout=120) for child in children]
    wanted = hashlib.sha256(drawn(range(60))[0].tobytes()).hexdigest()
    assert [out.strip() for out, _ in said] == [wanted, wanted], said
    indices = sorted(int(line.split()[1]) for line in log.read_text().splitlines())
    assert indices == list(range(60))


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(cache: Path):
    # A limit on the size of files stands for the disk: the write fails in the same place.
    out, error = in_process(f"full_disk({BLOCK_BYTES // 2})").communicate(timeout=120)
    assert out.startswith("cannot write "), error
    assert out.count("\n") == 1
    assert not blocks(cache)
    assert not list(cache.rglob(".block-*"))
    assert_right(opened())


def full_disk(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        opened()
    except DissectError as error:
        print(error)


def test_more_than_the_disk_holds_is_refused_before_rendering():
    none = Counting()
    with pytest.raises(DissectError, match=r"needs [\d.]+ GB in .* DISSECT_CACHE"):
        RenderedSource(Renderer("noise", none, CLASS_NAMES, "1"), count=10_000, size=2**14)
    assert none.calls == 0


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(DissectError, match="set DISSECT_CACHE"):
        opened()


def test_a_source_travels_to_another_process():
    rendered = opened()
    rendered.images([0])
    sent = pickle.dumps(rendered)
    assert len(sent) < 2000
    assert_right(pickle.loads(sent))


@pytest.mark.parametrize("indices", [[25], [-1], [0.5], [[0]], [True]])
def test_indices_that_are_none_are_refused(indices):
    with pytest.raises(DissectError, match=r"ind(ex|ices)"):
        opened().images(indices)


@pytest.mark.parametrize(
    ("shape", "kind"), [((SIZE, SIZE + 1, 3), np.uint8), ((SIZE, SIZE, 3), np.float32)]
)
def test_a_renderer_of_other_pictures_is_a_bug_and_says_so(shape, kind):
    def wrong(index: int, seed: int, size: int) -> Pair:
        return np.zeros(shape, kind), np.zeros((size, size), np.uint8)

    with pytest.raises((ValueError, TypeError), match="the renderer gave"):
        opened(wrong)


def test_the_version_follows_the_source_files(tmp_path: Path):
    package = tmp_path / "package"
    (package / "inside").mkdir(parents=True)
    (package / "a.py").write_text("x = 1")
    (package / "inside" / "b.py").write_text("y = 1")
    before = source_version(package)
    (package / "notes.txt").write_text("no code")
    assert source_version(package) == before
    (package / "inside" / "b.py").write_text("y = 2")
    after = source_version(package)
    (package / "inside" / "b.py").rename(package / "inside" / "c.py")
    assert len({before, after, source_version(package)}) == 3


def test_bedrooms_are_what_their_renderer_draws():
    bedrooms = source("bedrooms", count=3, size=32, seed=5)
    assert isinstance(bedrooms, RenderedSource)
    assert bedrooms.classes == CLASSES
    image, mask = render_bedroom(2, 5, 32)
    np.testing.assert_array_equal(bedrooms.images([2])[0], image)
    np.testing.assert_array_equal(bedrooms.masks([2])[0], mask)
