"""The policy file: what each key means, and that a file with any fault is refused whole."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.errors import PolicyInvalid
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.policy_file import MAX_BYTES, parse
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import DEFAULT_POLICY, FALLBACK, Context, Hours, Policy, Signal

WHOLE = """
timezone = "Europe/London"

[[rule]]
name = "prescribing on the ward"
clients = ["eps"]
groups = ["prescribers"]
networks = ["10.0.0.0/8", "2001:db8::/32"]
hours = ["mon-fri 07:00-19:00", "sat,sun 22:00-06:00"]
aal = 3
phishing_resistant = true
hardware = true
models = ["card:NHS level 3", "key:0b7e5c2a-6f0d-4c59-9a35-f3d1c2a4e871"]
refused_models = ["key:00000000-0000-0000-0000-000000000000"]
max_age = "15m"
idle = "10m"
overall = "8h"
fallback = ["key"]

[[rule]]
name = "from abroad"
signals = ["new-country"]
refuse = true
message = "Sign-in from abroad is closed. Ring the service desk."

[[rule]]
name = "everybody"
text_and_calls = false
fallback = ["number-match", "totp", "recovery"]
withdraw_on = ["impossible-travel", "many-failures"]
enrol = { any_of = ["totp", "number-match"], grace_days = 14, from = 2026-09-01 }

