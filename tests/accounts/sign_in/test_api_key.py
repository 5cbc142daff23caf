from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.model import ApiKeySignIn, Secret
from accounts.sign_in.api_key import BadKey, api_key, sign_in

PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


class Person:
    """Pastes one thing, and keeps what it was told."""

    def __init__(self, pastes: str) -> None:
        self.pastes, self.told = pastes, list[str]()

    def show(self, line: str) -> None:
        self.told.append(line)

    def ask_hidden(self, question: str) -> Secret:
        self.told.append(question)
        return Secret(self.pastes)


@given(PRINTABLE, st.sampled_from(["", " ", "\n", "\r\n", "\t "]))
def test_a_key_is_taken_without_the_space_around_it(key: str, around: str) -> None:
    assert api_key(Secret(around + key + around)).key == Secret(key)


@given(PRINTABLE, st.sampled_from([" ", "\n", "\r\n", "\t", "\x00", "\x7f", "é", "\u2028", "\u200b"]), PRINTABLE)
def test_what_would_break_a_header_is_no_key_and_is_not_repeated(one: str, between: str, other: str) -> None:
    with pytest.raises(BadKey) as caught:
        api_key(Secret(one + between + other))
    assert between not in str(caught.value) or between == " "


@pytest.mark.parametrize("text", ["", "  ", "\n", "x" * 9000])
def test_nothing_and_far_too_much_are_no_key(text: str) -> None:
    with pytest.raises(BadKey):
        api_key(Secret(text))


def test_a_person_is_told_where_the_key_is_before_it_is_asked_for() -> None:
    person = Person(" sk-fake-0001 ")
    assert sign_in(ApiKeySignIn("https://keys.example"), person).key == Secret("sk-fake-0001")
    assert "https://keys.example" in person.told[0]
    assert len(person.told) == 2
