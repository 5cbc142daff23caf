"""A request through everything: the client, the proxy, an account, the sandbox, and back."""

from __future__ import annotations

from pathlib import Path

from mcp_proxy.sandbox import Sandbox
from tests.e2e.harness import message, running


async def test_a_message_comes_back_from_the_account_that_was_chosen(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="first")
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            answer = await proxy.ask("What is the tallest animal?")
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] == "claude-sonnet-5"
            assert proxy.named(answer) == "first"
            assert answer.headers["x-proxy-reason"] == "first_choice"
            assert answer.headers["request-id"].startswith("req_")
            assert box.complaints == []


async def test_a_stream_arrives_as_the_upstream_wrote_it(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="first")
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            async with proxy.client.stream("POST", "/v1/messages", json=message(stream=True)) as answer:
                body = await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert body.startswith(b"event: message_start\n") and body.endswith(b'data: {"type":"message_stop"}\n\n')
            assert box.complaints == []