[[exception]]
account = "Ada"
until = 2026-12-31
reason = "IT-4711: no phone allowed on the ward"
no_enrolment = true
fallback = ["sms"]
"""


def read(text: str) -> Policy:
    return parse(text, zones=ZoneInfo)


def faults(text: str) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        read(text)
    return list(caught.value.faults)


def rule(line: str) -> str:
    return f'[[rule]]\nname = "r"\n{line}\n'


def test_every_key() -> None:
    policy = read(WHOLE)
    ward, abroad, everybody = policy.rules
    assert str(policy.zone) == "Europe/London"
    assert (ward.minimum, ward.phishing_resistant, ward.hardware, ward.allow_restricted) == (AAL.AAL3, True, True, True)
    assert [str(network) for network in ward.networks] == ["10.0.0.0/8", "2001:db8::/32"]
    assert [str(hours) for hours in ward.hours] == ["mon,tue,wed,thu,fri 07:00-19:00", "sat,sun 22:00-06:00"]
    assert (ward.max_age, ward.idle, ward.overall) == (
        timedelta(minutes=15),
        timedelta(minutes=10),
        timedelta(hours=8),
    )
    assert "card:NHS level 3" in ward.models
    assert ward.fallback == (Method.KEY,)
    assert (abroad.refuse, abroad.signals) == (True, {Signal.NEW_COUNTRY})
    assert everybody.fallback == (Method.NUMBER_MATCH, Method.TOTP, Method.RECOVERY)
    assert everybody.withdraw_on == {Signal.IMPOSSIBLE_TRAVEL, Signal.MANY_FAILURES}
    assert everybody.enrolment is not None
    assert everybody.enrolment.due(datetime(2020, 1, 1, tzinfo=UTC)) == datetime(
        2026, 9, 15, tzinfo=ZoneInfo("Europe/London")
    )
    assert everybody.enrolment.due(datetime(2026, 10, 1, tzinfo=UTC)) == datetime(2026, 10, 15, tzinfo=UTC)
    (exemption,) = policy.exemptions
    assert (exemption.account, exemption.until, exemption.enrolment) == ("ada", date(2026, 12, 31), True)


def test_a_rule_that_says_nothing_is_the_default() -> None:
    assert read('[[rule]]\nname = "default"') == DEFAULT_POLICY
    assert DEFAULT_POLICY.rules[0].fallback == FALLBACK


FAULTY = [
    ("", "there is no [[rule]]"),
    ("not toml", "it is not TOML"),
    ("[[rule]]\nhardware = true", "rule 1: name is missing"),
    (rule("hardwear = true"), "rule 'r': nobody knows the key 'hardwear'"),
    (rule("") + "mystery = 1", "nobody knows the key 'mystery'"),
    (rule("hardware = 1"), "hardware: write true or false"),
    (rule('hardware = "no"'), "hardware: write true or false"),
    (rule("aal = 4"), "aal: write a whole number from 1 to 3"),
    (rule("aal = true"), "aal: write a whole number from 1 to 3"),
    (rule("clients = []"), "clients: write a list"),
    (rule('clients = "eps"'), "clients: write a list"),
    (rule('clients = ["e ps"]'), "clients: 'e ps' can't be used here"),
    (rule('clients = ["a", "a"]'), "clients: an entry stands there twice"),
    (rule('networks = ["10.0.0.1/8"]'), "networks: '10.0.0.1/8' is no network"),
    (rule('networks = ["hospital"]'), "networks: 'hospital' is no network"),
    (rule('hours = ["mon-fri"]'), "hours: 'mon-fri': write days and hours"),
    (rule('hours = ["mon 25:00-26:00"]'), "hours: 'mon 25:00-26:00'"),
    (rule('hours = ["may 10:00-11:00"]'), "hours: 'may' is no day"),
    (rule('signals = ["strange"]'), "signals: 'strange' is none of"),
    (rule('fallback = ["password"]'), "fallback: 'password' is none of"),
    (rule('fallback = ["app-password"]'), "fallback: 'app-password' is none of"),
    (rule('aal = 3\nfallback = ["sms"]'), "fallback: sms can never complete what the rule requires"),
    (rule('models = ["yubikey"]'), "models: 'yubikey' names no model"),
    (rule('models = ["key:0B7E"]'), "models: 'key:0B7E' names no model"),
    (rule('models = ["key:*"]\nrefused_models = ["key:*"]'), "models and refused_models both name key:*"),
    (rule('max_age = "15"'), "max_age: write a span"),
    (rule('max_age = "0s"'), "max_age: write a span"),
    (rule("idle = 15"), "idle: write a span"),
    (rule('overall = "999999d"'), "overall: write a span"),
    (rule('idle = "2h"\noverall = "1h"'), "idle is longer than overall"),
    (rule('message = "hello"'), "message is for rules with refuse = true"),
    (rule('enrol = "totp"'), "enrol: it is a table with any_of"),
    (rule("enrol = { grace_days = 3 }"), "enrol: it is a table with any_of"),
    (rule('enrol = { any_of = ["totp"], days = 3 }'), "enrol: its table: nobody knows the key 'days'"),
    (rule('enrol = { any_of = ["totp"], from = "2026-01-01" }'), "from: write a date without quotation marks"),
    (rule("") + rule(""), "2 rules are called 'r'"),
    ('rule = "x"', "rule: write it as [[rule]]"),
    ("rule = [1]", "rule: write it as [[rule]]"),
    ('timezone = "Mars"\n' + rule(""), "timezone: 'Mars' is no time zone"),
    ("timezone = 1\n" + rule(""), "timezone: 1 is no time zone"),
    ('timezone = "../../etc/passwd"\n' + rule(""), "is no time zone"),
    (rule("") + "[[exception]]", "exception 1: account is missing"),
    (rule("") + '[[exception]]\naccount = "a"\nuntil = 2026-01-01T10:00:00Z', "until: write a date"),
    (rule("") + '[[exception]]\naccount = "a"\nuntil = 2026-01-01\nreason = "x"', "it changes nothing"),
    ("#" * (MAX_BYTES + 1), "larger than 1 MiB"),
    ('[[rule]]\nname = "r"\n' * 501, "more than 500 [[rule]]"),
    ("a = " + "[" * 5000, "it is not TOML"),
    ("a = " + "1" * 5000, "it is not TOML"),
]


@pytest.mark.parametrize(("text", "fault"), FAULTY, ids=[fault for _, fault in FAULTY])
def test_a_fault_is_named_at_its_place(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text)), faults(text)


def test_all_faults_are_told_at_once_and_a_flood_is_cut_short() -> None:
    assert len(faults(rule('aal = 9\nhardware = "x"\nwrong = 1'))) == 3
    with pytest.raises(PolicyInvalid) as caught:
        read("".join(f"key{number} = 1\n" for number in range(100)))
    assert "and 81 more" in caught.value.message
    assert len(caught.value.fields()["faults"]) == 20


@settings(deadline=None, max_examples=300)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), st.lists, max_leaves=4))
def test_no_value_of_any_key_does_more_than_be_refused(value: Any) -> None:
    written = repr(value).replace("None", '""').replace("True", "true").replace("False", "false")
    for key in ("name", "clients", "networks", "hours", "models", "enrol", "max_age", "aal", "fallback"):
        with contextlib.suppress(PolicyInvalid):
            read(f'[[rule]]\nname = "r"\n{key} = {written}\n')


@pytest.mark.parametrize(
    ("span", "at", "inside"),
    [
        ("mon-fri 07:00-19:00", "2026-06-01 07:00", True),
        ("mon-fri 07:00-19:00", "2026-06-01 19:00", False),
        ("mon-fri 07:00-19:00", "2026-06-06 12:00", False),
        ("fri-mon 07:00-19:00", "2026-06-07 12:00", True),
        ("sat 22:00-06:00", "2026-06-07 05:59", True),
        ("sat 22:00-06:00", "2026-06-06 05:59", False),
        ("22:00-06:00", "2026-06-06 05:59", True),
        ("sun 00:00-00:00", "2026-06-07 23:59", True),
        ("sun 00:00-00:00", "2026-06-08 00:00", False),
    ],
)
def test_hours(span: str, at: str, inside: bool) -> None:
    hours: Hours = read(rule(f'hours = ["{span}"]')).rules[0].hours[0]
    assert (datetime.fromisoformat(at).replace(tzinfo=UTC) in hours) is inside


def test_hours_are_those_of_the_policys_zone() -> None:
    policy = read('timezone = "Europe/London"\n' + rule('hours = ["09:00-10:00"]'))
    summer = datetime(2026, 7, 1, 8, 30, tzinfo=UTC)
    assert policy.rule_for(Context(client="cli", enrolled=None, now=summer)) is not None
    assert policy.rule_for(Context(client="cli", enrolled=None, now=summer + timedelta(hours=1))) is None


def test_an_exception_ends_with_its_day() -> None:
    policy = read(WHOLE)
    last = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    context = Context(client="cli", enrolled=frozenset(), account="ada", now=last)
    assert policy.exemption(context) is not None
    assert policy.demands_on(policy.rules[2], context).fallback[-1] is Method.SMS
    later = Context(client="cli", enrolled=frozenset(), account="ada", now=last + timedelta(minutes=1))
    assert policy.exemption(later) is None
    assert policy.demands_on(policy.rules[2], later) == policy.rules[2]
