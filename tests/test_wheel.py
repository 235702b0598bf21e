"""The built wheel does the main job offline, from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Whatever PYTHONPATH names, which may be the checkout.
ALONE = ("-I", "-c")

OFFLINE = """
import socket, sys
def refuse(*_):
    raise OSError("no network in this test")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from dissect.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of an environment that holds the wheel; its dependencies are borrowed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("dissect_gan-*.whl")
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", place, str(wheel)], check=True)
    # A path entry lends the dependencies, but not the checkout that is installed beside them:
    # the .pth files of a folder that is entered by a .pth file are not read.
    Path(place, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python, folder, *words):
    return subprocess.run(
        [python, *ALONE, OFFLINE, *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_package_is_the_wheels_own(installed, tmp_path):
    where = subprocess.run(
        [installed, *ALONE, "import dissect; print(dissect.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert str(ROOT) not in where
    assert "environment" in where


def test_the_main_job_runs_offline_from_any_folder(installed, tmp_path):
    probe = run(installed, tmp_path, "probe", "--concept", "window")
    assert probe.returncode == 0, probe.stderr
    ablate = run(installed, tmp_path, "ablate", "--n", "4")
    assert ablate.returncode == 0, ablate.stderr
    assert (tmp_path / "out" / "units.json").is_file()
    assert (tmp_path / "out" / "ablate.png").is_file()
