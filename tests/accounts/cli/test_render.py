from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accounts.cli.render import ago, aligned
from accounts.cli.text import cell_width, printable

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def test_columns_line_up_however_wide_the_characters_are() -> None:
    table = aligned(("Name", "Status"), [("日本語", "ok"), ("abc", "ok"), ("é", "ok")])
    starts = {cell_width(line[: line.index("ok")]) for line in table.splitlines()[1:]}
    assert starts == {8}


@given(st.text())
def test_text_from_outside_stays_on_one_line_and_steers_nothing(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


def test_a_time_is_told_as_people_do() -> None:
    said = {
        None: "-",
        "2027-01-15T08:00:00Z": "just now",
        "2027-01-15T08:00:30+00:00": "just now",
        "2027-01-15T07:50:00Z": "10 min ago",
        "2027-01-15T05:00:00Z": "3 h ago",
        "2027-01-10T08:00:00Z": "5 d ago",
        "lately": "lately",
    }
    for moment, words in said.items():
        assert ago(moment, NOW) == words
