"""A key's evidence, bent in every way that the specification names: one reason each, and always a refusal."""

from __future__ import annotations

import ast
import datetime as dt
import json
import struct
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fido2 import cbor
from fido2.cose import ES256, RS256, CoseKey
from hypothesis import given
from hypothesis import strategies as st

from tests.software_key import AAGUID, BE, BS, ED, EDDSA, UP, UV, Maker, SoftwareKey, b64u, client_data
from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp import cbor_form, key_models
from tokenbridge.rp.assurance import AAL, assess
from tokenbridge.rp.cose_keys import ALGORITHMS, load_key
from tokenbridge.rp.key_assertion import Assertion, RegisteredKey, Signed, may_be_copied, verify_assertion
from tokenbridge.rp.key_models import KeyPolicy, Need, Standing
from tokenbridge.rp.key_options import Credential, Site, User, creation_options, request_options
from tokenbridge.rp.key_proof import proof_of, verified_by
from tokenbridge.rp.key_registration import NewKey, Registration, verify_registration
from tokenbridge.rp.proof import Factor
from tokenbridge.rp.webauthn import Expectation, from_base64url, parse_authenticator_data, to_base64url

ORIGIN, RP_ID = "https://localhost:8443", "localhost"
CHALLENGE = to_base64url(bytes(range(32)))
SITE, USER = Site(name="Test", rp_id=RP_ID), User(handle=b"h" * 64, name="ada", display_name="Ada")
CREATE = creation_options(SITE, USER, bytes(range(32)), [], KeyPolicy(), seconds=60)
GET = request_options(SITE, bytes(range(32)), [], KeyPolicy(), seconds=60)


def expected(**changes: Any) -> Expectation:
    return Expectation(**{"challenge": CHALLENGE, "origin": ORIGIN, "rp_id": RP_ID, **changes})


def register(key: SoftwareKey, want: Expectation | None = None, **bent: Any) -> NewKey:
    return verify_registration(Registration.parse(key.register(CREATE, ORIGIN, **bent)), want or expected())


def sign_in(key: SoftwareKey, want: Expectation | None = None, **bent: Any) -> Signed:
    known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=bool(key.flags & BE))
    return verify_assertion(Assertion.parse(key.answer(GET, ORIGIN, **bent)), known, want or expected())


def reason_of(work: Callable[[], object]) -> RejectReason:
    with pytest.raises(Rejected) as caught:
        work()
    assert caught.value.message.endswith(".")
    assert len(caught.value.hint) > 10
    return caught.value.reason


BENT = [
    ({"client": {"challenge": to_base64url(bytes(32))}}, RejectReason.CHALLENGE_MISMATCH),
    ({"client": {"challenge": None}}, RejectReason.CHALLENGE_MISMATCH),
    ({"client": {"type": "payment.get"}}, RejectReason.CLIENT_DATA_TYPE),
    ({"client": {"origin": "https://localhost"}}, RejectReason.ORIGIN_MISMATCH),
    ({"client": {"origin": "https://localhost:8443/"}}, RejectReason.ORIGIN_MISMATCH),
    ({"client": {"origin": "http://localhost:8443"}}, RejectReason.ORIGIN_MISMATCH),
    ({"client": {"origin": "https://evil.localhost:8443"}}, RejectReason.ORIGIN_MISMATCH),
    ({"client": {"origin": ["https://localhost:8443"]}}, RejectReason.ORIGIN_MISMATCH),
    ({"client": {"crossOrigin": True}}, RejectReason.CROSS_ORIGIN),
    ({"client": {"crossOrigin": "false"}}, RejectReason.MALFORMED),
    ({"client": {"topOrigin": "https://localhost:8443"}}, RejectReason.CROSS_ORIGIN),
    ({"client": {"padding": "x" * 5000}}, RejectReason.MALFORMED),
    ({"rp_id": "evil.example"}, RejectReason.RP_ID_MISMATCH),
    ({"flags": UV}, RejectReason.USER_NOT_PRESENT),
    ({"flags": 0}, RejectReason.USER_NOT_PRESENT),
    ({"flags": UP | UV | BS}, RejectReason.BACKUP_STATE),
]


