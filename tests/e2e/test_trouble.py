"""Upstreams that break: before the first content it costs the client only time, after it the truth is told."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import asking
from mcp_proxy.sandbox import Fault, Place, Sandbox, faults, lies, refusals
from mcp_proxy.state.sqlite import SqliteStore
from tests.e2e.harness import KEY, Proxy, last_message, message, running, settings

BEFORE_CONTENT: list[Fault] = [
    faults.drop(),
    faults.reset(),
    faults.garbage(),
    faults.huge_head(),
    faults.bad_header(),
    faults.half_head(),
    faults.html(),
    faults.empty(),
    faults.not_found_200(),
    faults.redirect("http://127.0.0.1:1/elsewhere"),
    faults.cut(0),
    faults.cut(10, reset=True),
    faults.cut_before_content(),
    faults.cut_before_content(reset=True),
    faults.early_end("message_start"),
    faults.error_event(),
    faults.error_event(0),
    lies.json_for_stream(),
    lies.gzipped(),
    refusals.overloaded(),
    refusals.internal(),
    refusals.html_502(),
    refusals.timed_out(),
]


@pytest.mark.parametrize("fault", BEFORE_CONTENT, ids=lambda fault: fault.name)
async def test_an_upstream_that_fails_before_its_first_content_costs_the_client_only_time(
    tmp_path: Path, fault: Fault
) -> None:
    async with Sandbox(["anthropic"]) as box:
        bad, good = box.account("anthropic", alias="bad"), box.account("anthropic", alias="good")
        async with running(tmp_path, box, ("anthropic", bad, {"tier": 1}), ("anthropic", good, {"tier": 2})) as proxy:
            bad.always(fault)
            answer = await proxy.ask(stream=True)
            assert answer.status_code == 200, answer.text
            assert answer.content.count(b"event: message_start") == 1
            assert answer.content.endswith(b'data: {"type":"message_stop"}\n\n')
            assert proxy.named(answer) == "good"
            assert last_message(bad).fault == fault.name, "it was tried"


WHOLE_BAD = [
    lies.truncated_json(),
    lies.wrong_length(50),
    faults.empty(),
    faults.html(),
    faults.cut(20),
]


@pytest.mark.parametrize("fault", WHOLE_BAD, ids=lambda fault: fault.name)
async def test_a_message_that_is_not_whole_is_nobodys_answer(tmp_path: Path, fault: Fault) -> None:
    async with Sandbox(["anthropic"]) as box:
        bad, good = box.account("anthropic", alias="bad"), box.account("anthropic", alias="good")
        async with running(tmp_path, box, ("anthropic", bad, {"tier": 1}), ("anthropic", good, {"tier": 2})) as proxy:
            bad.always(fault)
            answer = await proxy.ask()
            assert answer.status_code == 200 and answer.json()["type"] == "message"
            assert proxy.named(answer) == "good"


async def test_a_message_is_json_whatever_its_upstream_calls_it(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(lies.stream_for_json())
            answer = await proxy.ask()
            assert answer.headers["content-type"] == "application/json" and answer.json()["type"] == "message"


CUTS: list[Callable[..., Fault]] = [faults.cut_events, faults.early_end]


@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_before_the_first_whole_block_is_a_closed_connection(
    tmp_path: Path, cut: Callable[..., Fault]
) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(cut("content_block_delta"))
            came = b""
            with pytest.raises(httpx.RemoteProtocolError):
                async with proxy.client.stream("POST", "/v1/messages", json=message(stream=True)) as answer:
                    async for piece in answer.aiter_raw():
                        came += piece
            assert b"content_block_delta" in came and b"event: error" not in came and b"message_stop" not in came
            assert came.endswith(b"\n\n"), "what came is whole frames"


@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_after_a_whole_block_is_an_honest_error_event(tmp_path: Path, cut: Callable[..., Fault]) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(cut("content_block_stop"))
            answer = await proxy.ask(stream=True)
            last = answer.content.rstrip(b"\n").split(b"\n\n")[-1]
            assert last.startswith(b"event: error\n")
            told = json.loads(last.partition(b"data: ")[2])
            assert told["error"]["type"] == "api_error" and told["request_id"] == answer.headers["request-id"]
            assert (
                b"message_stop" not in answer.content
                and b"stop_reason" not in answer.content.split(b"content_block_stop")[-1]
            )


async def test_an_error_event_of_the_upstream_in_mid_stream_is_passed_on(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(faults.error_event("content_block_delta"))
            answer = await proxy.ask(stream=True)
            assert answer.content.count(b"event: error") == 1 and b"overloaded_error" in answer.content


async def test_nobody_left_tells_the_truth(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b)) as proxy:
            cases = (
                (refusals.overloaded(), faults.drop(), 529, "overloaded_error"),
                (refusals.timed_out(), faults.drop(), 504, "timeout_error"),
                (faults.drop(), faults.html(), 502, "api_error"),
            )
            for one, other, status, kind in cases:
                a.always(one)
                b.always(other)
                answer = await proxy.ask()
                assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)


async def test_secrets_that_an_upstream_quotes_back_are_not_passed_on(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", key="sk-fake-of-the-upstream-key")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(refusals.bad_request(f"do not use {a.key} so"), refusals.unauthorized(f"bad key {a.key}"))
            shown = [await proxy.ask(), await proxy.ask(), await proxy.client.get("/health")]
            assert [answer.status_code for answer in shown] == [400, 503, 503]
        c = box.account("anthropic", alias="c", key="sk-fake-of-who-counts")
        async with running(tmp_path / "c", box, ("anthropic", c)) as proxy:
            c.script(refusals.bad_request(f"do not use {c.key} so"), on=Place.COUNT_TOKENS)
            asked = {key: value for key, value in message().items() if key != "max_tokens"}
            counted = await proxy.client.post("/v1/messages/count_tokens", json=asked)
            assert (counted.status_code, "do not use" in counted.text, c.key in counted.text) == (400, True, False)
        b = box.account("anthropic", alias="b", key="sk-fake-another")
        async with running(tmp_path / "b", box, ("anthropic", b)) as proxy:
            b.script(faults.error_event("content_block_stop", kind="rate_limit_error", message=f"not {b.key} again"))
            streamed = await proxy.ask(stream=True)
            assert b"not ... again" in streamed.content and b.key not in streamed.text
            told = await proxy.client.get("/account-limits")
            assert "again" in told.text and b.key not in told.text
            assert all(a.key not in answer.text + str(answer.headers) for answer in shown)


def sockets() -> int:
    """Sockets of this process: the proxy, the sandbox and the clients are all in it."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return found


