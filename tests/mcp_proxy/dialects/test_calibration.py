from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects.calibration import FAMILIES, FEW, SAMPLES, SANE, Calibration, quantile
from mcp_proxy.dialects.estimate import Measure
from mcp_proxy.dialects.families import Rates, family, first_rates

OPUS = "claude-opus-4-5"


def taught(*pairs: tuple[Measure, float], model: str = OPUS) -> Calibration:
    made = Calibration()
    for measure, counted in pairs:
        made.learn(model, measure, Usage(input=round(counted)))
    return made


def sizes(count: int, seed: int = 1) -> list[Measure]:
    rng = random.Random(seed)
    return [Measure(rng.uniform(500, 20_000), rng.uniform(500, 20_000), rng.uniform(0, 100)) for _ in range(count)]


def near(value: float, wanted: float, part: float = 0.02) -> bool:
    return abs(value / wanted - 1) <= part


@pytest.mark.parametrize("prose", [0.7, 1.0, 1.8])
@pytest.mark.parametrize("json", [0.8, 1.45])
def test_rates_of_prose_and_json_are_told_apart(prose: float, json: float) -> None:
    made = taught(*((m, m.prose * prose + m.json * json + m.fixed) for m in sizes(40)))
    found = made.fit(OPUS)
    assert near(found.rates.prose, prose, 0.05) and near(found.rates.json, json, 0.05)
    probe = Measure(4000, 100, 1600)
    assert near(made.likely(OPUS, probe), 4000 * prose + 100 * json + 1600, 0.03)
    assert made.likely(OPUS, probe) <= made.tokens(OPUS, probe)


def test_requests_that_are_all_alike_teach_one_rate() -> None:
    alike = Measure(9000, 3000)
    found = taught(*((alike, 12_000 * 1.4) for _ in range(20))).fit(OPUS)
    assert near(found.rates.prose, 1.4) and found.rates.prose == found.rates.json


def test_lies_do_not_spoil_what_was_learnt() -> None:
    honest = [(m, 1.3 * (m.prose + m.json) + m.fixed) for m in sizes(SAMPLES)]
    lies = [(m, lie) for m, lie in zip(sizes(15, 2), [0, 9e6, 30, 5e4, 2e5] * 3, strict=True)]
    mixed = honest + lies
    random.Random(3).shuffle(mixed)
    found = taught(*mixed).fit(OPUS)
    assert near(found.rates.prose, 1.3, 0.06) and near(found.rates.json, 1.3, 0.06)
    assert found.margin <= 1.2


def test_a_third_that_is_too_high_but_possible_has_no_say() -> None:
    pairs = [(m, (2.6 if number % 3 == 0 else 1.0) * (m.prose + m.json)) for number, m in enumerate(sizes(42))]
    found = taught(*pairs).fit(OPUS)
    assert near(found.rates.prose, 1.0) and near(found.rates.json, 1.0) and near(found.margin, 1.0)


def test_one_answer_alone_decides_nothing_and_three_do() -> None:
    odd = (Measure(5000, 5000), 19_000.0)
    assert near(taught(odd).fit(OPUS).rates.prose, 1.0)
    assert near(taught(odd, odd, odd).fit(OPUS).rates.prose, 1.9)


def test_a_change_of_tokeniser_is_learnt_within_an_hour_of_work() -> None:
    old = [(m, 1.0 * (m.prose + m.json)) for m in sizes(200)]
    new = [(m, 1.3 * (m.prose + m.json)) for m in sizes(SAMPLES, 2)]
    assert near(taught(*old, *new).fit(OPUS).rates.prose, 1.3)


def test_nine_of_ten_estimates_are_not_too_low() -> None:
    rng = random.Random(7)
    pairs = [(m, (m.prose + m.json) * rng.uniform(0.95, 1.05) + m.fixed) for m in sizes(400)]
    made = taught(*pairs[:100])
    low = sum(made.tokens(OPUS, measure) < counted for measure, counted in pairs[100:]) / 300
    assert low <= 0.25
    assert all(made.tokens(OPUS, measure) <= counted * 1.15 + 1 for measure, counted in pairs[100:])


@pytest.mark.parametrize("counted", [0, 12, 10**9])
def test_counts_that_cannot_be_teach_nothing(counted: int) -> None:
    made = taught(*((Measure(5000, 500), counted) for _ in range(FEW)))
    assert made.fit(OPUS) == Calibration().fit(OPUS)


def test_small_requests_teach_nothing() -> None:
    assert taught(*((Measure(300, 100), 900) for _ in range(FEW))).fit(OPUS) == Calibration().fit(OPUS)


