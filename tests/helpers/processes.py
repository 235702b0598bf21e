"""Several processes that work together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "Pair", "environment"]

ROOT = Path(__file__).resolve().parents[2]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


class Pair:
    """Processes that run the same Python, each knowing the others, without `torchrun`."""

    def __init__(self, code, *arguments, size=2, **more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(
                    RANK=str(rank),
                    WORLD_SIZE=str(size),
                    MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=port,
                    **more,
                ),
            )
            for rank in range(size)
        ]

    def end(self):
        """Status, stdout and stderr of each."""
        ended = []
        for process in self.processes:
            out, err = process.communicate(timeout=600)
            ended.append((process.returncode, out, err))
        return ended
