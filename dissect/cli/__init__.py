"""The command line: parse, call the library, print, list the files written."""

from dissect.cli.app import app, main

__all__ = ["app", "main"]
