"""The text table of `/account-limits`, from its JSON document. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size

WIDTH = 120
"""Terminal columns of the widest table."""

GAP = "  "
HEADINGS = ("Account", "Provider", "Status", "Last used", "Resets in")
COUNTS = ("available", "rate_limited", "soft_limited", "invalid", "disabled", "unknown")


def render(document: Mapping[str, Any], local_now: datetime) -> str:
    """The table as text that ends with a newline.

    document   what `/account-limits` answers (contract §4)
    local_now  now, in the zone that times are shown in
    """
    accounts = list(document["accounts"])
    lines = [f"Account Limits ({local_now:%Y-%m-%d %H:%M:%S})", _totals(document["totals"])]
    if accounts:
        lines += ["", *_accounts(accounts, local_now)]
        for columns in _model_tables(document["models"], accounts, local_now):
            lines += ["", *columns]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def waiting(seconds: float) -> str:
    """A length of time in its two largest units: `45s`, `12m`, `1h02m`, `2d03h`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m" if minutes else f"{whole}s"


def cell(limit: Mapping[str, Any] | None, local_now: datetime) -> str:
    """One model of one account: `80%`, `0% (wait 1h02m)`, `20% soft`, `?`, or `-` where it is not served."""
    if limit is None:
        return "-"
    until = _moment(limit.get("limited_until"), local_now)
    if until is not None and until > local_now:
        return f"{limit['remaining']} (wait {waiting((until - local_now).total_seconds())})"
    return f"{limit['remaining']} soft" if limit.get("soft_limited") else str(limit["remaining"])


def _totals(totals: Mapping[str, int]) -> str:
    counts = ", ".join(f"{totals.get(name, 0)} {name.replace('_', ' ')}" for name in COUNTS)
    one = totals["accounts"] == 1
    return f"{totals['accounts']} account{'' if one else 's'}: {counts}"


def _accounts(accounts: Sequence[Mapping[str, Any]], local_now: datetime) -> Iterator[str]:
    rows = [
        (
            _plain(account["label"]),
            _plain(account["provider"]),
            account["status"],
            _clock(account.get("last_used"), local_now),
            _resets_in(account, local_now),
        )
        for account in accounts
    ]
    head, rule, *body = _aligned([HEADINGS, *rows])
    yield head
    yield rule
    for line, account in zip(body, accounts, strict=True):
        yield line
        if account.get("error"):
            yield _cut(f"    error: {_plain(account['error'])}", WIDTH)


def _model_tables(
    models: Sequence[str], accounts: Sequence[Mapping[str, Any]], local_now: datetime
) -> Iterator[list[str]]:
    """A row per model, a column per account; as many tables as it takes to stay within the width."""
    if not models:
        return
    names = [_plain(model) for model in models]
    first = ["Model", *names]
    used = _widest(first)
    columns = [
        [name, *(cell(account["limits"].get(model), local_now) for model in models)]
        for name, account in zip(_names(accounts), accounts, strict=True)
    ]
    room = max(WIDTH - used, _widest(HEADINGS))
    table, width = [first], used
    for column in columns:
        needed = min(len(GAP) + _widest(column), room)
        if len(table) > 1 and width + needed > WIDTH:
            yield _aligned(list(zip(*table, strict=True)))
            table, width = [first], used
        table.append([_cut(text, needed - len(GAP)) for text in column])
        width += needed
    yield _aligned(list(zip(*table, strict=True)))


def _names(accounts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The labels; with the provider where two accounts share one."""
    count = Counter(account["label"] for account in accounts)
    return [
        _plain(account["label"] if count[account["label"]] == 1 else f"{account['provider']}/{account['label']}")
        for account in accounts
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under a heading and a rule, every column as wide as its widest cell."""
    widths = [_widest(column) for column in zip(*rows, strict=True)]
    lines = [GAP.join(set_cell_size(text, width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return [lines[0], GAP.join("-" * width for width in widths), *lines[1:]]


def _widest(texts: Iterable[str]) -> int:
    return max(cell_len(text) for text in texts)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _plain(text: str) -> str:
    """Without what would move a terminal's cursor: a label is a person's own text, an error an upstream's."""
    spaced = " ".join(str(text).split())
    return "".join(letter for letter in spaced if unicodedata.category(letter) not in ("Cc", "Cf", "Cs"))


def _moment(text: str | None, local_now: datetime) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(local_now.tzinfo)


def _clock(text: str | None, local_now: datetime) -> str:
    moment = _moment(text, local_now)
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _resets_in(account: Mapping[str, Any], local_now: datetime) -> str:
    """Until the first of its models opens again; where none is closed, until its first window starts over."""
    limits = account["limits"].values()
    for key in ("limited_until", "resets_at"):
        moments = [moment for limit in limits if (moment := _moment(limit.get(key), local_now)) and moment > local_now]
        if moments:
            return waiting((min(moments) - local_now).total_seconds())
    return "-"
