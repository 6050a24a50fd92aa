"""Strict CBOR: only the canonical form is read, and whatever is read is written back byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokenbridge.authenticator import cbor
from tokenbridge.authenticator.status import Refusal, Status

scalars = st.one_of(st.booleans(), st.integers(-(2**64), 2**64 - 1), st.binary(max_size=40), st.text(max_size=20))
keys = st.one_of(st.integers(-(2**64), 2**64 - 1), st.text(max_size=10))


def nested(levels: int) -> st.SearchStrategy[Any]:
    if levels == 0:
        return scalars
    inner = nested(levels - 1)
    return st.one_of(scalars, st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4))


def refusal(data: bytes) -> Status:
    with pytest.raises(Refusal) as caught:
        cbor.decode(data)
    return caught.value.status


@given(nested(4))
def test_what_is_written_is_read(value: Any) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(st.binary(max_size=200))
@example(bytes.fromhex("a2016161026162"))
def test_what_is_read_is_the_one_canonical_form(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except Refusal as caught:
        value = caught
    if isinstance(value, Refusal):
        assert value.status in (Status.INVALID_CBOR, Status.CBOR_UNEXPECTED_TYPE)
    elif b"\xf6" not in data:  # null can be read, and is never written
        assert cbor.encode(value) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "nothing"),
        ("1800", "an integer in a longer form than needed"),
        ("190017", "the same in two bytes"),
        ("1a0000ffff", "the same in four"),
        ("1b00000000ffffffff", "the same in eight"),
        ("5800", "a length in a longer form than needed"),
        ("5f41614162ff", "indefinite length"),
        ("bf0101ff", "an indefinite map"),
        ("c001", "a tag"),
        ("ff", "a break"),
        ("f7", "undefined"),
        ("f820", "a simple value"),
        ("4261", "bytes cut short"),
        ("61ff", "text that is not UTF-8"),
        ("a10102 00", "something left over"),
        ("a201010102", "a key twice"),
        ("a202010101", "keys out of order"),
        ("a26162016101", "longer text before shorter"),
        ("a2200101 01", "negative before positive"),
        ("8181818181 01", "five levels"),
        ("9bffffffffffffffff", "a list of 2^64 items"),
        ("bbffffffffffffffff", "a map of 2^64 items"),
        ("5bffffffffffffffff", "bytes without end"),
        ("1c", "a reserved length"),
    ],
)
def test_everything_else_is_refused(data: str, why: str) -> None:
    assert refusal(bytes.fromhex(data)) is Status.INVALID_CBOR, why


@pytest.mark.parametrize("data", ["f93c00", "fa3f800000", "fb3ff0000000000000", "a1410101", "a1f501", "a18001"])
def test_floats_and_odd_keys_have_the_wrong_type(data: str) -> None:
    assert refusal(bytes.fromhex(data)) is Status.CBOR_UNEXPECTED_TYPE


def test_four_levels_are_allowed() -> None:
    assert cbor.decode(bytes.fromhex("8181818101")) == [[[[1]]]]


def test_deep_nesting_ends_early_and_not_in_the_interpreter() -> None:
    assert refusal(b"\x81" * 7000) is Status.INVALID_CBOR
