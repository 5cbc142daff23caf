"""`proxy usage`: tokens, cost, failovers and times, summed up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from cyclopts import App, Parameter

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.client import Server, server_at
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, Url, say, say_json, table, width

app = App(
    name="usage",
    help_epilogue="""\
Examples:
  proxy usage
  proxy usage --days 30 --by day
  proxy usage -d 1 --by account -p zai
  proxy usage --json | jq '.total.cost_usd'

Days are this machine's, today among them. The cost is what the tokens would
have cost by list price: with a plan you do not pay by token. Where nobody knows
a model's price its tokens are counted and not priced, and it is named; [prices]
in the config file sets one.

The key is read from PROXY_API_KEY or PROXY_API_KEY_FILE.

Exit codes: 0; 2 an option that cannot be; 3 nothing was used; 4 the key is
missing or refused; 6 no server answers.""",
)

MOST_DAYS = 3660

COUNTS = ("Requests", "Failovers", "Errors")
TOKENS = ("Input", "Cache read", "Cache write", "Output", "Reasoning")
COST = ("Cost", "First", "Total")

PATIENCE_SECONDS = 60.0
"""Half a million requests are summed up within a few."""


@app.default
def usage(
    *,
    days: Annotated[int, Parameter(name=["--days", "-d"], help="Calendar days, today among them, 1 to 3660.")] = 7,
    by: Annotated[
        Literal["account", "model", "provider", "day", "key"], Parameter(name="--by", help="What to sum up by.")
    ] = "model",
    provider: Annotated[
        str | None, Parameter(name=["--provider", "-p", "-b"], help="This provider's requests alone.")
    ] = None,
    json: Json = False,
    url: Url = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> int:
    """Sum up what the running server's clients have used."""
    if not 1 <= days <= MOST_DAYS:
        raise Trouble(f"--days is not between 1 and {MOST_DAYS}", Exit.USAGE)
    server = server_at(url, config, env_file)
    patient = Server(server.base, server.key, PATIENCE_SECONDS)
    wanted = {"days": days, "by": by, **({"provider": provider} if provider else {})}
    found = patient.ask(f"/usage?{urlencode(wanted)}").document()
    if json:
        say_json(found)
    else:
        for line in shown(found, width()):
            say(line)
    return Exit.OK if found["groups"] else Exit.NOTHING


def shown(found: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """The document as a table, the sum at its end, then what the cost means.

    width  that the table has to fit into: one that does not becomes several, the tokens in one of their own
    """
    days = "today" if found["days"] == 1 else f"{found['days']} days"
    yield f"{days} (since {found['since']})" + (f", {found['provider']} alone" if found["provider"] else "")
    if not found["groups"]:
        yield "nothing was used"
        return
    rows: list[tuple[str, ...]] = [(found["by"].capitalize(), *COUNTS, *TOKENS, *COST)]
    rows += [_row(_name(group), group) for group in found["groups"]]
    rows.append(_row("total", found["total"]))
    lines = list(_columns(rows, range(12)))
    yield from lines if width is None or _widest(lines) <= width else _split(rows, width)
    yield ""
    yield f"Cost: {found['cost']['note']} (prices of {found['cost']['prices_of']})."
    yield "First, Total: median seconds to the first content and to the end."
    if unpriced := found["total"]["unpriced"]:
        yield f"No price is known of {', '.join(unpriced)}: not in the cost."


def _split(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Tables of as many columns as fit, the first column in each; the tokens apart from the rest."""
    for columns in ((1, 2, 3, 9, 10, 11), (4, 5, 6, 7, 8)):
        taken = [0]
        for column in columns:
            if len(taken) > 1 and _widest(_columns(rows, [*taken, column])) > width:
                yield from (*_columns(rows, taken), "")
                taken = [0]
            taken.append(column)
        yield from (*_columns(rows, taken), *([""] if columns[0] == 1 else []))


def _widest(lines: Iterable[str]) -> int:
    return max(map(len, lines))


def _columns(rows: Sequence[Sequence[str]], which: Sequence[int]) -> Iterator[str]:
    head, *others = [[row[number] for number in which] for row in rows]
    return table(head, others, right=range(1, len(which)))


def _name(group: Mapping[str, Any]) -> str:
    if group.get("label"):
        return f"{group['provider']}/{group['label']}"
    return group["group"] or "none"


def _dollars(cost: float) -> str:
    """Cents, and of less than a dollar what is below them: a request costs a fraction of one."""
    return f"${cost:,.2f}" if cost >= 1 or not cost else f"${cost:.4f}"


def _row(name: str, group: Mapping[str, Any]) -> tuple[str, ...]:
    tokens, seconds = group["tokens"], group["median_seconds"]
    counts = (group["requests"], group["failovers"], group["errors"])
    spent = [tokens[each] for each in ("input", "cache_read", "cache_write", "output", "reasoning")]
    known, more = group["cost_usd"], "+" if group["unpriced"] else ""
    cost = "?" if known is None or (more and not known) else f"{_dollars(known)}{more}"
    times = [seconds["first_content"], seconds["total"]]
    return (
        name,
        *(f"{count:,}" for count in counts),
        *("-" if count is None else f"{count:,}" for count in spent),
        cost if any(spent) else "-",
        *("-" if each is None else f"{each:.2f}" for each in times),
    )
