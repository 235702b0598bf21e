"""Rendered worlds whose masks are known: bedrooms and faces."""
