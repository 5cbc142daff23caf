"""One test on a bare socket for each kind of fault: the sandbox goes wrong exactly as it says."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from mcp_proxy.sandbox import Account, Fault, Place, Sandbox, faults, lies, refusals
from tests.mcp_proxy.sandbox.asking import Wire, body, events, headers, post, wire

STREAM = body(stream=True)
NOW = 1_790_000_000.0


async def meet(fault: Fault, sent: dict[str, Any] = STREAM, *, wait: float = 0.3) -> tuple[Wire, Account]:
    async with Sandbox(["anthropic"], clock=lambda: NOW) as box:
        account = box.account("anthropic")
        account.script(fault)
        got = await wire(box, account, sent, wait=wait)
        seen = account.received[0]
        assert (seen.fault, seen.wrong, account.pending()) == (fault.name, None, 0)
        await box.until(lambda: box.open == 0)
        again = await wire(box, account, sent, connection="close")
        assert again.status == 200, "a one-shot fault strikes once"
        return got, account


REFUSALS: list[tuple[Fault, int, str]] = [
    (refusals.overloaded(), 529, "overloaded_error"),
    (refusals.internal(), 500, "api_error"),
    (refusals.timed_out(), 504, "timeout_error"),
    (refusals.rate_limited(3), 429, "rate_limit_error"),
    (refusals.throttled(), 429, "rate_limit_error"),
    (refusals.plan_limit(), 429, "rate_limit_error"),
    (refusals.spend_limit(), 429, "enforced_spend_limit_reached"),
    (refusals.own_spend_limit(), 400, "You will regain access on 2026-09-24 at 00:00 UTC"),
    (refusals.billing(), 402, "billing_error"),
    (refusals.credit_low(), 400, "credit balance is too low"),
    (refusals.disabled_organization(), 400, "This organization has been disabled"),
    (refusals.unauthorized(), 401, "authentication_error"),
    (refusals.forbidden(), 403, "permission_error"),
    (refusals.not_found_model("claude-x"), 404, "model: claude-x"),
    (refusals.prompt_too_long(), 400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (refusals.of_type("conflict_error"), 409, "conflict_error"),
    (refusals.html_502(), 502, "<h1>502 Bad Gateway"),
    (refusals.html_413(), 413, "413 Request Entity Too Large"),
    (refusals.refuse(418, {"any": "thing"}, (("x-odd", "1"),)), 418, '{"any": "thing"}'),
    (refusals.zai_error(1302), 429, "[1302][High concurrency"),
    (refusals.zai_error(1308, resets_in=60), 429, "reset at 2026-09-21 22:14:20"),
    (refusals.zai_error(1261), 400, '"code": "1261"'),
    (refusals.zai_error(4711, "new", status=434), 434, "[4711][new]"),
]


@pytest.mark.parametrize(("fault", "status", "wording"), REFUSALS, ids=[case[0].name for case in REFUSALS])
async def test_a_refusal_is_whole_and_says_what_was_scripted(fault: Fault, status: int, wording: str) -> None:
    got, _ = await meet(fault)
    assert (got.status, got.ended) == (status, "silence"), "the connection stays open"
    assert wording in got.body.decode()


async def test_every_way_to_say_when_to_come_back() -> None:
    given = {
        "3": refusals.rate_limited(3),
        "1.5": refusals.rate_limited(1.5),
        "-5": refusals.rate_limited(-5),
        "9e99": refusals.rate_limited("9e99"),
        "soon": refusals.rate_limited("soon"),
        None: refusals.rate_limited(),
    }
    async with Sandbox(["anthropic"], clock=lambda: NOW) as box:
        account = box.account("anthropic")
        account.script(*given.values())
        for expected in given:
            assert (await post(box, account, body())).headers.get("retry-after") == expected
        account.script(refusals.rate_limited(http_date=90), refusals.rate_limited(http_date=-90))
        for seconds in (90, -90):
            written = (await post(box, account, body())).headers["retry-after"]
            assert parsedate_to_datetime(written).timestamp() == NOW + seconds
        account.script(refusals.rate_limited(ms=1500, should_retry=False))
        got = await post(box, account, body())
        assert (got.headers["retry-after-ms"], got.headers["x-should-retry"]) == ("1500", "false")


async def test_silence_before_the_head_for_a_while_and_for_ever() -> None:
    got, account = await meet(faults.hang(0.05))
    assert got.status == 200 and got.complete
    got, account = await meet(faults.hang(), wait=0.05)
    assert (got.data, got.ended) == (b"", "silence")
    assert account.received[0].answered is None
    assert 0.04 < (account.received[0].closed_after or 0) < 1


async def test_an_end_without_a_byte_by_fin_and_by_reset() -> None:
    got, _ = await meet(faults.drop())
    assert (got.data, got.ended) == (b"", "fin")
    got, _ = await meet(faults.reset())
    assert (got.data, got.ended) == (b"", "reset")


async def test_heads_that_are_none() -> None:
    for fault, size, start in (
        (faults.garbage(), 26, b"\x16\x03\x01"),
        (faults.bad_header(), 62, b"HTTP/1.1 200 OK\r\nthis is no"),
        (faults.half_head(), 37, b"HTTP/1.1 200 OK"),
        (faults.huge_head(), 1 << 20, b"HTTP/1.1 200 OK\r\nx-padding: aaa"),
        (faults.many_headers(), 5000 * 10, b"HTTP/1.1 200 OK\r\nx-field-0: a"),
        (faults.raw(b"HTTP/1.1 99 ?\r\n\r\n"), 15, b"HTTP/1.1 99"),
    ):
        got, _ = await meet(fault)
        assert got.ended == "fin"
        assert got.data.startswith(start) and len(got.data) >= size, (fault, len(got.data))


async def test_a_success_that_is_no_answer() -> None:
    for fault, kind, text in (
        (faults.html(), b"text/html", b"Please sign in"),
        (faults.empty(), b"application/json", b""),
        (faults.not_found_200(), b"application/json", b'{"code": 500, "msg": "404 NOT_FOUND", "success": false}'),
        (faults.json_instead({"a": 1}), b"application/json", b'{"a": 1}'),
    ):
        got, _ = await meet(fault)
        assert (got.status, got.ended) == (200, "silence")
        assert kind in got.head and text in got.body and len(got.body) >= len(text)


async def test_a_redirect_names_its_goal() -> None:
    got, _ = await meet(faults.redirect("http://169.254.1.1/v1/messages"))
    assert got.status == 307 and b"location: http://169.254.1.1/v1/messages" in got.head


async def test_a_body_cut_after_some_bytes_by_fin_by_reset_and_within_a_chunk() -> None:
    for fault, ended in ((faults.cut(200), "fin"), (faults.cut(200, reset=True), "reset")):
        got, _ = await meet(fault)
        assert (len(got.dechunked()), got.ended, got.complete) == (200, ended, False)
    got, _ = await meet(faults.cut(200, mid_chunk=True))
    assert got.data.endswith(b"400\r\nevent: content_bl")
    got, _ = await meet(faults.cut(50), body())
    assert len(got.body) == 50 and b"content-length: " in got.head


async def test_a_stream_cut_at_an_event() -> None:
    for fault, last, ended in (
        (faults.cut_before_content(), "message_start", "fin"),
        (faults.cut_events("content_block_start", reset=True), "content_block_start", "reset"),
        (faults.cut_events(4), "content_block_delta", "fin"),
        (faults.cut_after_block(), "content_block_stop", "fin"),
    ):
        got, _ = await meet(fault)
        assert events(got.dechunked())[-1]["type"] == last
        assert (got.complete, got.ended) == (False, ended)


async def test_a_stream_that_ends_properly_but_too_early() -> None:
    got, _ = await meet(faults.early_end("content_block_stop"))
    assert got.complete and got.ended == "silence"
    assert events(got.dechunked())[-1]["type"] == "content_block_stop"


async def test_an_error_event_before_the_first_content_and_in_the_middle() -> None:
    for after, count in ((0, 1), ("message_start", 2), (5, 6)):
        got, _ = await meet(faults.error_event(after))
        found = events(got.dechunked())
        assert len(found) == count and got.complete
        assert found[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    own = {"error": {"code": "1305", "message": "[1305][busy]"}}
    got, _ = await meet(faults.error_event(3, body=own))
    assert events(got.dechunked())[-1] == {"type": "error", **own}


async def test_a_stream_that_falls_silent_and_goes_on_or_does_not() -> None:
    got, _ = await meet(faults.stall("content_block_start", 0.05))
    assert got.complete and events(got.dechunked())[-1]["type"] == "message_stop"
    got, account = await meet(faults.stall("content_block_start"), wait=0.05)
    assert got.ended == "silence" and events(got.dechunked())[-1]["type"] == "content_block_start"
    assert account.received[0].closed_after is not None and not account.received[0].done
    got, _ = await meet(faults.stall_bytes(100, 0.05))
    assert got.complete and events(got.dechunked())[-1]["type"] == "message_stop"
    got, _ = await meet(faults.stall_bytes(100), wait=0.05)
    assert len(got.dechunked()) == 100


async def test_a_drip_comes_byte_by_byte_and_may_never_end() -> None:
    began = asyncio.get_running_loop().time()
    got, _ = await meet(faults.drip(0.001, size=50))
    assert got.complete and events(got.dechunked())[-1]["type"] == "message_stop"
    assert got.body.startswith(b"32\r\nevent: message_start")
    assert asyncio.get_running_loop().time() - began > 0.02
    got, _ = await meet(faults.shredded())
    assert got.body.startswith(b"1\r\ne\r\n1\r\nv\r\n") and events(got.dechunked())[-1]["type"] == "message_stop"
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic")
        account.script(faults.drip(0.001, endless=True, size=2000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await wire(box, account, STREAM)
        await box.until(lambda: account.received[0].closed_after is not None)


async def test_a_promise_to_keep_the_connection_that_is_not_kept() -> None:
    got, _ = await meet(faults.goodbye())
    assert got.complete and got.ended == "fin" and b"connection: close" not in got.head


async def test_an_interim_answer_comes_before_the_answer() -> None:
    got, account = await meet(faults.hints())
    assert got.status == 103 and b"HTTP/1.1 200 OK" in got.data
    assert account.received[0].answered == 200


async def test_lengths_that_lie() -> None:
    got, _ = await meet(lies.wrong_length(10), body())
    assert got.ended == "fin" and f"content-length: {len(got.body) + 10}".encode() in got.head
    got, _ = await meet(lies.wrong_length(-10), body())
    assert f"content-length: {len(got.body) - 10}".encode() in got.head
    got, _ = await meet(lies.two_lengths())
    assert b"content-length: 7" in got.head and b"transfer-encoding: chunked" in got.head
    got, _ = await meet(lies.until_close(), body())
    assert got.ended == "fin" and b"content-length" not in got.head and json.loads(got.body)["type"] == "message"


async def test_coding_that_nobody_asked_for() -> None:
    got, _ = await meet(lies.gzipped(), body())
    assert b"content-encoding: gzip" in got.head and json.loads(gzip.decompress(got.body))["type"] == "message"
    got, _ = await meet(lies.gzipped(keep=0.5), body())
    with pytest.raises(EOFError):
        gzip.decompress(got.body)
    got, _ = await meet(lies.gzipped(declared=False), body())
    assert b"content-encoding" not in got.head and got.body[:2] == b"\x1f\x8b"
    got, _ = await meet(lies.not_gzipped(), body())
    assert b"content-encoding: gzip" in got.head and json.loads(got.body)["type"] == "message"
    got, _ = await meet(lies.gzip_bomb(4 << 20), body())
    assert len(got.body) < 10_000 and len(zlib.decompress(got.body, 31)) == 4 << 20


async def test_the_wrong_kind_of_answer() -> None:
    got, _ = await meet(lies.json_for_stream())
    message = json.loads(got.body)
    assert b"application/json" in got.head and message["stop_reason"] == "end_turn"
    assert "giraffe" in message["content"][0]["text"]
    got, _ = await meet(lies.stream_for_json(), body())
    assert b"text/event-stream" in got.head and json.loads(got.body)["type"] == "message"
    got, _ = await meet(lies.truncated_json(), body())
    assert f"content-length: {len(got.body)}".encode() in got.head
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(got.body)
    got, _ = await meet(lies.no_content_type(), body())
    assert b"content-type" not in got.head
    got, _ = await meet(lies.set_cookie())
    assert b"set-cookie: sandbox=1" in got.head and got.complete


async def test_a_flood_is_held_back_by_a_client_that_does_not_read() -> None:
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic")
        account.script(lies.flood(50 << 20))
        port = int(box.url("anthropic").rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        sent = json.dumps(STREAM).encode()
        named = {"host": f"127.0.0.1:{port}", **headers(account), "content-length": str(len(sent))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        writer.write(f"POST /v1/messages HTTP/1.1\r\n{lines}\r\n".encode() + sent)
        assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.1)
        assert not account.received[0].done, "it waits for the reader"
        writer.transport.abort()
        await box.until(lambda: account.received[0].closed_after is not None)
        assert account.received[0].sent < 20 << 20


async def test_a_standing_fault_stays_until_it_is_taken_away_and_is_met_by_verification_too() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.always(refusals.overloaded())
        account.script(refusals.internal())
        statuses = [(await post(box, account, body())).status_code for _ in range(3)]
        assert statuses == [500, 529, 529]
        assert (await post(box, account, {})).status_code == 529
        account.well()
        assert (await post(box, account, body())).status_code == 200


async def test_a_one_shot_fault_waits_for_a_request_that_is_in_order() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.script(refusals.overloaded())
        assert (await post(box, account, {})).status_code == 400
        assert (await post(box, account, body())).status_code == 529


async def test_a_fault_belongs_to_one_endpoint_or_to_all() -> None:
    async with Sandbox() as box:
        account = box.account("zai")
        counted = {"model": "glm-4.7", "messages": body()["messages"]}
        account.script(refusals.refuse(404), on=Place.COUNT_TOKENS)
        assert (await post(box, account, body("glm-4.7"), at="zai")).status_code == 200
        assert (await post(box, account, counted, "/v1/messages/count_tokens", "zai")).status_code == 404
        assert (await post(box, account, counted, "/v1/messages/count_tokens", "zai")).json()["input_tokens"] > 0
        account.always(refusals.html_502(), on=None)
        assert (await post(box, account, counted, "/v1/messages/count_tokens", "zai")).status_code == 502


async def test_a_host_can_be_ill_as_a_whole() -> None:
    async with Sandbox() as box:
        one, two, other = box.account("anthropic"), box.account("anthropic"), box.account("zai")
        box.host("anthropic").always(refusals.html_502(), on=None)
        assert [(await post(box, account, body())).status_code for account in (one, two)] == [502, 502]
        assert (await post(box, one, body(), authorization="Bearer nobody")).status_code == 502
        assert (await post(box, other, body("glm-4.7"), at="zai")).status_code == 200
        box.host("anthropic").well()
        box.host("anthropic").script(refusals.internal())
        assert [(await post(box, account, body())).status_code for account in (one, two)] == [500, 200]


async def test_a_fault_that_replaces_the_answer_does_not_use_up_the_window() -> None:
    async with Sandbox() as box:
        account = box.account("zai")
        account.script(refusals.zai_error(1302), faults.cut_before_content())
        await wire(box, account, body("glm-4.7", stream=True), "zai", connection="close")
        assert account.windows["5h"].used == 0
        await wire(box, account, body("glm-4.7", stream=True), "zai", connection="close")
        assert account.windows["5h"].used > 0
