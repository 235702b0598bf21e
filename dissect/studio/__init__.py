"""The studio: a local page to draw boxes on samples, and to see what units do."""

from dissect.studio.app import make_app
from dissect.studio.boxfile import BoxFile, ConflictError
from dissect.studio.drawing import Drawing
from dissect.studio.explorer import Explorer
from dissect.studio.guard import Door, Guard
from dissect.studio.painter import Painter
from dissect.studio.pictures import FolderPictures, SamplePictures
from dissect.studio.serve import Place, make_server, serve, take_place
from dissect.studio.workspace import Workspace

__all__ = [
    "BoxFile",
    "ConflictError",
    "Door",
    "Drawing",
    "Explorer",
    "FolderPictures",
    "Guard",
    "Painter",
    "Place",
    "SamplePictures",
    "Workspace",
    "make_app",
    "make_server",
    "serve",
    "take_place",
]
