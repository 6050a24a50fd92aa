"""libfido2 makes credentials on our key and has it sign; what it verifies was made right."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.foreign

ALGORITHMS = ("es256", "eddsa", "rs256")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_pin(
    algorithm: str, key: Any, make_credential: Any, verify_credential: Any, sign_in_by_tool: Any
) -> None:
    made = verify_credential(make_credential(key, algorithm=algorithm), algorithm=algorithm)
    sign_in_by_tool(key, made, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("resident", [False, True], ids=["by-id", "resident"])
def test_with_pin(
    algorithm: str,
    resident: bool,
    key_with_pin: Any,
    make_credential: Any,
    verify_credential: Any,
    sign_in_by_tool: Any,
) -> None:
    flags, pin = (("-r",) if resident else ()), (key_with_pin.pin,)
    made = make_credential(key_with_pin, "-v", *flags, algorithm=algorithm, answers=pin)
    made = verify_credential(made, "-v", algorithm=algorithm)
    sign_in_by_tool(key_with_pin, made, "-t", "pin=true", *flags, check=("-v",), algorithm=algorithm, answers=pin)


def test_a_resident_credential_needs_no_id_and_tells_the_user(
    key_with_pin: Any, make_credential: Any, verify_credential: Any, sign_in_by_tool: Any
) -> None:
    pin = (key_with_pin.pin,)
    made = verify_credential(make_credential(key_with_pin, "-r", answers=pin))
    said = sign_in_by_tool(key_with_pin, made, "-r", "-t", "pin=true", answers=pin)
    assert said[4] == made.user_id


def test_a_wrong_pin_signs_nothing(key_with_pin: Any, make_credential: Any, tool: Any) -> None:
    make_credential(key_with_pin, "-v", answers=("000000",), ok=False)
    assert "pin retries: 7" in tool("fido2-token", "-I", key_with_pin.path)


def test_hmac_secret_is_the_same_for_the_same_salt(
    key: Any, make_credential: Any, verify_credential: Any, sign_in_by_tool: Any
) -> None:
    made = verify_credential(make_credential(key, "-h"), "-h")
    salts = ["A" * 43 + "=", "B" * 42 + "A="]
    secrets = [sign_in_by_tool(key, made, "-h", salt=salt, check=("-h",))[-1] for salt in [*salts, salts[0]]]
    assert secrets[0] == secrets[2] != secrets[1]


def test_a_protected_credential_is_not_found_without_the_pin(
    key_with_pin: Any, make_credential: Any, verify_credential: Any, sign_in_by_tool: Any
) -> None:
    pin = (key_with_pin.pin,)
    made = verify_credential(make_credential(key_with_pin, "-r", "-c", "3", answers=pin), "-c", "3")
    sign_in_by_tool(key_with_pin, made, ok=False)
    sign_in_by_tool(key_with_pin, made, "-t", "pin=true", answers=pin)


def test_u2f(key: Any, make_credential: Any, verify_credential: Any, sign_in_by_tool: Any) -> None:
    made = make_credential(key, "-u")
    assert made.lines[2] == "fido-u2f"
    sign_in_by_tool(key, verify_credential(made), "-u")


def test_a_credential_of_another_key_is_not_found(
    key: Any, make_credential: Any, verify_credential: Any, sign_in_by_tool: Any
) -> None:
    made = verify_credential(make_credential(key))
    stranger = made.with_id("A" * (len(made.credential_id) - len(made.credential_id) % 4))
    sign_in_by_tool(key, stranger, ok=False)
