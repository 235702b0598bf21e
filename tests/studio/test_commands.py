"""`dissect annotate` and `dissect studio`."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPException

import pytest
import torch
from helpers.processes import environment
from helpers.studio import Client, running, workspace
from PIL import Image

from dissect.annotations import Annotations, Box
from dissect.cli import main
from dissect.latent_space import Direction
from dissect.studio import ServerAddress
from dissect.studio.server import open_page


def test_where_no_browser_can_be_opened_the_terminal_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    said = []
    open_page("http://127.0.0.1:1/", said.append)
    assert said == ["no browser could be opened here: open the address yourself"]


def fails(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_mistakes_are_one_line(capsys, tmp_path):
    quiet = ("--no-browser", "--out", str(tmp_path))
    assert "no model" in fails(capsys, "annotate", "--model", "nowhere", *quiet)
    assert "cannot name a file" in fails(capsys, "annotate", "--concept", "../up", *quiet)
    assert "give folder:PATH" in fails(capsys, "annotate", "--images", "lsun:x", *quiet)
    assert "no folder" in fails(capsys, "annotate", "--images", f"folder:{tmp_path}/no", *quiet)
    assert "no such segmenter" in fails(capsys, "studio", "--segmenter", "no", *quiet)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "leave out --port" in fails(capsys, "annotate", "--port", port, *quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_direction_of_another_generator_is_a_mistake(capsys, tmp_path):
    quiet = ("studio", "--no-browser", "--out", str(tmp_path / "out"), "--directions")
    assert "no such file" in fails(capsys, *quiet, str(tmp_path / "none.json"))
    other = Direction(torch.ones(100), "yaw", "held", "0" * 16).save(tmp_path / "other.json")
    assert "was found in another model" in fails(capsys, *quiet, str(other))
    short = Direction(torch.ones(3), "yaw", "held").save(tmp_path / "short.json")
    assert "has 3 components" in fails(capsys, *quiet, str(short))


def test_only_a_loud_word_opens_the_page_to_others():
    address = ServerAddress.bind()
    assert address.listener.getsockname()[0] == "127.0.0.1"
    assert not address.policy.accepts_host(f"192.168.1.5:{address.policy.port}")
    address.listener.close()
    exposed = ServerAddress.bind(expose_to_network="0.0.0.0")
    assert exposed.policy.accepts_host(f"192.168.1.5:{exposed.policy.port}")
    assert not exposed.policy.accepts_host(f"evil.example:{exposed.policy.port}")
    exposed.listener.close()


def started(*words, **more):
    """A process of the command line and the URL that it printed."""
    command = [sys.executable, "-m", "dissect", *words, "--no-browser"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **more,
    )
    for line in process.stderr:
        if line.startswith("http"):
            return process, line.strip()
    raise AssertionError(f"no address; the command ended with {process.wait()}")


def test_annotate_draws_on_a_folder_and_ends_at_once_at_ctrl_c(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (60 * number, 9, 9)).save(photos / f"{number}.png")
    words = ("--images", f"folder:{photos}", "--size", "24", "--concept", "dog", "--json")
    process, url = started("annotate", *words, "--out", str(tmp_path / "boxes"))
    client = Client(url)
    sent = {"concept": "dog", "pass": "first", "position": 1, "boxes": [[2, 3, 4, 5]]}
    assert client.post("api/boxes", {**sent, "version": "unseen"})[0] == 200
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["boxes"] == {"dog": 1}
    assert result["files"] == [str(tmp_path / "boxes" / "dog.json")]
    read = Annotations.load(tmp_path / "boxes" / "dog.json")
    assert (read.images[0].file_name, read.boxes) == ("1.png", ((Box(2, 3, 4, 5),),))


def test_ctrl_c_ends_what_is_measured_in_the_background_and_for_a_request(tmp_path):
    process, url = started("studio", "--out", str(tmp_path))
    sent = {"model": "bedrooms64", "layer": "layer8x8", "concept": "window (bundled)", "by": "iou"}
    end = time.monotonic() + 120
    while not Client(url).post("api/ranking", sent)[1]["done"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    edit = {"units": [0], "strength": 1, "where": "everywhere", "seed": 0, "index": 0}

    def measure():
        with suppress(OSError, HTTPException, ValueError):  # the connection ends with the server
            Client(url).post("api/measure", {**sent, **edit})

    request = threading.Thread(target=measure)
    request.start()
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert process.returncode == 0, err
    request.join()


def test_no_thread_outlives_the_server_and_torch_keeps_its_number(tmp_path):
    before, threads = torch.get_num_threads(), set(threading.enumerate())
    with running(workspace(tmp_path)) as client:
        sent = {"model": "toy", "layer": "layer8x8", "concept": "spot (given)", "by": "effect"}
        end = time.monotonic() + 60
        while not client.post("api/ranking", sent)[1]["done"]:
            assert time.monotonic() < end
        assert set(threading.enumerate()) > threads
    assert set(threading.enumerate()) == threads
    assert torch.get_num_threads() == before
