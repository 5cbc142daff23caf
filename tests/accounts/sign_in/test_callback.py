from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.model import Secret
from accounts.sign_in.callback import Denied, Granted, Unusable, of_paste, of_query

STATE = "0123456789abcdef0123456789abcdef"
CODE = "4/0Aexample-code_1"
GOOD = f"state={STATE}&code=4%2F0Aexample-code_1&scope=email+profile"


def test_a_code_with_our_state_is_an_answer() -> None:
    assert of_query(GOOD, STATE) == Granted(Secret(CODE))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=4/0Aexample-code_1",
        f"state={STATE[:-1]}&code={CODE}",
        f"state=&code={CODE}",
        f"state={STATE.upper()}&code={CODE}",
        f"state={STATE}&state={STATE}&code={CODE}",
        f"state={STATE}&state=other&code={CODE}",
        f"state={STATE}",
        f"state={STATE}&code=",
        f"state={STATE}&code={CODE}&code={CODE}",
        f"state={STATE}&code=two words of a code",
        f"state={STATE}&code=%00%01%02%03%04%05%06%07%08%09%0a",
        f"state={STATE}&code={'x' * 5000}",
        f"{GOOD}&" + "&".join(f"a{number}=1" for number in range(100)),
        "state=%ff%fe&code=x",
        "state=\ud800&code=x",
        f"error=access_denied&code={CODE}",
        "error=access_denied&state=another",
    ],
)
def test_what_is_not_wholly_ours_is_no_answer_and_is_not_repeated(query: str) -> None:
    answer = of_query(query, STATE)
    assert isinstance(answer, Unusable)
    assert CODE not in answer.why and STATE not in answer.why


def test_an_error_goes_before_a_code() -> None:
    assert of_query(f"{GOOD}&error=access_denied", STATE) == Denied("access_denied")
    said = of_query(f"error=x&state={STATE}&error_description={'y' * 5000}", STATE)
    assert isinstance(said, Denied) and len(said.said) < 250


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        f"  {CODE}\r\n",
        "4%2F0Aexample-code_1",
        "4%2f0Aexample-code_1",
        f"http://localhost:51121/oauth-callback?{GOOD}",
        f"HTTP://localhost:51121/oauth-callback?{GOOD}#",
        f"http://localhost:51121/oauth-callback?{GOOD}#access_token=EVIL",
        f"localhost:51121/oauth-callback?{GOOD}",
        f"?{GOOD}",
        GOOD,
    ],
)
def test_a_code_and_a_whole_address_can_both_be_pasted(text: str) -> None:
    assert of_paste(text, STATE) == Granted(Secret(CODE))


@pytest.mark.parametrize(
    "text",
    [
        "4/0Ashort",
        "a code with spaces in it",
        f"http://localhost:51121/oauth-callback?code={CODE}",
        f"http://localhost:51121/oauth-callback?code={CODE}&state=another",
        f"http://localhost:51121/oauth-callback#access_token=EVIL&state={STATE}",
        f"http://localhost:51121/oauth-callback#{GOOD}",
        f"#access_token=EVIL-and-more&state={STATE}",
        f"code={CODE}",
        f"localhost:51121/oauth-callback?code={CODE}&state=another",
        "http://[",
        "https://",
        "é" * 20,
    ],
)
def test_a_paste_without_our_state_or_without_a_code_is_none(text: str) -> None:
    assert isinstance(of_paste(text, STATE), Unusable)


def test_a_pasted_refusal_is_a_refusal() -> None:
    assert of_paste(f"http://localhost/?{urlencode({'error': 'access_denied', 'state': STATE})}", STATE) == Denied(
        "access_denied"
    )


@given(st.text(), st.text())
def test_no_text_makes_it_fail_and_only_our_state_makes_an_address_an_answer(text: str, state: str) -> None:
    for paste in (text, f"http://localhost/?{text}", f"http://localhost/?code=0123456789&state={text}"):
        of_query(paste, STATE)
        answer = of_paste(paste, STATE)
        assert isinstance(answer, Unusable) or not paste.startswith("http")
