"""One page of the list of models."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_proxy.server.models import page

ENTRIES: list[dict[str, Any]] = [{"id": name} for name in "abcde"]

PAGES: list[tuple[int, str | None, str | None, str, bool]] = [
    # limit · after · before · the page · more
    (20, None, None, "abcde", False),
    (5, None, None, "abcde", False),
    (4, None, None, "abcd", True),
    (2, "b", None, "cd", True),
    (3, "b", None, "cde", False),
    (2, "e", None, "", False),
    (2, "zz", None, "", False),
    (2, None, "d", "bc", True),
    (3, None, "d", "abc", False),
    (9, None, "d", "abc", False),
    (2, None, "a", "", False),
    (2, None, "zz", "", False),
    (1, "a", "d", "b", True),
]


@pytest.mark.parametrize(("limit", "after", "before", "ids", "more"), PAGES)
def test_a_page(limit: int, after: str | None, before: str | None, ids: str, more: bool) -> None:
    document = page(ENTRIES, limit, after, before)
    assert "".join(entry["id"] for entry in document["data"]) == ids
    assert document["has_more"] is more
    assert (document["first_id"], document["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


def test_walking_the_pages_meets_every_entry_once() -> None:
    met, after = [], None
    while True:
        document = page(ENTRIES, 2, after, None)
        met += [entry["id"] for entry in document["data"]]
        if not document["has_more"]:
            break
        after = document["last_id"]
    assert met == list("abcde")


def test_no_models_is_an_empty_page() -> None:
    assert page([], 20, None, None) == {"data": [], "first_id": None, "last_id": None, "has_more": False}
