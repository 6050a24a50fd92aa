"""Faults of a policy file at their lines."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from tokenbridge.errors import PolicyInvalid
from tokenbridge.rp.policy_file import parse
from tokenbridge.rp.policy_lines import line_of

FAULTY = """timezone = "Europe/London"

[[rule]]
name = "first"
aal = 9
[rule.enrol]
any_of = []

[[rule]]
aal = 2

[[rule]]
name = 'it''s'
name2 = "x"
colour = "red"
"""


def lines(text: str) -> dict[int | None, str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse(text, zones=ZoneInfo)
    return {line_of(text, fault): fault for fault in caught.value.faults}


def test_each_fault_is_at_its_key():
    found = lines(FAULTY.replace("'it''s'", '"third"'))
    assert "aal" in found[5]
    assert "enrol" in found[6]
    assert "name is missing" in found[9]
    assert "name2" in found[14]
    assert "colour" in found[15]


def test_what_is_no_toml_has_the_line_of_the_parser():
    (line,) = lines(FAULTY)
    assert line == 13


def test_a_fault_of_the_whole_file_has_no_line():
    assert set(lines("")) == {None}
    assert set(lines("colour = 1\n[[rule]]\nname='a'\n[[rule]]\nname='a'")) == {None}


def test_exceptions_have_lines_too():
    found = lines(
        '[[rule]]\nname="a"\n[[exception]]\naccount="x"\nuntil=2026-12-01\nreason="r"\n[[exception]]\naccount=1\n'
    )
    assert "it changes nothing" in found[3]
    assert "account" in found[8]


@pytest.mark.parametrize(
    "fault", ["", "rule 9: name is missing", "rule 'nobody': aal: x", "rule 1: " * 1000, "rule '" * 500]
)
def test_what_is_not_there_has_no_line(fault: str):
    assert line_of("x = 1", fault) is None