def test_what_was_read_from_a_cache_and_written_to_it_is_input_too() -> None:
    made = Calibration()
    for _ in range(FEW):
        made.learn(OPUS, Measure(9000, 1000, 500), Usage(input=20, cache_read=12_000, cache_write=1480, output=9))
    assert near(made.fit(OPUS).rates.prose, 1.3)


def test_families_learn_apart_and_are_not_kept_for_ever() -> None:
    made = taught(*((m, 1.5 * (m.prose + m.json)) for m in sizes(20)))
    assert made.fit("claude-opus-4-6").rates == made.fit(OPUS).rates
    assert made.fit("claude-haiku-4-5").rates == Rates()
    for number in range(FAMILIES):
        made.learn(f"other{number}", Measure(5000), Usage(input=5000))
    assert made.fit(OPUS).rates == Rates() and len(made._families) == FAMILIES


def test_few_requests_are_asked_for() -> None:
    made = Calibration()
    times = [number / 10 for number in range(100)]
    assert sum(made.wants(OPUS, Instant(at)) for at in times) == 20
    assert made.wants("glm-5.2", Instant(9.9))
    for measure in sizes(FEW):
        made.learn(OPUS, measure, Usage(input=round(measure.prose + measure.json)))
    assert sum(made.wants(OPUS, Instant(100 + at)) for at in times) == 2
    assert made.wants(OPUS, Instant(3.0)), "a clock that was set back stops nothing"


@given(
    st.lists(
        st.tuples(st.builds(Measure, *[st.floats(0, 1e7)] * 3), st.integers(0, 10**9)),
        max_size=30,
    ),
    st.builds(Measure, *[st.floats(0, 1e7)] * 3),
)
def test_whatever_is_said_estimates_stay_sane(pairs: list[tuple[Measure, int]], probe: Measure) -> None:
    made = taught(*pairs)
    ours = probe.prose + probe.json
    assert max(1, int(SANE[0] * ours)) <= made.tokens(OPUS, probe) - int(probe.fixed) + 1
    assert made.tokens(OPUS, probe) <= SANE[1] * 1.3 * ours + probe.fixed + 2


@pytest.mark.parametrize(
    ("model", "name", "rates"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4", (1.0, 1.0)),
        ("claude-opus-4-6-thinking", "claude-opus-4", (1.0, 1.0)),
        ("claude-opus-4-7", "claude-opus-4.7", (1.3, 1.3)),
        ("claude-opus-4-8", "claude-opus-4.7", (1.3, 1.3)),
        ("claude-sonnet-4-20250514", "claude-sonnet-4", (1.0, 1.0)),
        ("claude-sonnet-5-5", "claude-sonnet-5", (1.3, 1.3)),
        ("claude-fable-5", "claude-fable-5", (1.3, 1.3)),
        ("anthropic/claude-haiku-4.5", "claude-haiku-4", (1.0, 1.0)),
        ("~anthropic/claude-opus-latest", "claude-opus-latest", (1.3, 1.3)),
        ("glm-5.2[1m]", "glm-5", (1.1, 1.45)),
        ("GLM-4.5-air", "glm-4", (1.1, 1.45)),
        ("gemini-3-pro-high", "gemini-pro", (1.0, 1.0)),
        ("gemini-pro-agent", "gemini-pro", (1.0, 1.0)),
        ("gemini-2.5-flash", "gemini-flash", (1.0, 1.0)),
        ("deepseek-v4-pro", "deepseek-4", (1.0, 1.0)),
        ("kimi-k2.7-code", "kimi-2", (1.0, 1.0)),
        ("MiniMax-M2.7", "minimax-2", (1.0, 1.0)),
        ("x" * 900, "x" * 40, (1.0, 1.0)),
        ("claude-", "claude-", (1.0, 1.0)),
        ("a/", "unknown", (1.0, 1.0)),
    ],
)
def test_a_family_is_known_by_its_names(model: str, name: str, rates: tuple[float, float]) -> None:
    assert family(model) == name
    assert first_rates(name) == rates


@given(st.text(max_size=60))
def test_any_name_has_a_family(model: str) -> None:
    assert family(model) and first_rates(family(model)).prose > 0


def test_a_quantile_goes_by_weight() -> None:
    assert quantile([3, 1, 2], [1, 1, 1], 0.5) == 2
    assert quantile([3, 1, 2], [5, 1, 1], 0.5) == 3
    assert quantile([1], [0.1], 0.9) == 1