@pytest.mark.parametrize(("bent", "reason"), BENT)
def test_a_bent_registration(bent: dict, reason: RejectReason):
    assert reason_of(lambda: register(SoftwareKey(), **bent)) is reason


@pytest.mark.parametrize(("bent", "reason"), BENT)
def test_a_bent_sign_in(bent: dict, reason: RejectReason):
    assert reason_of(lambda: sign_in(SoftwareKey(), **bent)) is reason


def test_registration_and_sign_in_are_not_each_other():
    create, get = {"client": {"type": "webauthn.create"}}, {"client": {"type": "webauthn.get"}}
    assert reason_of(lambda: sign_in(SoftwareKey(), **create)) is RejectReason.CLIENT_DATA_TYPE
    assert reason_of(lambda: register(SoftwareKey(), **get)) is RejectReason.CLIENT_DATA_TYPE


@pytest.mark.parametrize("work", [register, sign_in])
def test_verification_that_is_required_and_not_done(work: Callable[..., object]):
    want = expected(user_verification=True)
    assert reason_of(lambda: work(SoftwareKey(flags=UP), want)) is RejectReason.USER_NOT_VERIFIED
    assert work(SoftwareKey(), want)


def test_verification_that_is_claimed_after_signing():
    key = SoftwareKey(flags=UP)
    raw = key.answer(GET, ORIGIN)
    data = bytearray(from_base64url(raw["response"]["authenticatorData"], most=99, what=""))
    data[32] |= UV
    raw["response"]["authenticatorData"] = b64u(bytes(data))
    known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
    assert (
        reason_of(lambda: verify_assertion(Assertion.parse(raw), known, expected())) is RejectReason.SIGNATURE_INVALID
    )


@pytest.mark.parametrize("now", [UP | UV | BE, UP | UV | BE | BS])
def test_a_key_that_becomes_syncable_is_refused(now: int):
    assert reason_of(lambda: sign_in(SoftwareKey(), flags=now)) is RejectReason.BACKUP_STATE


def test_a_key_that_is_no_longer_syncable_is_refused():
    assert reason_of(lambda: sign_in(SoftwareKey(flags=UP | UV | BE), flags=UP | UV)) is RejectReason.BACKUP_STATE


def test_the_backup_itself_may_come_and_go():
    assert sign_in(SoftwareKey(flags=UP | UV | BE), flags=UP | UV | BE | BS).backed_up


def test_embedding_where_it_is_allowed():
    key, top = SoftwareKey(), {"crossOrigin": True, "topOrigin": "https://portal.example"}
    want = expected(cross_origin=True, top_origins=frozenset({"https://portal.example"}))
    assert sign_in(key, want, client=top)
    other = {**top, "topOrigin": "https://evil.example"}
    for top in (other["topOrigin"], ["https://portal.example"], {}, 7):
        bent = {**other, "topOrigin": top}
        assert reason_of(lambda bent=bent: sign_in(key, want, client=bent)) is RejectReason.CROSS_ORIGIN


def test_another_keys_signature():
    known, stranger = SoftwareKey(), SoftwareKey()
    stranger.credential_id = known.credential_id
    key = RegisteredKey(credential_id=known.credential_id, cose=known.cose, backup_eligible=False)
    raw = Assertion.parse(stranger.answer(GET, ORIGIN))
    assert reason_of(lambda: verify_assertion(raw, key, expected())) is RejectReason.SIGNATURE_INVALID


def test_a_swapped_credential():
    known, other = SoftwareKey(), SoftwareKey()
    key = RegisteredKey(credential_id=known.credential_id, cose=known.cose, backup_eligible=False)
    raw = Assertion.parse(other.answer(GET, ORIGIN))
    assert reason_of(lambda: verify_assertion(raw, key, expected())) is RejectReason.CREDENTIAL_UNKNOWN


def test_an_identifier_other_than_the_attested_one():
    key = SoftwareKey()
    raw = key.register(CREATE, ORIGIN)
    raw["id"] = raw["rawId"] = b64u(b"another")
    found = Registration.parse(raw)
    assert reason_of(lambda: verify_registration(found, expected())) is RejectReason.CREDENTIAL_UNKNOWN


