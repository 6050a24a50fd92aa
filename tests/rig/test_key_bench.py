"""`tokenbridge rig key`: keys by name, served by a process of their own on a packet socket."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from fido2.ctap import CtapError
from fido2.ctap2 import Ctap2

from tests.patience import SECONDS
from tokenbridge.authenticator.profile import Profile
from tokenbridge.cli.rig_key import key as command
from tokenbridge.errors import BadRequest, NotAllowedNow, SetupError
from tokenbridge.rig.key_bench import KeyBench, place_for
from tokenbridge.rig.key_pki import FIDO_AAGUID, KeyPki
from tokenbridge.rig.virtual_key import AAGUID
from tokenbridge.transport import packets

from .key_host import Site, client, close_all, device

Run = Callable[..., Any]


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    return tmp_path / "sockets"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run `tokenbridge rig key` in a home of its own; its JSON."""
    home = tmp_path / "home"

    def call(*arguments: str) -> Any:
        done = CliRunner().invoke(command, [*arguments, "--home", str(home), "--json"], catch_exceptions=True)
        if done.exception is not None:
            raise done.exception
        return json.loads(done.output)

    yield call
    close_all()
    for entry in KeyBench(home).entries():
        KeyBench(home).remove(entry.name)


def test_a_key_is_made_inserted_and_pulled(run: Run, sockets: Path) -> None:
    made = run("new", "blue", "--serial", "B1", "--rooms", "3")
    assert (made["key"]["serial"], made["key"]["inserted"], made["key"]["pin"]) == ("B1", None, False)
    inserted = run("insert", "blue", "--sockets", str(sockets), "--touch", "always")["key"]["inserted"]
    assert inserted["place"] == str(sockets / "blue-B1.key")
    [place] = packets.keys(sockets)
    site = Site()
    quiet = {"user_verification": "discouraged"}
    site.register(client(packets.connect(place.path)), **quiet, resident_key_requirement="required")
    site.sign_in(client(packets.connect(place.path)), **quiet, listed=False)
    shown = run("info", "blue")
    assert [(one["rp_id"], one["user"]) for one in shown["credentials"]] == [("example.org", "user-1")]
    assert run("remove", "blue")["key"]["inserted"] is None
    assert packets.keys(sockets) == []


def test_the_key_is_touched_by_hand(run: Run, sockets: Path) -> None:
    run("new", "blue")
    place = run("insert", "blue", "--sockets", str(sockets))["key"]["inserted"]["place"]
    two = Ctap2(device(packets.connect(place)))
    words: list[str] = []

    def select() -> None:
        try:
            two.selection()
            words.append("touched")
        except CtapError as err:
            words.append(err.code.name)

    for flags in ([], ["--deny"]):
        thread = Thread(target=select)
        thread.start()
        run("touch", "blue", *flags)
        thread.join(SECONDS)
    assert words == ["touched", "OPERATION_DENIED"]


def test_inserting_twice_is_inserting_once(run: Run, sockets: Path) -> None:
    run("new", "blue")
    first = run("insert", "blue", "--sockets", str(sockets))
    assert run("insert", "blue") == first
    assert run("list")["keys"] == [first["key"]]


def test_what_can_not_be(run: Run, sockets: Path) -> None:
    run("new", "blue")
    with pytest.raises(NotAllowedNow):
        run("new", "blue")
    with pytest.raises(BadRequest):
        run("new", "../blue")
    with pytest.raises(BadRequest):
        run("new", "red", "--algorithm", "rot13")
    with pytest.raises(BadRequest):
        run("new", "red", "--aaguid", "none")
    with pytest.raises(SetupError):
        run("insert", "red", "--sockets", str(sockets))
    with pytest.raises(NotAllowedNow):
        run("touch", "blue")
    assert run("remove", "blue")["key"]["inserted"] is None


def test_models_of_many_kinds(run: Run, sockets: Path) -> None:
    aaguid = str(uuid.UUID(int=7))
    run(
        "new", "old", "--no-pin", "--no-u2f", "--algorithm", "es256", "--attestation", "packed-self", "--aaguid", aaguid
    )
    run("new", "bio", "--fingerprints", "--preview")
    infos = {}
    for name in ("old", "bio"):
        place = run("insert", name, "--sockets", str(sockets))["key"]["inserted"]["place"]
        infos[name] = Ctap2(device(packets.connect(place))).info
    assert str(infos["old"].aaguid) == aaguid
    assert infos["old"].versions == ["FIDO_2_0", "FIDO_2_1"]
    assert [one["alg"] for one in infos["old"].algorithms] == [-7]
    assert "clientPin" not in infos["old"].options
    assert infos["bio"].options["bioEnroll"] is False
    assert "FIDO_2_1_PRE" in infos["bio"].versions


def test_where_a_key_is_plugged_in(tmp_path: Path) -> None:
    bench = KeyBench(tmp_path)
    entry = bench.new("blue", Profile(aaguid=AAGUID), "B1")
    kernel = tmp_path / "uhid"
    assert place_for(entry, tmp_path / "s", kernel=kernel) == str(tmp_path / "s" / "blue-B1.key")
    kernel.touch()
    assert place_for(entry, tmp_path / "s", kernel=kernel) == "uhid"
    with pytest.raises(SetupError, match="can't be a folder"):
        place_for(entry, kernel, kernel=None)
    with pytest.raises(SetupError, match="/dev/uhid"):
        place_for(entry, None, kernel=None)


# --- the makers' root --------------------------------------------------------------------------------------------


def test_the_root_is_kept_and_certifies_batches_as_webauthn_wants_them(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    KeyPki.create(now=now).save(tmp_path)
    pki = KeyPki.load(tmp_path)
    batch = pki.batch(AAGUID, now=now)
    leaf = x509.load_der_x509_certificate(batch.certificates[0])
    leaf.verify_directly_issued_by(pki.root)
    assert leaf.version is x509.Version.v3
    units = leaf.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [unit.value for unit in units] == ["Authenticator Attestation"]
    extension = leaf.extensions.get_extension_for_oid(FIDO_AAGUID)
    assert not extension.critical
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    assert extension.value.value == b"\x04\x10" + AAGUID
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(SetupError):
        KeyPki.load(tmp_path / "elsewhere")
