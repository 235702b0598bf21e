"""Requests of the page and what answers them."""

from dissect.studio.routes.app import ERROR_HANDLERS, app_routes
from dissect.studio.routes.messages import json_response

__all__ = ["ERROR_HANDLERS", "app_routes", "json_response"]
