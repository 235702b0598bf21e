"""What the page works on: generators, boxes, units of a layer, and what is saved."""

from dissect.studio.sessions.annotation import AnnotationSession
from dissect.studio.sessions.box_file import BoxFile, ConflictError, ImageAnnotation
from dissect.studio.sessions.explore import ExploreSession
from dissect.studio.sessions.generator import GeneratorSession
from dissect.studio.sessions.pictures import FolderPictures, SamplePictures
from dissect.studio.sessions.unit_ranking import UnitRankingJob
from dissect.studio.sessions.workspace import Workspace

__all__ = [
    "AnnotationSession",
    "BoxFile",
    "ConflictError",
    "ExploreSession",
    "FolderPictures",
    "GeneratorSession",
    "ImageAnnotation",
    "SamplePictures",
    "UnitRankingJob",
    "Workspace",
]
