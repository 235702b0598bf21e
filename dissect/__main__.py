"""`python -m dissect` is the command `dissect`."""

from dissect.cli import main

main()
