"""The command line as people and scripts use it, against the real pcscd and a running relying party."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest

from tests.patience import Lines, ended
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.plugin import CardMaker, Slots
from tokenbridge.rig.provision import Staff
from tokenbridge.rig.workplace import PASSWORD, Workplace

pytestmark = pytest.mark.pcscd

P256 = {0x9A: Algorithm.P256}
PATIENCE = 20.0


def test_sign_in_prints_what_was_decided_and_why(workplace: Workplace, rig_card: Any) -> None:
    ran = workplace.sign_in(secrets={"--pin-fd": "123456"})
    assert ran.code == 0
    assert "Signed in as Ada Lovelace (ada)" in ran.output
    assert "AAL3: card signature, PIN enforced by the issuer; no text message or app code needed" in ran.output
    assert "Not asked, because what was proved is enough: authenticator-app code" in ran.output


def test_json_gives_the_session_that_the_server_knows(workplace: Workplace, rig_card: Any) -> None:
    ran = workplace.sign_in("--json", secrets={"--pin-fd": "123456"})
    outcome = json.loads(ran.output.splitlines()[-1])
    assert outcome["assurance"]["amr"] == ["sc", "hwk", "pin", "mfa"]
    trust = ssl.create_default_context(cafile=str(workplace.ca_file))
    with httpx.Client(verify=trust, trust_env=False) as client:
        answer = client.get(
            workplace.origin + "/api/session", headers={"Authorization": f"Bearer {outcome['session']['token']}"}
        )
    assert answer.json()["account"]["username"] == "ada"


def test_exit_codes_and_messages(workplace: Workplace, rig_card: Any) -> None:
    wrong = workplace.sign_in(secrets={"--pin-fd": "654321"})
    assert (wrong.code, "2 tries are left" in wrong.output) == (4, True)
    assert wrong.output.count("The PIN is wrong") == 1
    unfit = workplace.sign_in("--json", secrets={"--pin-fd": "12"})
    assert (unfit.code, json.loads(unfit.output)["error"]["code"]) == (4, "pin-unfit")
    nobody = workplace.run("sign-in", "https://localhost:1", secrets={"--pin-fd": "123456"})
    assert nobody.code == 7
    assert "does not answer" in nobody.output
    assert workplace.run("sign-in").code == 2
    rig_card.stop()
    gone = workplace.sign_in("--wait", "0.2", secrets={"--pin-fd": "123456"})
    assert gone.code == 3


def test_card_commands(workplace: Workplace, rig_card: Any) -> None:
    listed = workplace.must_json("card", "list")["cards"][0]
    assert (listed["holder"], listed["tries_left"], listed["application"]) == ("000123456789", 3, "PIV")
    shown = workplace.must_json("card", "info")
    assert [certificate["slot"] for certificate in shown["certificates"]] == ["9A"]
    assert shown["certificates"][0]["fitness"] == "fits"
    pem = workplace.must("card", "certs", "--slot", "9a", "--pem").output
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-subject"], input=pem, text=True, capture_output=True, check=True
    )
    assert "000123456789" in done.stdout
    assert "9A" in workplace.must("card", "certs").output


def test_enrol_by_pipe_as_the_readme_says(workplace: Workplace, slots: Slots, make_card: CardMaker) -> None:
    """An account without a user id of its own: only the enrolled certificate makes the card sign in."""
    workplace.add_user("grace", "Grace Hopper")
    slots.insert(make_card(Staff(uid="000999999999", keys=P256)).card)
    before = workplace.sign_in(secrets={"--pin-fd": "123456"})
    assert before.code == 5
    pem = workplace.must("card", "certs", "--slot", "9A", "--pem").output + "\n"
    enrolled = subprocess.run(
        [sys.executable, "-m", "tokenbridge", "server", "card", "enrol", "grace", "--pem", "-"],
        env=workplace.environ, input=pem, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert enrolled.returncode == 0, enrolled.stderr
    after = workplace.sign_in(secrets={"--pin-fd": "123456"})
    assert (after.code, "Grace Hopper" in after.output) == (0, True)


def test_watch_tells_what_happens_as_it_happens(workplace: Workplace, slots: Slots, make_card: CardMaker) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "tokenbridge", "watch", "--json"],
        env=workplace.environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with ended(watching):
        lines = Lines(watching.stdout)

        def hears(event: str) -> None:
            lines.next(lambda line: json.loads(line)["event"] == event)

        hears("now")
        connection = slots.insert(make_card(Staff(keys=P256)).card)
        hears("card-inserted")
        connection.stop()
        hears("card-removed")


def test_unreachable_revocation_server_means_a_challenge(
    workplace: Workplace, slots: Slots, tmp_path: Path, person: Any
) -> None:
    """Undecided is not good enough to leave out the challenge; the other proofs still sign the person in, at AAL2."""
    pki = RigPki.create(now=datetime.now(UTC), label="Unreachable")
    pki.save(tmp_path)
    workplace.must(
        "server", "trust", "add", "unreachable", "--pem", str(tmp_path / "root.pem"), "--intermediate",
        str(tmp_path / "issuing.pem"), "--hardware", "--pin-enforced", "--map-nhs-uid",
        "--crl", str(tmp_path / "root.crl"), "--crl", "http://127.0.0.1:9/issuing.crl",
    )  # fmt: skip
    slots.insert(CardMaker(pki, datetime.now(UTC))(Staff(keys=P256)).card)
    alone = person.sign_in()
    assert alone.decision == "challenge"
    assert alone.last["outcome"]["suppressed"] == []
    assert "session" not in alone.last["outcome"]
    answers = {
        "pin": ["123456"], "username": ["ada"], "password": [PASSWORD],
        "code": [pyotp.TOTP(workplace.totp_secret).at(datetime.now(UTC) + timedelta(seconds=30))],
    }  # fmt: skip
    whole = person.sign_in(answers)
    assert whole.decision == "allow"
    assert whole.last["outcome"]["assurance"]["aal"] == 2


@pytest.mark.foreign
@pytest.mark.skipif(shutil.which("pinentry-curses") is None, reason="pinentry-curses is not installed")
def test_the_pin_by_a_real_pinentry(workplace: Workplace, rig_card: Any, person: Any) -> None:
    """GnuPG's own pinentry on a terminal: it shows who asks and for whose card, and what is typed reaches the card."""
    master, slave = pty.openpty()
    place = {"ttyname": os.ttyname(slave), "ttytype": "xterm"}
    screen = b""
    try:
        with person.begin(pinentry=place) as stream:
            first = next(iter(stream))
            assert first["step"] == "pinentry"
            screen = _read_until(master, b"tries left")
            os.write(master, b"123456\r")
            last = list(stream)[-1]
    finally:
        os.close(slave)
        os.close(master)
    assert last["event"] == "done"
    assert b"Test Hospital" in screen
    assert b"000123456789" in screen


def _read_until(descriptor: int, words: bytes) -> bytes:
    seen, limit = b"", time.monotonic() + PATIENCE
    while words not in seen and time.monotonic() < limit:
        if select.select([descriptor], [], [], 0.5)[0]:
            seen += os.read(descriptor, 65536)
    return seen


def test_demo_as_json(tmp_path: Path) -> None:
    """The demo itself: all scenes, from a process that knows nothing of this workplace; also where the folder for
    temporary files has a path too long for sockets."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("TOKENBRIDGE", "PCSCLITE"))}
    done = subprocess.run(
        [sys.executable, "-m", "tokenbridge", "demo", "--json"],
        env=environ | {"TMPDIR": str(folder)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scenes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(scenes) == 8
    assert list(folder.iterdir()) == []