@pytest.mark.parametrize(
    ("stored", "counter", "copied"),
    [(0, 0, False), (0, 1, False), (5, 6, False), (5, 5, True), (5, 4, True), (5, 0, True), (2**32 - 1, 0, True)],
)
def test_counters(stored: int, counter: int, copied: bool):
    assert may_be_copied(stored=stored, counter=counter) is copied


class TestPublicKeys:
    def cose(self, **changes: Any) -> bytes:
        key = dict(ES256.from_cryptography_key(ec.generate_private_key(ec.SECP256R1()).public_key()))
        key.update({int(name[1:].replace("_", "-")): value for name, value in changes.items()})
        return cbor.encode({name: value for name, value in key.items() if value is not None})

    @pytest.mark.parametrize("number", sorted(ALGORITHMS))
    def test_each_accepted_algorithm_has_a_shape(self, number: int):
        with pytest.raises(Rejected) as caught:
            load_key(cbor.encode({3: number}))
        assert caught.value.reason is RejectReason.MALFORMED

    @pytest.mark.parametrize("algorithm", [0, -65535, -37, -47, 5, -48, 2**40])
    def test_other_algorithms(self, algorithm: int):
        assert reason_of(lambda: load_key(self.cose(k3=algorithm))) is RejectReason.ALGORITHM_UNSUPPORTED

    @pytest.mark.parametrize("change", [{"k1": 3}, {"k_1": 2}, {"k_2": bytes(31)}, {"k_3": None}, {"k_2": 7},
                                        {"k4": [1]}, {"k_2": bytes(32), "k_3": bytes(32)}, {"k3": -35}])  # fmt: skip
    def test_keys_that_do_not_hold_together(self, change: dict):
        assert reason_of(lambda: load_key(self.cose(**change))) is RejectReason.MALFORMED

    @pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2048, 3)])
    def test_weak_rsa(self, bits: int, exponent: int):
        public = rsa.generate_private_key(exponent, bits).public_key()
        cose = cbor.encode(dict(RS256.from_cryptography_key(public)))
        assert reason_of(lambda: load_key(cose)) is RejectReason.ALGORITHM_WEAK

    def test_fewer_algorithms_by_the_callers_wish(self):
        raw = Registration.parse(SoftwareKey(algorithm=EDDSA).register(CREATE, ORIGIN))
        only = frozenset({-7})
        assert reason_of(lambda: verify_registration(raw, expected(), only)) is RejectReason.ALGORITHM_UNSUPPORTED

    def test_the_fully_specified_number_of_a_curve(self):
        key = SoftwareKey()
        known = CoseKey.parse(cbor.decode(key.cose))
        cose = cbor.encode({**known, 3: -9})
        fresh = RegisteredKey(credential_id=key.credential_id, cose=cose, backup_eligible=False)
        assert verify_assertion(Assertion.parse(key.answer(GET, ORIGIN)), fresh, expected())


