from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.accounts.sign_in.google import Google, running


@pytest.fixture
def google() -> Iterator[Google]:
    with running() as made:
        yield made
