"""The one exception that a user's mistake raises."""

__all__ = ["DamagedFileError", "DissectError"]


class DissectError(Exception):
    """A mistake that the user can mend, told in one line.

    The message says what was wrong and what would be right. The command line prints it without a
    traceback and leaves with exit status 2.

    >>> import dissect
    >>> try:
    ...     dissect.load("bedroom64")
    ... except DissectError as error:
    ...     print("bedrooms64" in str(error))
    True
    """


class DamagedFileError(DissectError):
    """A file could be read, and what it holds is cut short or altered."""