class TestAttestation:
    @pytest.mark.parametrize("fmt", ["packed", "fido-u2f"])
    def test_a_maker_vouches(self, fmt: str):
        maker = Maker()
        key = SoftwareKey(maker=maker, fmt=fmt, aaguid=AAGUID if fmt == "packed" else bytes(16))
        statement = register(key).statement
        assert (statement.format, statement.by) == (fmt, "maker")
        assert len(statement.path) == 1

    def test_u2f_says_nothing_about_the_model(self):
        assert register(SoftwareKey(maker=Maker(), fmt="fido-u2f", aaguid=AAGUID)).aaguid == bytes(16)

    def test_a_certificate_of_another_model(self):
        key = SoftwareKey(maker=Maker(), fmt="packed")
        key.aaguid = bytes(15) + b"\x01"
        assert reason_of(lambda: register(key)) is RejectReason.ATTESTATION_INVALID

    def test_a_statement_of_another_registration(self):
        key = SoftwareKey(maker=Maker(), fmt="packed")
        old = key.register(CREATE, ORIGIN)
        statement = cbor.decode(from_base64url(old["response"]["attestationObject"], most=9999, what=""))["attStmt"]
        raw = Registration.parse(key.register(CREATE, ORIGIN, statement=statement, client={"x": 1}))
        assert reason_of(lambda: verify_registration(raw, expected())) is RejectReason.ATTESTATION_INVALID

    @pytest.mark.parametrize("statement", [{"alg": -7}, {"alg": -7, "sig": b""}, {"sig": b"x"}, {"alg": 0, "sig": b"x"},
                                           {"alg": -7, "sig": 7, "x5c": []}, {"alg": -7, "sig": b"x", "x5c": [b"x"]},
                                           {"alg": -7, "sig": b"x", "x5c": [b"x"] * 20}, {"x5c": "text"},
                                           {"alg": -65535, "sig": b"x", "x5c": [b"x"]}])  # fmt: skip
    @pytest.mark.parametrize("fmt", ["packed", "fido-u2f", "tpm", "android-key", "apple", "none"])
    def test_rubbish_in_every_format(self, fmt: str, statement: dict):
        key = SoftwareKey(fmt=fmt)
        assert reason_of(lambda: register(key, statement=statement)) is RejectReason.ATTESTATION_INVALID

    @pytest.mark.parametrize("fmt", ["android-safetynet", "compound", "", "PACKED", "x" * 999])
    def test_formats_that_are_not_known(self, fmt: str):
        assert reason_of(lambda: register(SoftwareKey(fmt="packed"), fmt=fmt)) is RejectReason.FORMAT_UNSUPPORTED

    def test_self_attestation_by_another_key(self):
        key = SoftwareKey(fmt="packed")
        other = SoftwareKey(fmt="packed")
        assert reason_of(lambda: register(key, cose=other.cose)) is RejectReason.ATTESTATION_INVALID


class TestExtensions:
    def test_what_the_key_says_is_kept(self):
        found = register(SoftwareKey(), extensions={"credProtect": 2, "minPinLength": 6})
        assert (found.discoverable, found.cred_protect, found.min_pin_length) == (True, 2, 6)

    @pytest.mark.parametrize("value", [0, 4, -1, "2", True, b"\x02", [2]])
    def test_rubbish_counts_as_silence(self, value: Any):
        assert register(SoftwareKey(), extensions={"credProtect": value}).cred_protect is None

    @pytest.mark.parametrize(("uvm", "ways"), [([[2, 1, 1]], (2,)), ([[4, 1, 1], [2, 1, 1]], (4, 2)), ([], None),
                                               ([[1]], None), ("x", None), ([["a", 1, 1]], None),
                                               ([[2, 1, 1]] * 4, None)])  # fmt: skip
    def test_how_the_person_was_verified(self, uvm: Any, ways: tuple | None):
        assert sign_in(SoftwareKey(), extensions={"uvm": uvm}).uvm == ways


class TestProof:
    STANDING = Standing(name="", attested=True, hardware=True)
    AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def level(self, flags: int = UP | UV, *, standing: Standing = STANDING, synced: bool = False) -> AAL:
        signed = Signed(counter=0, user_verified=bool(flags & UV), backed_up=False)
        proof = proof_of(signed, standing, credential="key:1", aaguid=AAGUID, synced=synced, at=self.AT)
        return assess([proof]).aal

    def test_levels(self):
        assert self.level() is AAL.AAL3
        assert self.level(synced=True) is AAL.AAL2
        assert self.level(standing=Standing(name="", attested=False, hardware=True)) is AAL.AAL2
        assert self.level(standing=Standing(name="", attested=True, hardware=False)) is AAL.AAL2
        assert self.level(UP) is AAL.AAL1

    @pytest.mark.parametrize(
        ("uvm", "known", "factors"),
        [
            (None, (), {Factor.KNOWLEDGE}),
            ((0x02,), (), {Factor.INHERENCE}),
            ((0x04,), ({Factor.INHERENCE},), {Factor.KNOWLEDGE}),
            ((0x800, 0x02), (), {Factor.KNOWLEDGE, Factor.INHERENCE}),
            ((0x01,), (), {Factor.KNOWLEDGE}),
            (None, ({Factor.INHERENCE},), {Factor.INHERENCE}),
            (None, ({Factor.INHERENCE}, {Factor.KNOWLEDGE}), {Factor.KNOWLEDGE}),
        ],
    )
    def test_pin_or_fingerprint(self, uvm: tuple | None, known: tuple, factors: set):
        standing = Standing(name="", attested=True, hardware=True, verified_by=tuple(map(frozenset, known)))
        assert verified_by(uvm, standing) == factors


