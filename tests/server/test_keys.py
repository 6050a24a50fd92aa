"""The key file, secrets at rest, and passwords."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenbridge.errors import BadRequest, SetupError
from tokenbridge.server import keys, passwords


class TestKeyRing:
    def test_what_is_sealed_comes_back(self, tmp_path: Path):
        ring = keys.create(tmp_path / "keys.json")
        sealed = ring.encrypt(b"secret", context="totp:1")
        assert b"secret" not in sealed
        assert keys.load(tmp_path / "keys.json").decrypt(sealed, context="totp:1") == b"secret"
        assert ring.encrypt(b"secret", context="totp:1") != sealed

    def test_a_secret_moved_to_another_row_does_not_open(self, tmp_path: Path):
        ring = keys.create(tmp_path / "keys.json")
        sealed = ring.encrypt(b"secret", context="totp:1")
        with pytest.raises(SetupError):
            ring.decrypt(sealed, context="totp:2")

    def test_every_changed_byte_is_noticed(self, tmp_path: Path):
        ring = keys.create(tmp_path / "keys.json")
        sealed = ring.encrypt(b"secret", context="totp:1")
        for place in range(len(sealed)):
            changed = bytearray(sealed)
            changed[place] ^= 1
            with pytest.raises(SetupError):
                ring.decrypt(bytes(changed), context="totp:1")
        for length in range(len(sealed)):
            with pytest.raises(SetupError):
                ring.decrypt(sealed[:length], context="totp:1")

    def test_rotation_keeps_the_old_readable(self, tmp_path: Path):
        ring = keys.create(tmp_path / "keys.json")
        old = ring.encrypt(b"secret", context="c")
        keys.save(tmp_path / "keys.json", ring.rotated())
        after = keys.load(tmp_path / "keys.json")
        assert after.decrypt(old, context="c") == b"secret"
        assert not after.is_current(old)
        assert after.is_current(after.encrypt(b"secret", context="c"))

    def test_no_key_is_printed(self, tmp_path: Path):
        ring = keys.create(tmp_path / "keys.json")
        assert repr(ring.keys[0].value) not in repr(ring)

    @pytest.mark.parametrize("text", ["", "{}", '{"keys": []}', '{"keys": [{"id": "00", "key": "AAAA"}]}', "[1]", "{"])
    def test_broken_files_are_errors_that_say_what_to_do(self, tmp_path: Path, text: str):
        path = tmp_path / "keys.json"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(SetupError):
            keys.load(path)


class TestPasswords:
    def test_right_wrong_and_nobody(self):
        encoded = passwords.hash_password("correct horse")
        assert encoded.startswith("$argon2id$")
        assert passwords.verify(encoded, "correct horse")
        assert not passwords.verify(encoded, "correct horsE")
        assert not passwords.verify(None, "correct horse")
        assert not passwords.verify(None, "nobody has this password")
        assert not passwords.verify("damaged", "correct horse")

    @pytest.mark.parametrize("password", ["", "1234567", "x" * 1025])
    def test_unfit_passwords(self, password: str):
        with pytest.raises(BadRequest):
            passwords.hash_password(password)


def test_tokens_are_long_and_stored_as_hashes():
    tokens = {keys.new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 for token in tokens)
    assert all(len(keys.hash_token(token)) == 64 for token in tokens)
