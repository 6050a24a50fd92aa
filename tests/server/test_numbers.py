"""Telephone numbers: which are taken, and why others are not."""

from __future__ import annotations

import pytest

from tokenbridge.errors import NumberFault, NumberUnfit
from tokenbridge.server.numbers import NumberRules

RULES = NumberRules(regions=("GB", "IE"), office=("+441615550", "+447700900999"))


@pytest.mark.parametrize("typed", ["07400 123456", "+44 7400 123456", "0044 7400-123456", "(07400)123456"])
def test_a_mobile_is_taken_however_it_is_typed(typed: str):
    number = RULES.read(typed)
    assert number.e164 == "+447400123456"
    assert number.masked == "*** *** 456"


def test_another_country_that_is_allowed():
    assert RULES.read("+353 85 012 3456").e164 == "+353850123456"


@pytest.mark.parametrize(
    ("typed", "fault"),
    [
        ("", NumberFault.NOT_A_NUMBER),
        ("abc", NumberFault.NOT_A_NUMBER),
        ("9" * 500, NumberFault.NOT_A_NUMBER),
        ("07400 12345", NumberFault.NOT_A_NUMBER),
        ("0121 234 5678 ext. 12", NumberFault.NOT_A_NUMBER),
        ("999", NumberFault.NOT_A_NUMBER),
        ("07400123456\n", NumberFault.NOT_A_NUMBER),
        ("+1 202 555 0143", NumberFault.COUNTRY),
        ("+49 1512 3456789", NumberFault.COUNTRY),
        ("+44 1534 456789", NumberFault.COUNTRY),  # Jersey is not the UK, and calls there cost more
        ("0909 879 0000", NumberFault.KIND),  # premium rate
        ("0800 111 1111", NumberFault.KIND),
        ("0844 123 4567", NumberFault.KIND),
        ("0121 234 5678", NumberFault.NO_TEXT),
        ("0161 555 0123", NumberFault.OFFICE),
    ],
)
def test_refused_with_the_reason(typed: str, fault: NumberFault):
    with pytest.raises(NumberUnfit) as raised:
        RULES.read(typed)
    assert raised.value.reason is fault
