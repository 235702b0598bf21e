"""One voice: of several processes that `torchrun` started to do one thing, one speaks.

Here is what that takes before torch is loaded; how the processes work together is told in
`dissect.processes`.
"""

import os
import sys
from contextlib import suppress

__all__ = ["is_first", "rank_and_size", "speak_once"]

# How long the others wait for the one that speaks, before they leave.
_SECONDS = 10


def rank_and_size() -> tuple[int, int]:
    """Which process this is and how many there are; (0, 1) where `torchrun` started none."""
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    return (int(rank), int(size)) if rank.isdigit() and size.isdigit() else (0, 1)


def is_first() -> bool:
    """Whether this is the process that writes, and shows what is being done."""
    return rank_and_size()[0] == 0


def speak_once(line: str) -> None:
    """Print `line` to stderr in that process which gets here first, before any goes on.

    For last words: `torchrun` ends all processes as soon as one has failed, so that whichever
    fails first must have them. Where `torchrun` keeps no store to ask, the first process has them.
    """
    if rank_and_size()[1] == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        if is_first():
            print(line, file=sys.stderr, flush=True)
        return
    from datetime import timedelta

    from torch.distributed import DistError
    from torch.distributed.rendezvous import rendezvous

    patience = timedelta(seconds=_SECONDS)
    # Without an answer, `torchrun` is gone, or the one who was to speak is.
    with suppress(DistError):
        store, _, _ = next(rendezvous("env://", timeout=patience))
        if store.add("dissect/speakers", 1) > 1:
            store.wait(["dissect/spoken"], patience)
            return
        print(line, file=sys.stderr, flush=True)
        store.set("dissect/spoken", "")
