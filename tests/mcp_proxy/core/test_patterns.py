"""Patterns of names: what they cover, and which of several counts."""

from __future__ import annotations

import pytest

from mcp_proxy.core.patterns import closest, filled, matches


@pytest.mark.parametrize(
    ("name", "pattern", "covered"),
    [
        ("glm-5", "glm-*", True),
        ("glm-", "glm-*", True),
        ("glm", "glm-*", False),
        ("a\nb", "a*b", True),
        ("glm-5[1m]", "glm-5[1m]", True),
        ("glm-51", "glm-5[1m]", False),
        ("glmx5", "glm.5", False),
        ("", "*", True),
    ],
)
def test_only_a_star_stands_for_anything(name: str, pattern: str, covered: bool) -> None:
    assert matches(name, pattern) is covered


def test_of_several_the_one_that_says_most_counts_in_whatever_order_they_stand() -> None:
    patterns = ["*", "glm-*", "glm-5*", "*-5*", "k*"]
    for order in (patterns, patterns[::-1]):
        assert [closest(name, order) for name in ("glm-5", "glm-4", "x-5", "k3", "z")] == [
            "glm-5*", "glm-*", "*-5*", "k*", "*",
        ]  # fmt: skip
        assert closest("a*", [*order, "a*", "a**"]) == "a*", "a name that is written so counts more than any pattern"
    assert closest("z", ["y*"]) is None and closest("z", []) is None


def test_a_star_in_a_target_is_what_the_patterns_own_matched() -> None:
    assert filled("b-*/*", "a-1-x", "a-*-*") == "b-1/x"
    assert filled("b-**", "a-1", "a-*") == "b-1*"
    assert filled("plain", "a-1", "a-*") == "plain"


@pytest.mark.timeout(5)
def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matches("a" * 200, "*" * 40 + "b")