async def hang_up(proxy: Proxy, after: float, *, rst: bool) -> None:
    """Ask for a stream on a bare socket, and be gone after some seconds."""
    body = json.dumps(message(stream=True)).encode()
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        async with asyncio.timeout(after):
            while await reader.read(65536):
                pass
    except TimeoutError:
        pass
    if rst:
        found = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def test_a_client_that_hangs_up_closes_the_upstream_within_a_second(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            for fault in (faults.hang(), faults.stall("message_start"), faults.stall("content_block_delta")):
                a.script(fault)
                await hang_up(proxy, 0.1, rst=False)
                await box.until(lambda: last_message(a).closed_after is not None, 1.0)
                seat = proxy.gateway.pool.seats[0]
                assert (seat.in_flight, seat.breaker.failures, seat.address.failures) == (0, 0, 0), (
                    "and the account is not blamed"
                )
            assert (await proxy.ask()).status_code == 200


async def test_a_silent_upstream_is_left_for_another_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "HEAD_SECONDS", 0.3)
    async with Sandbox(["anthropic"]) as box:
        bad, good = box.account("anthropic", alias="bad"), box.account("anthropic", alias="good")
        async with running(tmp_path, box, ("anthropic", bad, {"tier": 1}), ("anthropic", good, {"tier": 2})) as proxy:
            bad.always(faults.hang())
            answer = await proxy.ask(stream=True)
            assert (answer.status_code, proxy.named(answer)) == (200, "good")
            await box.until(lambda: last_message(bad).closed_after is not None)


async def test_a_slow_upstream_has_all_the_time_there_is_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "HEAD_SECONDS", 0.3)
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(faults.hang(0.6))
            assert (await proxy.ask(stream=True)).headers["x-proxy-attempts"] == "1"


async def test_a_stream_that_was_cut_counts_against_its_seat_and_an_error_event_closes_what_it_names(
    tmp_path: Path,
) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a, {"tier": 1}), ("anthropic", b, {"tier": 2})) as proxy:
            a.script(faults.cut_after_block())
            await proxy.ask(stream=True)
            assert proxy.named(await proxy.ask()) == "b", "its upstream failed a moment ago"
            b.script(faults.error_event("content_block_stop", kind="rate_limit_error", message="too fast"))
            assert b"event: error" in (await proxy.ask(stream=True)).content
            after = await proxy.ask()
            assert (proxy.named(after), after.headers["x-proxy-attempts"]) == ("a", "1")
            assert (await proxy.limits())["b"]["limits"]["anthropic/claude-sonnet-5"]["limited_until"]


async def test_the_body_is_let_go_once_the_answer_has_begun(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            await proxy.ask("x" * 100_000)
            assert [each.ask.body for each in proxy.gateway.recent] == [b""]


async def test_what_an_upstream_quotes_of_a_request_is_not_in_the_state_file(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b)) as proxy:
            quoting = "cannot read: the words of a client"
            a.always(refusals.api_error(500, "api_error", quoting))
            b.always(refusals.not_found_model(quoting))
            for number in range(6):
                await proxy.ask(session=f"s{number}")
        at = settings(tmp_path).paths.state_file
        kept = SqliteStore(at, read_only=True)
        held = repr(kept.load(Instant(time.time())))
        kept.close()
        assert "HTTP 500" in held and "no such model" in held
        assert "the words of a client" not in held
        assert all(b"words of a client" not in each.read_bytes() for each in at.parent.glob("state.db*"))
