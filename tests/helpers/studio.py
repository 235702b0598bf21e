"""A generator whose unit 0 draws bright spots, and a server of the studio in a thread."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import torch
from torch import nn

from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.latent_space import Direction
from dissect.segmentation import Segmenter
from dissect.studio import (
    AnnotationSession,
    ExploreSession,
    GeneratorSession,
    SamplePictures,
    ServerAddress,
    Workspace,
    make_server,
)
from dissect.surgery.intervention import Intervention
from dissect.units import Units

SIDE = 32
CLASSES = ("wall", "spot")
# A request that is good in every part.
GOOD = {
    "concept": "spot (given)",
    "pass": "first",
    "position": 0,
    "boxes": [[1, 1, 4, 4]],
    "version": "unseen",
    "rows": 8,
    "columns": 8,
    "model": "toy",
    "layer": "layer8x8",
    "seed": 0,
    "index": 0,
    "units": [0, 1],
    "strength": 1,
    "where": "everywhere",
    "threshold": 0.5,
    "remove": [0],
    "insert": [1],
    "control": 0,
    "what": "edit",
    "start": {"seed": 0, "index": 0},
    "end": {"seed": 0, "index": 1},
    "points": [{"fraction": 0, "offsets": [0.5]}, {"fraction": 1}],
    "by": "iou",
}


class Spots(nn.Module):
    """Latents (N, 2) to 4 units on an 8x8 grid: a spot of 2x2 cells, its negative, two others."""

    def forward(self, z):
        column, row = ((z.clamp(-1, 0.999) + 1) * 3.5).long().T
        units = torch.full((len(z), 4, 8, 8), 0.25)
        units[:, 0] = 0.0
        units[:, 1] = 1.0
        for place in range(len(z)):
            across = slice(int(column[place]), int(column[place]) + 2)
            down = slice(int(row[place]), int(row[place]) + 2)
            # Brighter towards one side, so that some spots are above a high quantile of all.
            units[place, 0, down, across] = 1.0 + 0.1 * abs(float(z[place, 0]))
            units[place, 1, down, across] = 0.0
        units[:, 2] = torch.sin(9 * z.sum(1))[:, None, None].abs()
        return units


class Toy(nn.Module):
    """Images (N, 3, 32, 32), dark but for what unit 0 draws."""

    latent_size = 2

    def __init__(self):
        super().__init__()
        self.layer8x8 = Spots()
        self.rgb = nn.Upsample(scale_factor=4)
        self.tone = nn.Parameter(torch.tensor(-0.5))

    def forward(self, z):
        units = self.rgb(self.layer8x8(z))
        return (self.tone + 1.25 * units[:, :1] + 0.1 * units[:, 2:3]).expand(-1, 3, -1, -1)


def toy():
    """The factory, for the command line."""
    return Toy()


def spot_of(generator, index):
    """The box around the spot of a sample of seed 0."""
    units = generator.model.layer8x8(generator.latent(0, index))[0, 0]
    rows, columns = torch.where(units > 0)
    return Box(4.0 * int(columns.min()), 4.0 * int(rows.min()), 8.0, 8.0)


def spot_boxes(generator, n=12):
    """Boxes around the spots of the first samples of seed 0."""
    images = tuple(
        AnnotatedImage(SIDE, SIDE, (spot_of(generator, index),), seed=0, index=index)
        for index in range(n)
    )
    return Annotations("spot", images, generator.fingerprint)


def segmenter():
    """Eyes that call what is bright a spot."""
    return Segmenter(CLASSES, lambda images: (images.mean(1) > 0.3).long())


class UpperHalf:
    """A gate that is open in the first half of the rows alone."""

    def probability(self, activations):
        """(N, 8, 8): 0.4 in the upper rows, 0 below."""
        open_at = torch.zeros(len(activations), 8, 8)
        open_at[:, :4] = 0.4
        return open_at


def auto(probe):
    """What rule `auto` chose for the toy: units 2 and 0, in the upper half."""
    units = Units("layer8x8", (2, 0), 4, concept="spot", rule="auto", model=probe.model)
    return Intervention(units, UpperHalf(), threshold=0.2, strength=1.5, unit_strengths=(0.5, 1.2))


def workspace(folder, concepts=("spot", "door"), n=12, chosen=auto, edit=None):
    """A workspace in which everything is there: boxes to draw, a generator, a segmenter."""
    generator = GeneratorSession("toy", Toy().eval())
    pictures = SamplePictures(generator, [(0, index) for index in range(n)])
    annotation = AnnotationSession(folder / "boxes", pictures, concepts, generator.grids())
    boxes = spot_boxes(generator)
    across = Direction(torch.tensor([0.5, 0.0]), "across", "held", generator.fingerprint)
    session = ExploreSession(
        generator,
        {"spot (given)": lambda: boxes},
        segmenter(),
        folder / "saved",
        {"across, held": across},
        chosen,
        edit,
    )
    return Workspace("toy", annotation, {"toy": session})


@dataclass(frozen=True)
class Client:
    """Speaks to a server as a browser would, or as one must not."""

    url: str

    def request(self, method, path, body=None, headers=None, *, token=True, host=None):
        """Status, headers and body of one answer; `path` comes after the token."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            prefix = parts.path if token is True else token or "/"
            connection.putrequest(method, prefix + path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host or parts.netloc)
            sent = dict(headers or {})
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
                sent.setdefault("Content-Length", str(len(body)))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path):
        """Status and JSON."""
        status, _, body = self.request("GET", path)
        return status, json.loads(body)

    def post(self, path, value):
        """Status and JSON."""
        status, _, body = self.request("POST", path, json.dumps(value).encode())
        return status, json.loads(body)


@contextmanager
def running(workspace):
    """A client of a server that serves the workspace."""
    address = ServerAddress.bind()
    server = make_server(address, workspace)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [address.listener]}, daemon=True
    )
    thread.start()
    try:
        yield Client(address.url)
    finally:
        server.should_exit = True
        thread.join(10)
        address.listener.close()


def until(page, expression, seconds=30):
    """Wait until an expression is true; the page's own policy forbids Playwright's way."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


__all__ = [
    "GOOD",
    "Client",
    "Toy",
    "auto",
    "running",
    "segmenter",
    "spot_boxes",
    "spot_of",
    "toy",
    "until",
    "workspace",
]
