"""Budgets, prices, the journal, and the lists of routing."""

from __future__ import annotations

import pytest

from mcp_proxy.routing.facts import FAILOVER_ON
from mcp_proxy.settings import FAILOVER_ON as OURS
from mcp_proxy.settings import BudgetSettings, JournalSettings, PriceSettings
from mcp_proxy.settings.values import duration
from tests.mcp_proxy.settings.conftest import Load, Problems

HOUR, DAY = 3600, 86_400


def test_the_statuses_that_settings_and_routing_name_are_the_same() -> None:
    assert OURS == FAILOVER_ON


def test_without_anything_the_defaults_hold(read: Load) -> None:
    found = read()
    assert found.journal == JournalSettings(True, 90)
    assert (found.prices, found.accounts, found.routing.reserve) == ({}, {}, {})
    assert found.routing.failover_on == FAILOVER_ON


SAMPLE = """
[routing]
failover_on = [429, 503]
[routing.reserve]
"5h" = 0.1
"gemini-7d" = 1
[routing.fallbacks]
"gemini-3-flash" = []
[journal]
enabled = false
retention_days = 7
[prices]
"claude-opus-5" = { input = 5, output = 25.5, cache_read = 0.5, cache_write = 6.25 }
free = { input = 0, output = 0 }
[providers.zai.aliases]
"claude-*" = "glm-4.7"
[providers.zai.budget]
window = "7d"
limit = 40_000_000
[[providers.kimi.budget]]
window = "5h"
limit = 1
threshold = 0.5
[[providers.kimi.budget]]
window = "90m"
limit = 2
[accounts."zai/work.at.home".budget]
window = "4w"
limit = 3
"""


def test_the_sample_is_understood_key_by_key(read: Load) -> None:
    found = read(SAMPLE)
    assert found.routing.failover_on == {429, 503}
    assert found.routing.reserve == {"5h": 0.1, "gemini-7d": 1.0}
    assert found.routing.fallbacks == {"gemini-3-flash": ()}
    assert found.journal == JournalSettings(False, 7)
    assert found.prices == {"claude-opus-5": PriceSettings(5, 25.5, 0.5, 6.25), "free": PriceSettings(0, 0)}
    assert found.provider("zai").aliases == {"claude-*": "glm-4.7"}
    assert found.provider("zai").budgets == (BudgetSettings(7 * DAY, "7d", 40_000_000, 0.9),)
    assert found.provider("kimi").budgets == (
        BudgetSettings(5 * HOUR, "5h", 1, 0.5),
        BudgetSettings(5400, "90m", 2),
    )
    assert found.accounts == {"zai/work.at.home": (BudgetSettings(28 * DAY, "4w", 3),)}
    assert found.origin_of('accounts."zai/work.at.home".budget.limit').endswith("config.toml)")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[routing]\nfailover_on = [200]", "between 400 and 599"),
        ("[routing]\nfailover_on = 429", "must be a list"),
        ("[routing]\nfailover_on = ['x']", "not a whole number"),
        ("[routing.reserve]\n'5h' = 1.5", "between 0 and 1"),
        ("[routing.reserve]\n'5h' = true", "not a number"),
        ("[journal]\nretention_days = 0", "between 1 and 3650"),
        ("[journal]\nenable = true", "did you mean 'enabled'"),
        ("[prices]\nm = 3", "must be a table"),
        ("[prices]\nm = { input = 1 }", "has no output"),
        ("[prices]\nm = { input = -1, output = 1 }", "between 0 and"),
        ("[prices]\nm = { input = 1, output = nan }", "between 0 and"),
        ("[prices]\nm = { input = 1, output = 1, cached = 1 }", "not a setting"),
        ("[providers.zai]\naliases = 3", "must be a table"),
        ("[providers.zai.aliases]\nx = 3", "must be text"),
        ("[providers.zai.alias]\nx = 'y'", "did you mean 'aliases'"),
        ("[providers.zai]\nbudget = 3", "must be a table"),
        ("[providers.zai.budget]\nwindow = '7d'", "has no limit"),
        ("[providers.zai.budget]\nlimit = 7", "has no window"),
        ("[providers.zai.budget]\nwindow = '7 days'\nlimit = 1", "no length of time"),
        ("[providers.zai.budget]\nwindow = '0h'\nlimit = 1", "between a minute and 35 days"),
        ("[providers.zai.budget]\nwindow = '36d'\nlimit = 1", "between a minute and 35 days"),
        ("[providers.zai.budget]\nwindow = '5h'\nlimit = 0", "between 1 and"),
        ("[providers.zai.budget]\nwindow = '5h'\nlimit = 1\nthreshold = 90", "between 0 and 1"),
        ("[providers.zai.budget]\nwindow = '5h'\nlimits = 1\nlimit = 1", "did you mean 'limit'"),
        (
            "[[providers.zai.budget]]\nwindow = '24h'\nlimit = 1\n[[providers.zai.budget]]\nwindow = '1d'\nlimit = 1",
            "two budgets for 1d",
        ),
        ("[accounts.x]\nbudgets = {}", "did you mean 'budget'"),
        ("[accounts]\nx = 3", "must be a table"),
        ("accounts = 3", "must be a table"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(problems: Problems, config: str, says: str) -> None:
    (said,) = problems(config)
    assert says in said and "config.toml" in said


def test_tables_have_no_variables(problems: Problems) -> None:
    (said,) = problems(MCP_PROXY_PROVIDERS__ZAI__ALIASES="x=y")
    assert "is not a setting" in said


@pytest.mark.parametrize(
    ("written", "seconds"), [("1m", 60), ("90m", 5400), ("5h", 18_000), ("7D", 604_800), ("2w", 1_209_600)]
)
def test_lengths_of_time(written: str, seconds: int) -> None:
    assert duration(written) == seconds
