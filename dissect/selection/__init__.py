"""The search for the best edit of a layer, and the rules that choose units."""

from dissect.selection.auto import search_intervention
from dissect.selection.objective import Metrics, Objective
from dissect.selection.search import (
    SearchConfig,
    SearchResult,
    search_edit,
    search_steps,
)
from dissect.selection.stored import (
    SEARCH_FILE,
    find_results,
    load_results,
    matches,
    save_results,
)

__all__ = [
    "SEARCH_FILE",
    "Metrics",
    "Objective",
    "SearchConfig",
    "SearchResult",
    "find_results",
    "load_results",
    "matches",
    "save_results",
    "search_edit",
    "search_intervention",
    "search_steps",
]
