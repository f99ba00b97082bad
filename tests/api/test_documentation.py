"""docs/api/credits.md names the routes that there are."""

import re
from pathlib import Path
from typing import Any, cast

from concierge.api.app import create_app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api" / "credits.md"
ELSEWHERE = ("_health", "static")
"""Endpoints that are no part of that page."""


def test_every_route_is_documented_and_every_documented_one_is_there() -> None:
    headings = set(re.findall(r"^### (GET|POST) (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    known, wanted = set(), set()
    for rule in create_app(cast(Any, None)).url_map.iter_rules():
        path = re.sub(r"<(\w+)>", lambda match: "{" + _camel(match[1]) + "}", rule.rule.removeprefix("/api/v1"))
        routes = {(method, path) for method in (rule.methods or set()) & {"GET", "POST"}}
        known |= routes
        if rule.endpoint not in ELSEWHERE:
            wanted |= routes
    assert headings <= known
    assert wanted <= headings


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
