"""Sites that answer oddly where a person's own account is concerned."""

from __future__ import annotations

from typing import Any

import pytest

from tokenbridge.daemon.account_site import _registration, session_token
from tokenbridge.errors import RelyingPartyUnavailable


@pytest.mark.parametrize("token", ["abc.DEF-1_2~3+4/5==", "x", "a" * 4096])
def test_tokens(token: str) -> None:
    assert bytes(session_token({"session": {"token": token}}).reveal()) == token.encode()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"session": None},
        {"session": []},
        {"session": {}},
        *(
            {"session": {"token": token}}
            for token in (None, 5, "", "a b", "a\r\nX: y", "ä", "\udcff", "a" * 4097, ["a"])
        ),
    ],
)
def test_what_is_no_session(answer: dict[str, Any]) -> None:
    with pytest.raises(RelyingPartyUnavailable):
        session_token(answer)


BEGUN = {"registration": "r1", "rp": {"name": "Test"}, "account": {"username": "ada"}, "options": {}}


@pytest.mark.parametrize(
    "lie",
    [
        {"registration": "../sign-in"},
        {"registration": 5},
        {"registration": "a" * 201},
        {"rp": None},
        {"account": []},
        {"options": []},
    ],
)
def test_registrations_that_lead_elsewhere(lie: dict[str, Any]) -> None:
    with pytest.raises(RelyingPartyUnavailable):
        _registration(BEGUN | lie)
    assert _registration(BEGUN | {"rp": {"name": "x" * 1000}}).rp_name == "x" * 200