class TestForm:
    @pytest.mark.parametrize(
        "data",
        [
            "", "18", "19ff", "5f", "9f", "bf", "bf00", "7f", "fb0000000000000000", "f6", "f7", "f90000", "c000",
            "61ff", "62c328", "4200", "9a00100000", "ba00100000", "bb7fffffffffffffff", "5bffffffffffffffff", "a1",
            "a100", "a2010001", "a20100" "0101", "a1a000", "a18000", "00" "00", "1c", "3f", "81" * 40 + "00",
            "9901ff" + "00" * 600, "a201021801" "03", "a2" "6161" "01" "780161" "02", "a220013800" "02",
        ],
    )  # fmt: skip
    def test_what_is_refused(self, data: str):
        with pytest.raises(cbor_form.CborError):
            cbor_form.decode(bytes.fromhex(data))

    def test_too_long(self):
        with pytest.raises(cbor_form.CborError):
            cbor_form.decode(b"\x5a\x00\x01\x00\x00" + bytes(65536))

    @given(st.recursive(
        st.integers(-(2**63), 2**63) | st.booleans() | st.binary(max_size=9) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-99, 99) | st.text(max_size=3), inner,
                                                                   max_size=4),
        max_leaves=12))  # fmt: skip
    def test_what_is_encoded_is_decoded(self, value: Any):
        encoded = cbor.encode(value)
        try:
            assert cbor_form.decode(encoded) == value
        except cbor_form.CborError:
            assert _depth(value) > cbor_form.MAX_DEPTH

    @given(st.binary(max_size=200))
    def test_any_bytes_are_decoded_or_refused(self, data: bytes):
        try:
            value, end = cbor_form.decode_first(data)
        except cbor_form.CborError:
            return
        assert 0 < end <= len(data)
        assert cbor_form.decode(cbor.encode(value)) == value

    @given(st.binary(max_size=300))
    def test_any_authenticator_data(self, data: bytes):
        refused_or(lambda: parse_authenticator_data(data))

    @given(st.binary(max_size=120), st.integers(0, 255))
    def test_any_tail_of_authenticator_data(self, tail: bytes, flags: int):
        refused_or(lambda: parse_authenticator_data(bytes(32) + struct.pack(">BI", flags, 1) + tail))

    @given(st.binary(max_size=40))
    def test_base64url_there_and_back(self, data: bytes):
        assert to_base64url(data) == urlsafe_b64encode(data).rstrip(b"=").decode()
        assert from_base64url(to_base64url(data), most=40, what="") == data

    @pytest.mark.parametrize("text", ["a", "a+b/", "YQ==", "Y Q", "YQ\n", "é", "=", None, 7, b"YQ", "A" * 60])
    def test_other_text_is_no_base64url(self, text: Any):
        assert reason_of(lambda: from_base64url(text, most=40, what="it")) is RejectReason.MALFORMED

    @pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"type":"webauthn.get","type":"x"}', "\ufeff{}",
                                      "[" * 3000, '{"a":' * 700 + "1" + "}" * 700])  # fmt: skip
    def test_client_data_that_is_none(self, text: str):
        key = SoftwareKey()
        raw = key.answer(GET, ORIGIN)
        raw["response"]["clientDataJSON"] = b64u(text.encode())
        known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
        found = reason_of(lambda: verify_assertion(Assertion.parse(raw), known, expected()))
        assert found in (RejectReason.MALFORMED, RejectReason.CLIENT_DATA_TYPE)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                            st.sampled_from(["id", "rawId", "type", "response", "clientDataJSON", "signature"]), inner),
                        max_leaves=9))  # fmt: skip
    def test_any_json(self, raw: Any):
        credential = raw if isinstance(raw, dict) else {"response": raw}
        refused_or(lambda: Assertion.parse(credential))
        refused_or(lambda: Registration.parse(credential))


