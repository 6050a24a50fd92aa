"""libfido2's fido2-token manages our key: what it is, PIN, reset, discoverable credentials, large blobs."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.foreign

PIN, OTHER_PIN = "271828", "31415926"


def test_it_is_listed(tool: Any, key: Any) -> None:
    assert re.search(rf"^{key.path}: vendor=0x[0-9a-f]{{4}}, product=0x[0-9a-f]{{4}} ", tool("fido2-token", "-L"), re.M)


def test_it_says_what_it_is(tool: Any, key: Any) -> None:
    said = tool("fido2-token", "-I", key.path)
    versions = re.search(r"^version strings: (.*)$", said, re.M)
    assert versions is not None
    assert {"FIDO_2_0"} <= set(versions[1].split(", "))
    assert re.search(r"^aaguid: [0-9a-f]{32}$", said, re.M)
    assert re.search(r"^pin protocols: ", said, re.M)
    assert re.search(r"^caps: .*cbor", said, re.M)


def test_a_pin_is_set_changed_and_counted(tool: Any, fresh_key: Any) -> None:
    path = fresh_key.path
    assert "noclientPin" in tool("fido2-token", "-I", path)
    tool("fido2-token", "-S", path, answers=(PIN, PIN))
    assert re.search(r"^options: .*\bclientPin", tool("fido2-token", "-I", path), re.M)
    tool("fido2-token", "-C", path, answers=(OTHER_PIN, PIN, PIN), ok=False)
    assert "pin retries: 7" in tool("fido2-token", "-I", path)
    tool("fido2-token", "-C", path, answers=(PIN, OTHER_PIN, OTHER_PIN))
    assert "pin retries: 8" in tool("fido2-token", "-I", path)


@pytest.mark.parametrize("pin", ["123", "x" * 64])
def test_an_unfit_pin_is_refused(tool: Any, fresh_key: Any, pin: str) -> None:
    tool("fido2-token", "-S", fresh_key.path, answers=(pin, pin), ok=False)
    assert "noclientPin" in tool("fido2-token", "-I", fresh_key.path)


def test_three_wrong_pins_pause_it_until_it_is_plugged_in_again(tool: Any, key_with_pin: Any) -> None:
    for _ in range(3):
        tool("fido2-token", "-I", "-c", key_with_pin.path, answers=(OTHER_PIN,), ok=False)
    tool("fido2-token", "-I", "-c", key_with_pin.path, answers=(key_with_pin.pin,), ok=False)
    assert "pin retries: 5" in tool("fido2-token", "-I", key_with_pin.path)
    key_with_pin.replug()
    tool("fido2-token", "-I", "-c", key_with_pin.path, answers=(key_with_pin.pin,))
    assert "pin retries: 8" in tool("fido2-token", "-I", key_with_pin.path)


def test_it_is_reset_only_just_after_it_was_plugged_in(tool: Any, key_with_pin: Any) -> None:
    key_with_pin.replug()
    key_with_pin.touch()
    tool("fido2-token", "-R", key_with_pin.path)
    assert "noclientPin" in tool("fido2-token", "-I", key_with_pin.path)


def test_discoverable_credentials_are_listed_and_deleted(
    tool: Any, key_with_pin: Any, make_credential: Any, tmp_path: Path
) -> None:
    path, pin = key_with_pin.path, (key_with_pin.pin,)
    made = make_credential(key_with_pin, "-r", rp_id="ward.example", user="ada", answers=pin)
    make_credential(key_with_pin, "-r", rp_id="lab.example", user="ada", answers=pin)
    said = tool("fido2-token", "-L", "-r", path, answers=pin)
    assert set(re.findall(r"^\d\d: \S+ (\S+)$", said, re.M)) == {"ward.example", "lab.example"}
    metadata = tool("fido2-token", "-I", "-c", path, answers=pin)
    assert "existing rk(s): 2" in metadata
    listed = tool("fido2-token", "-L", "-k", "ward.example", path, answers=pin)
    assert f"00: {made.credential_id} (null) {made.user_id} es256 " in listed  # fido2-cred gives no display name
    tool("fido2-token", "-D", "-i", made.credential_id, path, answers=pin)
    assert "ward.example" not in tool("fido2-token", "-L", "-r", path, answers=pin)


def test_a_large_blob_is_kept_sealed(tool: Any, key_with_pin: Any, make_credential: Any, tmp_path: Path) -> None:
    path, pin = key_with_pin.path, (key_with_pin.pin,)
    made = make_credential(key_with_pin, "-r", "-b", rp_id="blob.example", answers=pin)
    secret, blob, back = tmp_path / "key", tmp_path / "blob", tmp_path / "back"
    secret.write_text(made.lines[-1] + "\n")
    assert len(base64.b64decode(made.lines[-1])) == 32
    blob.write_bytes(b"a certificate " * 60)
    tool("fido2-token", "-S", "-b", "-k", secret, blob, path, answers=pin)
    tool("fido2-token", "-G", "-b", "-k", secret, back, path)
    assert back.read_bytes() == blob.read_bytes()
    tool("fido2-token", "-D", "-b", "-k", secret, path, answers=pin)
    tool("fido2-token", "-G", "-b", "-k", secret, back, path, ok=False)


def test_a_longer_pin_and_verification_always_can_be_asked_for(tool: Any, key_with_pin: Any) -> None:
    path, pin = key_with_pin.path, key_with_pin.pin
    tool("fido2-token", "-S", "-l", "8", path, answers=(pin,))
    assert re.search(r"^minpinlen: 8$", tool("fido2-token", "-I", path), re.M)
    tool("fido2-token", "-C", path, answers=(pin, OTHER_PIN, OTHER_PIN))
    tool("fido2-token", "-S", "-u", path, answers=(OTHER_PIN,))
    assert re.search(r"^options: .*\balwaysUv", tool("fido2-token", "-I", path), re.M)
