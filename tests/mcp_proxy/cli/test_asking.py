"""`status`, `limits` and `models` ask a running server and say what it said."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_proxy.cli import limits, models, reset, status, usage, why
from tests.mcp_proxy.cli.conftest import Proxy
from tests.mcp_proxy.cli.server import KEY, Canned, canned

LIMITS = {
    "schema_version": 1,
    "models": ["zai/glm-4.6"],
    "accounts": [
        {"id": "a1", "provider": "zai", "label": "work", "limits": {"zai/glm-4.6": {}}},
        {"id": "a2", "provider": "kimi", "label": "old", "limits": {}},
        {"id": "a3", "provider": "zai", "label": "off", "status": "disabled", "limits": {"zai/glm-4.6": {}}},
    ],
}
ANSWERS: dict[str, tuple[int, Any]] = {
    "/health": (200, {"status": "ok", "totals": {"accounts": 2, "rate_limited": 1, "invalid": 0}}),
    "/livez": (200, {"status": "ok"}),
    "/account-limits": (200, LIMITS),
    "/account-limits?format=table": (200, "Account Limits (now)\nö\n"),
    "/v1/models?limit=1000": (
        200,
        {
            "data": [
                {
                    "id": "glm-4.6",
                    "display_name": "GLM",
                    "served_by": ["zai/a1"],
                    "quota": {"remaining_fraction": 0.8, "resets_at": None},
                }
            ],
            "has_more": True,
            "last_id": "glm-4.6",
        },
    ),
    "/v1/models?limit=1000&after_id=glm-4.6": (200, {"data": [{"id": "other"}], "has_more": False, "last_id": "other"}),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    with canned(dict(ANSWERS), open_paths=("/livez",)) as found:
        monkeypatch.setenv("MCP_PROXY_URL", found.url)
        monkeypatch.setenv("PROXY_API_KEY", KEY)
        yield found


def closed_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.mark.parametrize(("state", "http", "code"), [("ok", 200, 0), ("degraded", 200, 1), ("down", 503, 1)])
def test_status_says_the_health_and_ends_with_it(
    proxy: Proxy, server: Canned, state: str, http: int, code: int
) -> None:
    server.answers["/health"] = (http, {"status": state})
    assert proxy("status") == (code, f"{state}: {server.url}\n", "")


def test_status_counts_accounts_where_it_may_see_them(proxy: Proxy, server: Canned) -> None:
    assert proxy("status").out == f"ok: {server.url} (2 accounts, 1 rate limited)\n"
    document = json.loads(proxy("status", "--json").out)
    assert (document["schema_version"], document["status"], document["url"]) == (1, "ok", server.url)


def test_status_names_every_breaker_that_is_not_closed(proxy: Proxy, server: Canned) -> None:
    well = {"state": "closed", "since": None, "until": None, "error": None}
    shut = {"state": "open", "since": "2026-11-20T12:00:00Z", "until": "2026-11-20T12:00:10Z", "error": "down"}
    accounts = [
        {"provider": "zai", "label": "work", "breaker": well},
        {"provider": "zai", "label": "old", "breaker": shut | {"state": "half_open", "until": None}},
    ]
    upstreams = [{"name": "zai https://api.z.ai", **shut}, {"name": "kimi https://kimi.test", **well}]
    server.answers["/health"] = (200, {"status": "degraded", "accounts": accounts, "upstreams": upstreams})
    assert proxy("status").out.splitlines()[1:] == [
        "  zai/old: half-open since 2026-11-20T12:00:00Z: down",
        "  zai https://api.z.ai: open since 2026-11-20T12:00:00Z, until 2026-11-20T12:00:10Z: down",
    ]


RESET = {"reset": [{"id": "a", "provider": "zai", "label": "work", "forgotten": ["5h", "breaker"]},
                   {"id": "b", "provider": "zai", "label": "old", "forgotten": []}]}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ((), {}),
        (("--provider", "zai"), {"provider": "zai"}),
        (("--account", "zai/work"), {"account": "zai/work"}),
        (("--provider", "zai", "--account", "work"), {"provider": "zai", "account": "work"}),
    ],
)
def test_reset_asks_for_what_is_named_and_says_what_was_forgotten(
    proxy: Proxy, server: Canned, words: tuple[str, ...], sent: dict[str, str]
) -> None:
    server.answers["/reset"] = (200, RESET)
    assert proxy("reset", *words) == (0, "zai/work: 5h, breaker\nzai/old: nothing to forget\n", "")
    assert json.loads(server.sent[-1]) == sent and server.asked[-1] == ("/reset", KEY)
    assert json.loads(proxy("reset", *words, "--json").out) == {"schema_version": 1, **RESET}


def test_reset_by_a_label_of_several_accounts_lists_them(proxy: Proxy, server: Canned) -> None:
    said = "account: same fits several: kimi/same, zai/same"
    server.answers["/reset"] = (400, {"type": "error", "error": {"message": said}})
    ended = proxy("reset", "--account", "same")
    assert (ended.code, ended.out) == (2, "") and said in ended.err


def test_reset_of_what_is_not_there_ends_with_3(proxy: Proxy, server: Canned) -> None:
    server.answers["/reset"] = (404, {"type": "error", "error": {}})
    ended = proxy("reset", "--account", "nobody")
    assert (ended.code, ended.out) == (3, "") and "nothing matched nobody" in ended.err


@pytest.mark.parametrize("command", ["status", "limits", "models", "usage", "why", "reset"])
def test_nobody_there_ends_with_6(proxy: Proxy, command: str) -> None:
    ended = proxy(command, "--url", f"http://127.0.0.1:{closed_port()}")
    assert (ended.code, ended.out) == (6, "")
    assert "no server reachable at http://127.0.0.1" in ended.err and len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["status", "limits", "models", "usage", "why", "reset"])
def test_a_refused_key_ends_with_4(proxy: Proxy, server: Canned, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("PROXY_API_KEY", "sk-fake-other-key")
    ended = proxy(command)
    assert ended.code == 4 and "PROXY_API_KEY" in ended.err and "sk-fake-other-key" not in ended.err


def test_a_missing_key_is_said_to_be_missing(proxy: Proxy, server: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXY_API_KEY")
    ended = proxy("limits")
    assert ended.code == 4 and "set PROXY_API_KEY" in ended.err


def test_live_asks_the_process_only_and_shows_no_key(proxy: Proxy, server: Canned) -> None:
    assert proxy("status", "--live") == (0, f"live: {server.url}\n", "")
    assert server.asked == [("/livez", None)]
    server.answers["/livez"] = (503, {})
    assert proxy("status", "--live").code == 1
    assert json.loads(proxy("status", "--live", "--json").out)["live"] is False


def test_limits_prints_the_servers_table_or_document(proxy: Proxy, server: Canned) -> None:
    assert proxy("limits") == (0, "Account Limits (now)\nö\n", "")
    assert json.loads(proxy("limits", "--json").out) == LIMITS


def test_models_lists_all_pages_with_who_serves_them(proxy: Proxy, server: Canned) -> None:
    assert proxy("models").out == "glm-4.6   80%  zai/work\nother       ?\n"
    document = json.loads(proxy("models", "--json").out)
    assert [model["id"] for model in document["models"]] == ["glm-4.6", "other"]
    assert document["models"][0]["served_by"] == ["zai/work"]


@pytest.mark.parametrize("body", ["<html>", "[1]", '"x"', ""])
def test_another_program_at_that_address_is_told_apart(proxy: Proxy, server: Canned, body: str) -> None:
    server.answers["/health"] = (200, body)
    ended = proxy("status")
    assert ended.code == 1 and "not from this program" in ended.err


def test_an_unexpected_status_fails_with_its_number(proxy: Proxy, server: Canned) -> None:
    server.answers["/account-limits?format=table"] = (500, "")
    ended = proxy("limits")
    assert ended.code == 1 and "HTTP 500" in ended.err


def test_something_that_does_not_speak_http_counts_as_not_reachable(proxy: Proxy) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        import threading

        def hang_up() -> None:
            taken, _ = mute.accept()
            taken.sendall(b"SSH-2.0-x\r\n")
            taken.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        ended = proxy("status", "--url", f"http://127.0.0.1:{mute.getsockname()[1]}")
        thread.join()
    assert ended.code == 6


SPENT = {
    "requests": 1200, "failovers": 3, "errors": 0,
    "tokens": {"input": 5000, "cache_read": 0, "cache_write": 0, "output": 70, "reasoning": None},
    "cost_usd": 1234.5, "unpriced": ["odd"], "median_seconds": {"first_content": 0.5, "total": None},
}  # fmt: skip
USAGE = {
    "schema_version": 1, "since": "2026-11-15T00:00:00Z", "days": 7, "by": "account", "provider": None,
    "cost": {"note": "what these tokens cost by list price", "prices_of": "2026-08"},
    "groups": [{"group": "a1", "provider": "zai", "label": "work", **SPENT}],
    "total": SPENT,
}  # fmt: skip


def test_usage_is_a_table_that_says_what_its_cost_means(proxy: Proxy, server: Canned) -> None:
    server.answers["/usage?days=7&by=account"] = (200, USAGE)
    code, out, _ = proxy("usage", "--by", "account")
    assert code == 0
    said, head, *rows = out.splitlines()[:4]
    assert said == "7 days (since 2026-11-15T00:00:00Z)"
    columns = "Requests  Failovers  Errors  Input  Cache read  Cache write  Output  Reasoning        Cost  First  Total"
    counted = "   1,200          3       0  5,000           0            0      70          -  $1,234.50+   0.50      -"
    assert head == f"Account   {columns}" and rows == [f"zai/work  {counted}", f"total     {counted}"]
    assert "list price" in out and "odd" in out.splitlines()[-1]
    assert json.loads(proxy("usage", "--by", "account", "--json").out)["total"] == SPENT


@pytest.mark.parametrize("flag", ["--provider", "-p", "-b"])
def test_usage_of_one_provider(proxy: Proxy, server: Canned, flag: str) -> None:
    server.answers["/usage?days=7&by=model&provider=zai"] = (200, USAGE)
    assert proxy("usage", flag, "zai").code == 0


@pytest.mark.parametrize("asked", [limits, models, reset, status, usage, why], ids=lambda each: each.app.name[0])
def test_what_stands_under_a_commands_help_fits_a_terminal(asked: Any) -> None:
    assert max(map(len, asked.app.help_epilogue.splitlines())) <= 80


def test_an_empty_request_id_is_not_the_newest_request(proxy: Proxy, server: Canned) -> None:
    server.answers["/why/last"] = (200, {**WHY})
    ended = proxy("why", "")
    assert ended.code == 2 and "empty" in ended.err and not server.asked


def test_usage_fits_a_terminal() -> None:
    lines = list(usage.shown(USAGE, 80))
    assert max(map(len, lines)) <= 80
    assert [line.split()[:2] for line in lines[1:7:4]] == [["Account", "Requests"], ["Account", "Input"]]
    assert lines[2].startswith("zai/work ") and "$1,234.50+" in lines[2] and "5,000" in lines[6]
    long = [{**USAGE["groups"][0], "label": "somebody.with.a.long.name@example.com"}]
    assert max(map(len, usage.shown({**USAGE, "groups": long}, 80))) <= 80
    assert len(list(usage.shown(USAGE, 120))) == len(list(usage.shown(USAGE))) == len(lines) - 4


def test_what_costs_less_than_a_cent_is_not_free() -> None:
    for cost, told in ((0.0014, "$0.0014+"), (0, "?"), (1.239, "$1.24+"), (None, "?")):
        lines = list(usage.shown({**USAGE, "total": {**SPENT, "cost_usd": cost}}))
        assert lines[3].split()[-3] == told


def test_usage_of_nothing_ends_with_3(proxy: Proxy, server: Canned) -> None:
    server.answers["/usage?days=2&by=model&provider=kimi"] = (200, {**USAGE, "groups": []})
    ended = proxy("usage", "-d", "2", "-b", "kimi")
    assert ended.code == 3 and "nothing was used" in ended.out
    assert proxy("usage", "-d", "2", "-b", "kimi", "--json").code == 3
    assert proxy("usage", "--by", "label").code == proxy("usage", "-d", "x").code == proxy("usage", "-d", "0").code == 2


WHY = {
    "schema_version": 1, "request_id": "req_1", "upstream_request_id": "up_1", "begun": "2026-11-20T12:00:00Z",
    "asked": "opus", "outcome": "ok", "status": 200, "reason": "failover", "waited": False,
    "seconds": {"first_content": 0.5, "total": 2.0},
    "tokens": {"input": 5, "cache_read": 0, "cache_write": 0, "output": 7, "reasoning": None},
    "accounts": [
        {"account": "a2", "provider": "zai", "label": "work", "verdict": "served", "reason": "failover",
         "detail": "answered after 0.40 s", "until": None, "model": "glm", "rank": {"tier": 2, "lot": 9}},
        {"account": "a1", "provider": "", "label": None, "verdict": "refused", "reason": "limited", "detail": None,
         "until": "2026-11-20T13:00:00Z", "model": None, "rank": None},
    ],
}  # fmt: skip


def test_why_tells_the_chosen_one_first_and_of_each_its_reason(proxy: Proxy, server: Canned) -> None:
    server.answers["/why/last"] = server.answers["/why/up%2F1"] = (200, WHY)
    code, out, _ = proxy("why")
    assert (code, proxy("why", "--last").out, proxy("why", "up/1").out) == (0, out, out)
    assert out.splitlines() == [
        "req_1  2026-11-20T12:00:00Z  opus",
        "upstream: up_1",
        "ok after 2.00 s, first content after 0.50 s; failover",
        "tokens: input 5, cache_read 0, cache_write 0, output 7",
        "",
        "Account   Model  Verdict  Reason    Detail",
        "zai/work  glm    served   failover  answered after 0.40 s; tier=2",
        "a1        -      refused  limited   until 2026-11-20T13:00:00Z",
    ]
    assert json.loads(proxy("why", "--json").out) == WHY


def test_why_fits_a_terminal_and_says_a_thing_once() -> None:
    rank = {"soft_limited": 0, "tier": 2}
    wide = [{**WHY["accounts"][0], "model": "m" * 50, "rank": rank}, WHY["accounts"][1]]
    lines = list(why.shown({**WHY, "accounts": wide, "reason": "waited", "waited": True}, 80))
    assert lines[2] == "ok after 2.00 s, first content after 0.50 s; waited"
    assert max(map(len, lines)) <= 80 and lines[7] == "    answered after 0.40 s; tier=2"
    nobody = {**WHY, "accounts": WHY["accounts"][1:], "waited": True}
    assert list(why.shown(nobody))[2] == "ok after 2.00 s, first content after 0.50 s; waited"


def test_why_of_a_request_that_nobody_made_ends_with_3(proxy: Proxy, server: Canned) -> None:
    server.answers["/why/req_9"] = (404, {"error": {"message": "no such request is remembered"}})
    assert proxy("why", "req_9") == (3, "", "proxy: no such request is remembered\n")
    assert proxy("why").code == 3, "a server of an older version knows no such path"
    assert proxy("why", "--last", "req_9").code == 2
