"""Image sources by name: `source("bedrooms")`, `source("folder:photos")`, `source("lsun:PATH")`."""

from dissect.data.batches import batch_at, batches
from dissect.data.cache import cache_folder
from dissect.data.folder import FolderSource
from dissect.data.labelled import LabelledSource
from dissect.data.lsun import LsunSource
from dissect.data.packed import PackedSource
from dissect.data.protocol import ImageSource
from dissect.data.rendered import RenderedSource, Renderer, source_version
from dissect.data.sources import SourceKind, labelled, source, source_kinds

__all__ = [
    "FolderSource",
    "ImageSource",
    "LabelledSource",
    "LsunSource",
    "PackedSource",
    "RenderedSource",
    "Renderer",
    "SourceKind",
    "batch_at",
    "batches",
    "cache_folder",
    "labelled",
    "source",
    "source_kinds",
    "source_version",
]
