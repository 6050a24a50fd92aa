"""Our virtual keys, by our client, at our server: what is sent is verified here and by two judges that are not ours."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fido.conftest import KeyBench as Workstation
from tests.fido.conftest import pin
from tests.foreign.webauthn.judges import judge_assertion, judge_registration
from tests.server.conftest import Bench, make_bench, now, serving
from tests.server.key_bench import KeyBench, key_options
from tests.software_key import Maker
from tokenbridge.authenticator.profile import Algorithm, AttestationFormat, Profile
from tokenbridge.fido import register, sign_in, verification
from tokenbridge.fido.info import Verification
from tokenbridge.fido.request import assertion_request, creation_request
from tokenbridge.rig.key_pki import KeyPki
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.rp.key_metadata import Model
from tokenbridge.rp.key_registration import Registration, verify_registration
from tokenbridge.rp.webauthn import Expectation

pytestmark = pytest.mark.foreign

MODEL = os.urandom(16)
PKI = KeyPki.create(now=dt.datetime.now(dt.UTC))
ROOT = PKI.root.public_bytes(Encoding.DER)

KEYS: dict[str, dict[str, Any]] = {
    **{algorithm.name: {"algorithms": (algorithm,)} for algorithm in Algorithm},
    "self attestation": {"attestation": AttestationFormat.PACKED_SELF, "u2f": False},
    "no attestation": {"attestation": AttestationFormat.NONE, "u2f": False},
    "keeps nothing": {"discoverable": False},
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyBench]:
    bench: Bench = make_bench(tmp_path_factory.mktemp("server") / "data", RigPki.create(now=now()))
    with serving(bench.data) as server:
        made = KeyBench(bench=bench, server=server, maker=Maker())
        made.load(Model(name="Virtual key", aaguid=MODEL, roots=(ROOT,), protection=frozenset({"hardware"})))
        yield made


@contextmanager
def plugged(origin: str, *, with_pin: bool, **profile: Any) -> Iterator[Workstation]:
    key = VirtualKey.create(Profile(aaguid=MODEL, **profile), pki=PKI)
    workstation = Workstation(key, origin=origin)
    try:
        if with_pin:
            workstation.set_pin()
        yield workstation
    finally:
        workstation.close()


def typed(how: Verification) -> Any:
    return pin() if how is Verification.PIN else None


def create(workstation: Workstation, options: dict[str, Any]) -> dict[str, Any]:
    request = creation_request(options, workstation.origin)
    how = verification.to_register(workstation.session.facts, request.verification)
    return dict(register.create(workstation.session, request, how, typed(how)).response)


def answer(workstation: Workstation, options: dict[str, Any]) -> dict[str, Any]:
    request = assertion_request(options, workstation.origin)
    how = verification.to_sign_in(workstation.session.facts, request.verification)
    return dict(sign_in.sign(workstation.session, request, how, typed(how))[0].response)


@pytest.mark.parametrize("with_pin", [True, False], ids=["PIN", "touch"])
@pytest.mark.parametrize("kind", KEYS)
def test_registers_and_signs_in(at: KeyBench, kind: str, with_pin: bool):
    name = at.newcomer()
    begun = at.begin_by_code(name).json()
    with plugged(at.origin, with_pin=with_pin, **KEYS[kind]) as workstation:
        response = create(workstation, begun["options"])
        done = at.finish(begun, response)
        assert done.status_code == 201, done.text
        cose = judged_registration(at, begun["options"], response)
        ticket = at.start(name)
        options = key_options(ticket)
        assertion = answer(workstation, options)
        outcome = at.present(ticket, assertion).json()
    judge_assertion(options, assertion, origin=at.origin, public_key=cose, user_verification=with_pin)
    vouched = "attestation" not in kind
    level = 3 if with_pin and vouched else 2 if with_pin else 1
    assert done.json()["key"]["level"] == level
    if with_pin:
        assert outcome["assurance"]["aal"] == level
    else:
        assert outcome["methods"] == ["password"]


def judged_registration(at: KeyBench, options: dict[str, Any], response: dict[str, Any]) -> bytes:
    """The public key that all judges found."""
    expected = Expectation(challenge=options["challenge"], origin=at.origin, rp_id="localhost")
    found = verify_registration(Registration.parse(response), expected)
    roots = {"packed": [PKI.root.public_bytes(Encoding.PEM)]} if found.statement.path else {}
    for facts in judge_registration(options, response, origin=at.origin, roots=roots):
        assert (facts.id, facts.public_key) == (found.credential_id, found.cose), facts
    return found.cose


def test_without_a_name_by_what_the_key_remembers(at: KeyBench):
    name = at.newcomer()
    begun = at.begin_by_code(name).json()
    with plugged(at.origin, with_pin=True) as workstation:
        assert at.finish(begun, create(workstation, begun["options"])).json()["key"]["discoverable"]
        for _ in range(3):
            ticket = at.start()
            outcome = at.present(ticket, answer(workstation, key_options(ticket))).json()
            assert (outcome["decision"], outcome["account"]["username"]) == ("allow", name)


def test_a_key_that_was_set_back_is_doubted(at: KeyBench):
    """Its counter as it was before two sign-ins: a copy would begin there."""
    name = at.newcomer()
    begun = at.begin_by_code(name).json()
    with plugged(at.origin, with_pin=True) as workstation:
        assert at.finish(begun, create(workstation, begun["options"])).status_code == 201
        old = workstation.key.memory
        for expected in ("allow", "allow"):
            ticket = at.start()
            assert at.present(ticket, answer(workstation, key_options(ticket))).json()["decision"] == expected
        workstation.key.unplug()
        with workstation.key.edit() as memory:
            memory.counter = old.counter
        workstation.replug()
        ticket = at.start()
        outcome = at.present(ticket, answer(workstation, key_options(ticket))).json()
    assert outcome["decision"] != "allow"
    assert outcome["reasons"][0]["code"] == "undecided:key-maybe-copied"
