"""After every test: what it wrote is searched for planted secrets, and one that is found fails it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_proxy.sandbox import Account
from mcp_proxy.sandbox.service import Service
from tests.faults.secrets import MARK, found_in_folder, found_in_text

_read: list[tuple[str, str | bytes]] = []
"""What the running test has taken: from its captured output, from programs that it ran, from the proxy."""


class WatchedClient(httpx.AsyncClient):
    """A client whose answers, where they are not streamed, are searched too."""

    async def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        answer = await super().send(request, **how)
        if not how.get("stream"):
            _read.append(
                (f"the answer to {request.url.path}", f"{answer.headers.multi_items()} ".encode() + answer.content)
            )
        return answer


def _watched(method: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """A method that returns texts, which are also remembered until the test is over."""

    def watched(*args: Any, **more: Any) -> Any:
        result = method(*args, **more)
        for name, text in zip(names, result, strict=True):
            if isinstance(text, str | bytes) and text:
                _read.append((name, text))
        return result

    return watched


def _marked(method: Callable[..., Account]) -> Callable[..., Account]:
    """The sandbox's accounts, their keys marked where a test gives none."""

    def account(self: Service, alias: str | None, key: str | None, *more: Any) -> Account:
        return method(self, alias, key or f"{self.host.key.format(n=len(self.accounts) + 1)}-{MARK}", *more)

    return account


subprocess.Popen.communicate = _watched(subprocess.Popen.communicate, "a program's stdout", "a program's stderr")  # type: ignore[method-assign]
pytest.CaptureFixture.readouterr = _watched(pytest.CaptureFixture.readouterr, "stdout", "stderr")  # type: ignore[method-assign]
Service.account = _marked(Service.account)  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """The report of a test's end: failed where a secret is in what it wrote."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if call.when != "teardown":
        return report  # type: ignore[return-value]
    texts = [*_read, *report.sections]
    _read.clear()
    found = found_in_text(texts) if texts else []
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if isinstance(folder, Path):
        found += found_in_folder(folder)
    if found and report.passed:
        report.outcome = "failed"
        report.longrepr = "a planted secret was written:\n" + "\n".join(found)
    return report  # type: ignore[return-value]
