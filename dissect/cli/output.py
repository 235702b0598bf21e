"""What a command says: text for people, or one JSON object for programs."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dissect._utils.distributed import is_main_process

__all__ = ["Output"]


class Output:
    """Where a command's words go.

    Progress and remarks go to stderr. The result goes to stdout: as text, or with `--json` as one
    JSON object and nothing else, in which `files` lists what was written.
    """

    def __init__(self, *, as_json: bool, shared: bool = False) -> None:
        """Print results as one JSON object if `as_json`, else as text.

        Args:
            as_json: whether a program reads the result.
            shared: whether the command shares its work among the processes of `torchrun`, of
                which the first alone prints. RANK in the environment silences no other command.
        """
        self.as_json = as_json
        self.quiet = shared and not is_main_process()
        self.files: list[str] = []

    def note(self, text: str) -> None:
        """Say `text` on the way; it is no result."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def wrote(self, path: str | Path) -> None:
        """Count `path` among the files written."""
        self.files.append(str(path))

    def result(self, values: Mapping[str, Any], text: str) -> None:
        """End the command: `values` for programs, `text` for people, and the files for both."""
        if self.quiet:
            return
        if self.as_json:
            print(json.dumps({**values, "files": self.files}, allow_nan=False))
            return
        print(text)
        for path in self.files:
            print(f"wrote {path}")
