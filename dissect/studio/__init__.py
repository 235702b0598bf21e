"""The studio: a local page to draw boxes on samples, and to see what units do."""

from dissect.studio.server import AccessPolicy, ServerAddress, make_server, serve
from dissect.studio.sessions import (
    AnnotationSession,
    BoxFile,
    ConflictError,
    ExploreSession,
    FolderPictures,
    GeneratorSession,
    SamplePictures,
    Workspace,
)

__all__ = [
    "AccessPolicy",
    "AnnotationSession",
    "BoxFile",
    "ConflictError",
    "ExploreSession",
    "FolderPictures",
    "GeneratorSession",
    "SamplePictures",
    "ServerAddress",
    "Workspace",
    "make_server",
    "serve",
]
