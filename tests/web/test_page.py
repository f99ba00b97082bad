"""The page that checks receipts, as Hosting serves it."""

import re
from typing import Any

import httpx
import pytest
from support.backend import Backend


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html"),
        ("page.css", "text/css"),
        ("page.mjs", "javascript"),
        ("verify.mjs", "javascript"),
        ("trees.mjs", "javascript"),
        ("encoding.mjs", "javascript"),
    ],
)
def test_the_page_and_its_parts_are_served(backend: Backend, name: str, kind: str) -> None:
    """Browsers run no module under another type."""
    answer = httpx.get(f"http://{backend.stack.services['hosting']}/ledger/{name}", trust_env=False, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0].endswith(kind)
    imported: list[Any] = re.findall(r'from "\./([^"]+)"', answer.text)
    assert set(imported) <= {"verify.mjs", "trees.mjs", "encoding.mjs"}
