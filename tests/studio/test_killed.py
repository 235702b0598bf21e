"""kill -9 during a stream of edits: the file can be read, and nothing answered is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.processes import environment
from helpers.studio import Client

from dissect.annotations import Annotations, Box

EDITS = 200

# One process imports the library, and every server is a fork of it: a start takes no seconds.
NURSERY = """
import os, sys
import dissect.studio
from dissect.cli import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        main(line.split())
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, nor kill -9")
def test_killed_at_any_moment_the_file_holds_every_edit_that_was_answered(tmp_path):
    kills = int(os.environ.get("DISSECT_KILLS", "4"))
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    toy = Path(__file__).parents[1] / "helpers" / "studio.py"
    words = f"annotate --model {toy}:toy --n 40 --concept spot --no-browser --out {tmp_path}"
    chance = random.Random(0)
    answered = {}  # what was answered last, by image
    total = 0
    try:
        for kill in range(kills):
            nursery.stdin.write(words + "\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            address = nursery.stderr.readline().strip()
            assert address.startswith("http"), address
            nursery.stderr.readline()
            client = Client(address)
            _, known = client.get("api/boxes?concept=spot&pass=first")
            for place, boxes in enumerate(known["boxes"]):
                possible = answered.get(place, [None])
                assert boxes in possible, (kill, place, boxes, possible)
                answered[place] = [boxes]
            versions = known["versions"]
            # After a number of edits, and a moment into the next one.
            last, moment = chance.randrange(EDITS), chance.uniform(0, 0.012)
            for edit in range(EDITS):
                place = chance.randrange(40)
                count = chance.randrange(4)
                box = [[float(edit % 20), float(kill % 20), 3.0, 4.0]] * count
                sent = {"concept": "spot", "pass": "first", "position": place, "boxes": box}
                if edit == last:
                    threading.Timer(moment, os.kill, (child, signal.SIGKILL)).start()
                try:
                    status, answer = client.post("api/boxes", {**sent, "version": versions[place]})
                except (OSError, ValueError, EOFError):
                    answered[place] = [*answered[place], box]  # either will do
                    break
                except Exception as error:  # http.client's own, when an answer breaks off
                    assert "http.client" in type(error).__module__
                    answered[place] = [*answered[place], box]
                    break
                assert status == 200, answer
                versions[place] = answer["version"]
                answered[place] = [box]
                total += 1
            assert nursery.stdout.readline() == "gone\n"
            path = tmp_path / "spot.json"
            if path.exists():
                json.loads(path.read_text())
                read = Annotations.load(path, "spot", allow_empty=True)
                found = {image.index: image.boxes for image in read.images}
                for place, possible in answered.items():
                    boxes = [
                        None if one is None else tuple(Box(*b) for b in one) for one in possible
                    ]
                    assert found.get(place) in boxes, (kill, place)
    finally:
        nursery.stdin.close()
        nursery.wait(20)
        nursery.stderr.close()
        nursery.stdout.close()
    assert total > 10 * kills
