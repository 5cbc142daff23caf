"""The text form of `/account-limits`: golden text, and columns that line up whatever the names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.cells import cell_len

from mcp_proxy.server.limits_table import WIDTH, cell, render, waiting

NOW = datetime(2026, 11, 20, 13, 0, 0, tzinfo=timezone(timedelta(hours=1)))


def limit(remaining: float | None, *, until: str | None = None, resets: str | None = None, soft: bool = False) -> Any:
    return {
        "remaining": "?" if remaining is None else f"{round(remaining * 100)}%",
        "remaining_fraction": remaining,
        "resets_at": resets or until,
        "limited_until": until,
        "soft_limited": soft,
        "windows": [],
    }


def account(label: str, provider: str = "zai", status: str = "ok", **limits: Any) -> dict[str, Any]:
    return {
        "id": label,
        "provider": provider,
        "label": label,
        "status": status,
        "last_used": None,
        "error": None,
        "limits": limits,
    }


def document(*accounts: dict[str, Any]) -> dict[str, Any]:
    counts = dict.fromkeys(("available", "rate_limited", "soft_limited", "invalid", "disabled", "unknown"), 0)
    models = sorted({model for one in accounts for model in one["limits"]})
    return {
        "schema_version": 1,
        "timestamp": "2026-11-20T12:00:00Z",
        "totals": {"accounts": len(accounts), **counts},
        "models": models,
        "accounts": list(accounts),
    }


def contracts_example() -> dict[str, Any]:
    until = "2026-11-20T13:02:03Z"
    someone = account("someone", "antigravity", "rate_limited")
    someone["last_used"] = "2026-11-20T11:59:00Z"
    someone["limits"] = {"antigravity/claude-sonnet-4-6": limit(0.0, until=until)}
    work = account("work", "zai", "soft_limited")
    work["limits"] = {
        "zai/glm-4.6": limit(0.2, resets="2026-11-20T12:12:30Z", soft=True),
        "zai/glm-4.5-air": limit(None),
        "zai/glm-4.7": limit(0.8),
    }
    broken = account("old", "kimi", "invalid")
    broken["error"] = "key revoked\x1b[31m\nby the provider"
    found = document(someone, work, broken)
    found["totals"] = {
        "accounts": 3,
        "available": 1,
        "rate_limited": 1,
        "soft_limited": 1,
        "invalid": 1,
        "disabled": 0,
        "unknown": 0,
    }
    return found


GOLDEN = """\
Account Limits (2026-11-20 13:00:00)
3 accounts: 1 available, 1 rate limited, 1 soft limited, 1 invalid, 0 disabled, 0 unknown

Account  Provider     Status        Last used         Resets in
-------  -----------  ------------  ----------------  ---------
someone  antigravity  rate_limited  2026-11-20 12:59  1h02m
work     zai          soft_limited  never             12m
old      kimi         invalid       never             -
    error: key revoked[31m by the provider

Model                          someone          work      old
-----------------------------  ---------------  --------  ---
antigravity/claude-sonnet-4-6  0% (wait 1h02m)  -         -
zai/glm-4.5-air                -                ?         -
zai/glm-4.6                    -                20% soft  -
zai/glm-4.7                    -                80%       -
"""


def test_the_whole_text_is_as_the_contract_says() -> None:
    assert render(contracts_example(), NOW) == GOLDEN


def test_without_accounts_there_is_no_table() -> None:
    counts = "0 available, 0 rate limited, 0 soft limited, 0 invalid, 0 disabled, 0 unknown"
    assert render(document(), NOW) == f"Account Limits (2026-11-20 13:00:00)\n0 accounts: {counts}\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3723, "1h02m"),
        (86_400, "1d00h"),
        (183_600, "2d03h"),
    ],
)
def test_a_wait_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert waiting(seconds) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "-"),
        (limit(None), "?"),
        (limit(0.8), "80%"),
        (limit(0.2, soft=True), "20% soft"),
        (limit(0.0, until="2026-11-20T13:02:03Z", soft=True), "0% (wait 1h02m)"),
        (limit(None, until="2026-11-20T12:00:45Z"), "? (wait 45s)"),
        (limit(0.5, until="2026-11-20T11:59:59Z"), "50%"),
    ],
)
def test_a_cell_says_one_thing(given: Any, text: str) -> None:
    assert cell(given, NOW) == text
    assert cell(given, NOW.astimezone(UTC)) == text


def tables(text: str) -> list[list[str]]:
    return [block.splitlines() for block in text.split("\n\n")[1:]]


def columns_line_up(table: list[str]) -> bool:
    """Whether every gap of the rule is blank in every line, measured in terminal cells."""
    gaps = [place for place, mark in enumerate(table[1]) if mark == " "]

    def at(line: str, place: int) -> str:
        for end in range(1, len(line) + 1):
            if cell_len(line[:end]) > place:
                return line[end - 1]
        return " "

    return all(at(line, gap) == " " for line in table for gap in gaps)


@pytest.mark.parametrize("label", ["a", "a-very-long-label-" * 3, "日本語アカウント", "é́combining", "👩‍💻 dev", ""])
def test_columns_line_up_however_names_look(label: str) -> None:
    found = document(account(label, **{"zai/m": limit(0.5)}), account("other", **{"zai/wide-モデル": limit(0.5)}))
    for table in tables(render(found, NOW)):
        assert columns_line_up(table), "\n".join(table)


def test_many_accounts_wrap_into_tables_of_at_most_the_width() -> None:
    names = [f"account-number-{number:02}" for number in range(20)]
    found = document(*(account(name, **{"zai/glm-4.6": limit(0.5), "zai/x": limit(0.1)}) for name in names))
    text = render(found, NOW)
    wide = [line for line in text.splitlines() if cell_len(line) > WIDTH]
    assert not wide
    models = [table for table in tables(text) if table[0].startswith("Model")]
    assert len(models) > 1
    assert [name for table in models for name in table[0].split()[1:]] == names
    assert all(len(table) == 4 and columns_line_up(table) for table in models)


def test_a_name_wider_than_a_table_is_cut_not_the_table_broken() -> None:
    text = render(document(account("x" * 300, **{"zai/m": limit(0.5)}), account("y")), NOW)
    models = [table for table in tables(text) if table[0].startswith("Model")]
    assert all(cell_len(line) <= WIDTH for table in models for line in table)
    assert "…" in models[0][0]


def test_two_accounts_of_one_label_are_told_apart() -> None:
    text = render(document(account("work", "zai", m=limit(0.5)), account("work", "kimi", m=limit(0.5))), NOW)
    assert "zai/work" in text and "kimi/work" in text


def test_nothing_in_it_moves_a_terminals_cursor() -> None:
    nasty = account("a\x1b[2J\r\nb\u202ec", **{"zai/\x07m": limit(0.5)})
    nasty["error"] = "\x9b31m" + "long " * 60
    text = render(document(nasty), NOW)
    assert not [letter for letter in text if letter != "\n" and not letter.isprintable()]
    assert all(cell_len(line) <= WIDTH for line in text.splitlines())
