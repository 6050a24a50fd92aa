"""FIDO metadata: what is believed of a blob, what a model's reports mean, and which rules follow."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from tests.metadata_maker import Service, entry
from tests.software_key import AAGUID, Maker, b64u
from tokenbridge.errors import BadRequest, Rejected, RejectReason, UndecidedReason
from tokenbridge.rp.key_metadata import Level, Metadata, Model, Report
from tokenbridge.rp.key_models import KeyModels, KeyPolicy, Make, StaleRule
from tokenbridge.rp.metadata_blob import read_blob
from tokenbridge.rp.proof import Factor
from tokenbridge.rp.x509_path import find_root, parse_certificates

NOW = dt.datetime.now(dt.UTC)
TODAY = NOW.date()


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


def read(service: Service, blob: bytes) -> Metadata:
    return read_blob(blob, [service.maker.root], NOW)


class TestBlob:
    @pytest.mark.parametrize("rsa", [False, True])
    def test_a_good_one_is_read(self, maker: Maker, rsa: bool):
        service = Service(rsa=rsa)
        found = read(service, service.blob(entry([maker.der]), number=42, next_update="2030-02-03"))
        assert (found.number, found.next_update) == (42, dt.date(2030, 2, 3))
        (model,) = found.models
        assert model.name == "Test Key 5"
        assert model.roots == (maker.der,)
        assert model.hardware
        assert model.level(TODAY) is Level.L1
        assert model.verified_by == (frozenset({Factor.KNOWLEDGE}),)

    def test_survives_being_stored(self, service: Service, maker: Maker):
        certificate = b64encode(maker.der).decode()
        report = {"status": "ATTESTATION_KEY_COMPROMISE", "certificate": certificate, "effectiveDate": "2025-01-01"}
        found = read(service, service.blob(entry([maker.der], statuses=("FIDO_CERTIFIED_L2plus", report))))
        again = Metadata.from_json(json.loads(json.dumps(found.as_json())))
        assert again.models == found.models
        assert (again.number, again.next_update) == (found.number, found.next_update)

    def test_models_of_other_protocols_are_passed_over(self, service: Service):
        uaf = entry([])
        del uaf["aaguid"]
        uaf["aaid"] = "4e4e#4005"
        assert read(service, service.blob(uaf)).models == ()

    def test_what_later_versions_may_bring_is_passed_over(self, service: Service, maker: Maker):
        statuses = ("SOMETHING_NEW", "FIDO_CERTIFIED_L9", "FIDO_CERTIFIED_L2")
        odd = entry([maker.der], statuses=statuses, newField={"x": 1}, description="Test\nKey")
        bare = entry([], aaguid=bytes(15) + b"\2")
        del bare["metadataStatement"]
        first, second = read(service, service.blob(odd, {**bare, "another": []})).models
        assert first.level(TODAY) is Level.L2
        assert first.name == "Test Key"
        assert (second.name, second.roots, second.hardware) == ("", (), False)

    def test_every_changed_byte_is_noticed(self, service: Service, maker: Maker):
        blob = service.blob(entry([maker.der]))
        for place in range(0, len(blob), 37):
            bent = bytearray(blob)
            bent[place] ^= 0x01
            if bytes(bent[-2:]) != blob[-2:]:
                continue  # the last character of base64 holds bits that mean nothing
            with pytest.raises(BadRequest):
                read(service, bytes(bent))

    def test_only_the_signer_that_is_meant(self, service: Service):
        def read_of(signer: str) -> Metadata:
            return read_blob(service.blob(), [service.maker.root], NOW, signer=signer)

        assert read_of("mds.example.org").number == 7
        for other in ("example.org", "mds.fidoalliance.org", "MDS.example.org.evil.org"):
            with pytest.raises(BadRequest, match="signer is not"):
                read_of(other)

    def test_another_root(self, service: Service):
        with pytest.raises(BadRequest, match="trusted root"):
            read_blob(service.blob(), [Maker().root], NOW)

    def test_a_signer_out_of_date(self, maker: Maker):
        service = Service()
        service.certificate = service.issue(NOW - dt.timedelta(days=20), NOW - dt.timedelta(days=1))
        with pytest.raises(BadRequest, match="out of date"):
            read(service, service.blob())

    @pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"x5c": []}, {"x5c": "text"}, {"x5c": [7]}])
    def test_headers_that_are_not_accepted(self, service: Service, header: dict):
        with pytest.raises(BadRequest):
            read(service, service.blob(**header))

    @pytest.mark.parametrize("blob", [b"", b"a.b", b"a.b.c", b"....", b"e30.e30.e30", b"\xff.\xff.\xff", b"W10.e30.AA"])
    def test_rubbish(self, service: Service, blob: bytes):
        with pytest.raises(BadRequest):
            read(service, blob)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes):
        with pytest.raises(BadRequest):
            read_blob(data, [], NOW)

    @pytest.mark.parametrize("change", [{"entries": None}, {"no": "x"}, {"nextUpdate": "soon"}])
    def test_signed_rubbish(self, service: Service, change: dict):
        payload = {"legalHeader": "", "no": 1, "nextUpdate": "2030-01-01", "entries": [], **change}
        head, _, _ = service.blob().split(b".")
        message = head + b"." + b64u(json.dumps(payload).encode()).encode()
        with pytest.raises(BadRequest):
            read(service, message + b"." + b64u(service._sign(message)).encode())


def model(*reports: Report, maker: Maker | None = None, **facts) -> Model:
    roots = (maker.der,) if maker is not None else ()
    protection = frozenset({"hardware"})
    return Model(
        **{"name": "Test Key", "aaguid": AAGUID, "roots": roots, "protection": protection, **facts}, reports=reports
    )


class TestReports:
    @pytest.mark.parametrize(
        ("statuses", "level"),
        [
            ((), None),
            (("FIDO_CERTIFIED",), Level.L1),
            (("FIDO_CERTIFIED_L1", "FIDO_CERTIFIED_L2plus"), Level.L2_PLUS),
            (("FIDO_CERTIFIED_L3", "NOT_FIDO_CERTIFIED"), None),
            (("FIDO_CERTIFIED_L2", "UPDATE_AVAILABLE"), Level.L2),
            (("FIDO_CERTIFIED_L2", "REVOKED"), None),
        ],
    )
    def test_the_newest_certification_holds(self, statuses: tuple[str, ...], level: Level | None):
        reports = [Report(status=one, since=dt.date(2020 + at, 1, 1)) for at, one in enumerate(statuses)]
        assert model(*reports).level(TODAY) == level

    def test_what_is_not_yet_in_effect_does_not_count(self):
        tomorrow = TODAY + dt.timedelta(days=1)
        found = model(Report(status="REVOKED", since=tomorrow), Report(status="FIDO_CERTIFIED_L3", since=tomorrow))
        assert found.unsafe(TODAY) == ""
        assert found.level(TODAY) is None
        assert found.unsafe(tomorrow) == "REVOKED"

    def test_a_compromised_attestation_key_concerns_its_own_keys(self):
        found = model(Report(status="ATTESTATION_KEY_COMPROMISE", certificate="3000"))
        assert found.unsafe(TODAY, [b"\x30\x00"])
        assert not found.unsafe(TODAY, [b"\x30\x01"])


class TestRules:
    def judged(self, policy: KeyPolicy, metadata: Metadata | None, maker: Maker, *, own: Maker | None = None, **how):
        _, leaf = maker.issue(how.get("certified", AAGUID))
        make = Make(aaguid=how.get("aaguid", AAGUID), path=(leaf,) if how.get("attested", True) else (), at=NOW)
        return KeyModels(policy, roots=[own.root] if own else [], metadata=metadata).judge(make, NOW)

    def metadata(self, *models: Model, days: int = 10) -> Metadata:
        return Metadata(number=1, next_update=TODAY + dt.timedelta(days=days), models=models)

    def test_a_known_model_is_hardware(self, maker: Maker):
        found = self.judged(KeyPolicy(), self.metadata(model(maker=maker)), maker)
        assert (found.attested, found.hardware, found.name, found.doubts) == (True, True, "Test Key", ())

    def test_the_operators_root_says_nothing_for_metadata(self, maker: Maker):
        """Who vouches by the operator's word may not borrow another maker's entry."""
        own = Maker()
        known = self.metadata(model(maker=maker), days=-1)
        found = self.judged(KeyPolicy(), known, own, own=own)
        assert (found.attested, found.hardware, found.doubts) == (True, False, ())
        vouched = KeyPolicy(allowed=frozenset({AAGUID}))
        assert self.judged(vouched, known, own, own=own).hardware
        with pytest.raises(Rejected) as caught:
            self.judged(KeyPolicy(minimum=Level.L1), known, own, own=own)
        assert caught.value.reason is RejectReason.MODEL_LEVEL

    @pytest.mark.parametrize("protection", [{"software"}, {"hardware", "software"}, {"tee"}, set()])
    def test_a_model_that_is_not_hardware(self, maker: Maker, protection: set[str]):
        found = self.judged(KeyPolicy(), self.metadata(model(maker=maker, protection=frozenset(protection))), maker)
        assert (found.attested, found.hardware) == (True, False)

    def test_another_makers_certificate_vouches_for_nothing(self, maker: Maker):
        found = self.judged(KeyPolicy(), self.metadata(model(maker=maker)), Maker())
        assert (found.attested, found.hardware, found.name) == (False, False, "")

    def test_a_claim_without_attestation_vouches_for_nothing(self, maker: Maker):
        found = self.judged(KeyPolicy(), self.metadata(model(maker=maker)), maker, attested=False)
        assert (found.attested, found.hardware) == (False, False)

    def test_a_claim_against_itself_counts(self, maker: Maker):
        with pytest.raises(Rejected) as caught:
            self.judged(KeyPolicy(), self.metadata(model(Report(status="REVOKED"), maker=maker)), maker, attested=False)
        assert caught.value.reason is RejectReason.MODEL_REVOKED

    @pytest.mark.parametrize("status", ["REVOKED", "USER_VERIFICATION_BYPASS", "USER_KEY_REMOTE_COMPROMISE",
                                        "USER_KEY_PHYSICAL_COMPROMISE", "ATTESTATION_KEY_COMPROMISE"])  # fmt: skip
    def test_unsafe_models(self, maker: Maker, status: str):
        allowed = KeyPolicy(allowed=frozenset({AAGUID}))
        for policy in (KeyPolicy(), allowed):
            with pytest.raises(Rejected) as caught:
                self.judged(policy, self.metadata(model(Report(status=status), maker=maker)), maker)
            assert caught.value.reason is RejectReason.MODEL_REVOKED

    @pytest.mark.parametrize(
        ("policy", "reason"),
        [
            (KeyPolicy(refused=frozenset({AAGUID})), RejectReason.MODEL_REFUSED),
            (KeyPolicy(refused=frozenset({AAGUID}), allowed=frozenset({AAGUID})), RejectReason.MODEL_REFUSED),
            (KeyPolicy(allowed=frozenset({bytes(16)})), RejectReason.MODEL_REFUSED),
            (KeyPolicy(minimum=Level.L2), RejectReason.MODEL_LEVEL),
        ],
    )
    def test_rules_about_models(self, maker: Maker, policy: KeyPolicy, reason: RejectReason):
        known = self.metadata(model(Report(status="FIDO_CERTIFIED_L1plus"), maker=maker))
        with pytest.raises(Rejected) as caught:
            self.judged(policy, known, maker)
        assert caught.value.reason is reason

    @pytest.mark.parametrize(
        "policy", [KeyPolicy(attested=True), KeyPolicy(allowed=frozenset({AAGUID})), KeyPolicy(minimum=Level.L1)]
    )
    def test_rules_that_need_a_maker(self, maker: Maker, policy: KeyPolicy):
        for metadata in (None, self.metadata(model(Report(status="FIDO_CERTIFIED_L1"), maker=maker))):
            with pytest.raises(Rejected) as caught:
                self.judged(policy, metadata, maker, attested=False)
            assert caught.value.reason is RejectReason.ATTESTATION_UNTRUSTED

    def test_a_minimum_that_is_met(self, maker: Maker):
        known = self.metadata(model(Report(status="FIDO_CERTIFIED_L2"), maker=maker))
        assert self.judged(KeyPolicy(minimum=Level.L1_PLUS), known, maker).attested

    def test_the_operators_own_root(self, maker: Maker):
        found = self.judged(KeyPolicy(), None, maker, own=maker)
        assert (found.attested, found.hardware) == (True, False)
        found = self.judged(KeyPolicy(allowed=frozenset({AAGUID})), None, maker, own=maker)
        assert (found.attested, found.hardware) == (True, True)

    @pytest.mark.parametrize(("rule", "doubts"), [(StaleRule.DOUBT, (UndecidedReason.METADATA_STALE,)),
                                                  (StaleRule.ACCEPT, ())])  # fmt: skip
    def test_stale_metadata(self, maker: Maker, rule: StaleRule, doubts: tuple):
        old = self.metadata(model(maker=maker), days=-1)
        assert self.judged(KeyPolicy(stale=rule), old, maker).doubts == doubts
        assert self.judged(KeyPolicy(stale=rule), old, maker, attested=False).doubts == ()

    def test_u2f_keys_are_known_by_their_certificate(self, maker: Maker):
        _, leaf = maker.issue(None)
        key_id = x509.SubjectKeyIdentifier.from_public_key(
            x509.load_der_x509_certificate(leaf).public_key()
        ).digest.hex()
        known = self.metadata(model(maker=maker, aaguid=b"", key_ids=frozenset({key_id})))
        found = KeyModels(KeyPolicy(), metadata=known).judge(Make(aaguid=bytes(16), path=(leaf,), at=NOW), NOW)
        assert found.attested


class TestPath:
    def test_of_two(self, maker: Maker):
        _, leaf = maker.issue()
        assert find_root(parse_certificates([leaf]), [Maker().root, maker.root], NOW) == maker.root

    def test_a_path_that_brings_its_root_along(self, maker: Maker):
        _, leaf = maker.issue()
        assert find_root(parse_certificates([leaf, maker.der]), [maker.root], NOW) == maker.root

    def test_the_certificate_itself_may_be_what_is_trusted(self, maker: Maker):
        (leaf,) = parse_certificates([maker.issue()[1]])
        assert find_root([leaf], [leaf], NOW) == leaf

    def test_a_leaf_issues_nothing(self, maker: Maker):
        key, leaf = maker.issue()
        below = Maker(key=key)
        below.root = x509.load_der_x509_certificate(leaf)
        _, forged = below.issue()
        assert find_root(parse_certificates([forged, leaf]), [maker.root], NOW) is None

    @pytest.mark.parametrize("days", [-2000, 20_000])
    def test_dates(self, maker: Maker, days: int):
        _, leaf = maker.issue()
        assert find_root(parse_certificates([leaf]), [maker.root], NOW + dt.timedelta(days=days)) is None

    def test_another_root_of_the_same_name(self, maker: Maker):
        _, leaf = maker.issue()
        assert find_root(parse_certificates([leaf]), [Maker(name=maker.name).root], NOW) is None