class TestSystematicDamage:
    """Every member of the JSON forms, left out or of another kind."""

    @pytest.mark.parametrize("value", [None, 7, "", "!", [], {}, "AA", "A" * 20_000])
    @pytest.mark.parametrize("name", ["id", "rawId", "type", "response", "response.clientDataJSON",
                                      "response.attestationObject"])  # fmt: skip
    def test_registration(self, name: str, value: Any):
        raw = SoftwareKey().register(CREATE, ORIGIN)
        damage(raw, name, value)
        with pytest.raises(Rejected):
            verify_registration(Registration.parse(raw), expected())

    @pytest.mark.parametrize("value", [None, 7, "", "!", [], {}, "AA", "A" * 20_000])
    @pytest.mark.parametrize("name", ["id", "rawId", "type", "response", "response.clientDataJSON",
                                      "response.authenticatorData", "response.signature"])  # fmt: skip
    def test_sign_in(self, name: str, value: Any):
        key = SoftwareKey()
        raw = key.answer(GET, ORIGIN)
        damage(raw, name, value)
        known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
        with pytest.raises(Rejected):
            verify_assertion(Assertion.parse(raw), known, expected())

    def test_attested_data_in_a_sign_in(self):
        key = SoftwareKey()
        client = client_data("webauthn.get", CHALLENGE, ORIGIN)
        registered = key.register(CREATE, ORIGIN)
        data = cbor.decode(from_base64url(registered["response"]["attestationObject"], most=9999, what=""))["authData"]
        raw = key.answer(GET, ORIGIN)
        raw["response"] |= {"authenticatorData": b64u(data), "clientDataJSON": b64u(client)}
        known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
        assert reason_of(lambda: verify_assertion(Assertion.parse(raw), known, expected())) is RejectReason.MALFORMED

    def test_extension_bytes_after_the_end(self):
        data = bytes(32) + struct.pack(">BI", UP | ED, 1) + cbor.encode({"a": 1}) + b"\0"
        assert reason_of(lambda: parse_authenticator_data(data)) is RejectReason.MALFORMED


def test_options_are_the_forms_of_the_specification():
    policy = KeyPolicy(user_verification=Need.REQUIRED, resident_key=Need.REQUIRED)
    known = Credential(id=b"x" * 20, transports=("usb", "smart-card"))
    made = creation_options(SITE, USER, bytes(32), [known], policy, seconds=60)
    assert made["authenticatorSelection"] == {
        "residentKey": "required", "requireResidentKey": True, "userVerification": "required"
    }  # fmt: skip
    assert made["excludeCredentials"] == [
        {"type": "public-key", "id": b64u(b"x" * 20), "transports": ["usb", "smart-card"]}
    ]
    assert [one["alg"] for one in made["pubKeyCredParams"]] == [-7, -8, -35, -36, -257, -53]
    assert json.loads(json.dumps(made)) == made
    assert all(type(value) is not key_models.Need for value in made["authenticatorSelection"].values())


def test_rp_and_server_know_no_device():
    """import-linter can't look inside other packages: python-fido2's way to devices is for the workstation."""
    own = Path(__file__).parents[2] / "tokenbridge"
    devices = {"hid", "client", "ctap", "ctap1", "ctap2", "pcsc", "win_api"}
    for path in [*(own / "rp").rglob("*.py"), *(own / "server").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top, _, below = name.partition(".")
                assert top != "fido2" or below.split(".")[0] not in devices, f"{path.name} imports {name}"


def refused_or(work: Callable[[], object]) -> None:
    """It may succeed; if it does not, then because it can't be read."""
    reason = RejectReason.MALFORMED
    try:
        work()
    except Rejected as err:
        reason = err.reason
    assert reason is RejectReason.MALFORMED


def damage(raw: dict, name: str, value: Any) -> None:
    *outer, last = name.split(".")
    target = raw[outer[0]] if outer else raw
    if value is None:
        del target[last]
    else:
        target[last] = value


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0
