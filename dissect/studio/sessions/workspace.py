"""What the server works on: boxes to draw, and generators to explore."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dissect.studio.sessions.annotation import AnnotationSession
from dissect.studio.sessions.explore import ExploreSession

__all__ = ["Workspace"]


@dataclass(frozen=True)
class Workspace:
    """Everything that requests can reach. Requests hold names, never paths.

    Attributes:
        title: what the page is called.
        annotation: boxes to draw; None leaves out that part of the page.
        explore_sessions: by the name of the generator; none leaves out these parts of the page.
    """

    title: str
    annotation: AnnotationSession | None = None
    explore_sessions: Mapping[str, ExploreSession] = field(default_factory=dict)

    def prepare(self) -> None:
        """Compute what the page shows first, before the page requests it."""
        for session in list(self.explore_sessions.values())[:1]:
            session.prepare()

    def close(self) -> None:
        """End what runs in the background, and interrupt measurements."""
        for session in self.explore_sessions.values():
            session.close()
