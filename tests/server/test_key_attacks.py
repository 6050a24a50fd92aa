"""Trying to get in at a real server with keys that are bent, stolen, copied, swapped, revoked or used twice."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import ORIGIN, Bench, Databases, make_bench, now, serving
from tests.server.key_bench import KeyBench, bearer, hardware_model, key_options, reason
from tests.software_key import UP, UV, Maker, SoftwareKey, b64u
from tokenbridge.errors import SetupError
from tokenbridge.rig.pki import RigPki
from tokenbridge.rp.key_metadata import Report
from tokenbridge.server import settings as server_settings
from tokenbridge.server.app import build
from tokenbridge.server.operator import people
from tokenbridge.server.store import audit


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="module")
def at(bench: Bench, maker: Maker) -> Iterator[KeyBench]:
    with serving(bench.data) as server:
        yield KeyBench(bench=bench, server=server, maker=maker)


@pytest.fixture(autouse=True)
def _good_metadata(at: KeyBench, maker: Maker) -> None:
    at.load(hardware_model(maker))


def trail(at: KeyBench, name: str) -> list[audit.Entry]:
    with at.bench.office() as office, office.database.read() as tx:
        return audit.entries(tx, account=name)


def race(*works: Callable[[], httpx.Response]) -> list[httpx.Response]:
    with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
        return [future.result(30) for future in [pool.submit(work) for work in works]]


class TestEvidence:
    def test_a_replayed_assertion(self, at: KeyBench):
        key = at.register(at.newcomer())
        ticket = at.start()
        raw = key.answer(key_options(ticket), ORIGIN)
        assert at.present(ticket, raw).json()["decision"] == "allow"
        assert at.present(ticket, raw).status_code == 409
        assert reason(at.present(at.start(), raw)) == "challenge-mismatch"

    @pytest.mark.parametrize(
        ("bent", "why"),
        [
            ({"client": {"origin": "https://evil.example"}}, "origin-mismatch"),
            ({"client": {"crossOrigin": True}}, "cross-origin"),
            ({"client": {"type": "webauthn.create"}}, "client-data-type"),
            ({"rp_id": "evil.example"}, "rp-id-mismatch"),
            ({"flags": UV}, "user-not-present"),
            ({"handle": b"x" * 64}, "credential-unknown"),
            ({"handle": None}, "credential-unknown"),
        ],
    )
    def test_a_bent_assertion_ends_the_sign_in(self, at: KeyBench, bent: dict, why: str):
        key = at.register(at.newcomer())
        ticket = at.start()
        answer = at.present(ticket, key.answer(key_options(ticket), ORIGIN, **bent))
        assert (answer.status_code, reason(answer)) == (403, why)
        assert at.present(ticket, key.answer(key_options(ticket), ORIGIN)).status_code == 409

    def test_the_user_handle_of_somebody_else(self, at: KeyBench):
        key, other = at.register(at.newcomer()), at.register(at.newcomer())
        assert reason(at.sign_in(key, handle=other.handle)) == "credential-unknown"

    def test_nobody_learns_which_credentials_exist(self, at: KeyBench):
        """Every answer without a good signature is the same for a real credential, a made-up one and none of ours."""
        name = at.newcomer()
        real, stranger = at.register(name), at.key()
        (made_up,) = key_options(at.start("nobody-here-1"))["allowCredentials"][:1]
        bent: list[dict[str, Any]] = [
            {},
            {"client": {"origin": "https://evil.example"}},
            {"rp_id": "evil.example"},
            {"flags": UV},
            {"handle": b"x" * 64},
            {"handle": None},
        ]
        for username in (None, name, "nobody-here-1"):
            for how in bent:
                answers = []
                for credential in (b64u(real.credential_id), made_up["id"], b64u(b"no id of ours" * 4)):
                    ticket = at.start(username)
                    raw = stranger.answer(key_options(ticket), ORIGIN, **how)
                    answer = at.present(ticket, {**raw, "id": credential, "rawId": credential})
                    error = answer.json()["error"]
                    answers.append((answer.status_code, {k: v for k, v in error.items() if k != "request_id"}))
                assert answers[0] == answers[1] == answers[2], (username, how)
        detail = [entry.detail for entry in trail(at, name) if entry.event == "refused"]
        assert any("signature-invalid" in str(one) for one in detail), "the audit trail knows better"

    def test_verification_that_was_not_done_is_not_believed(self, at: KeyBench):
        answer = at.sign_in(at.register(at.newcomer()), flags=UP).json()
        assert (answer["decision"], answer["methods"]) == ("challenge", ["password"])

    def test_a_card_and_a_key_share_one_nonce(self, at: KeyBench):
        person = at.bench.person()
        key = at.register(person.username)
        ticket = at.start()
        assert at.server.card(ticket, person.card.token(ticket["nonce"])).json()["decision"] == "allow"
        assert at.present(ticket, key.answer(key_options(ticket), ORIGIN)).status_code == 409

    @pytest.mark.parametrize("body", [{}, {"credential": None}, {"credential": []}, {"credential": {}, "more": 1},
                                      {"credential": {str(n): n for n in range(99)}}])  # fmt: skip
    def test_bodies_of_the_wrong_shape_spend_nothing(self, at: KeyBench, body: dict):
        ticket = at.start()
        address = f"/api/sign-in/{ticket['transaction']}/key"
        assert at.server.http.post(address, json=body).status_code == 400
        key = at.register(at.newcomer())
        assert at.present(ticket, key.answer(key_options(ticket), ORIGIN)).status_code == 200

    def test_too_large_a_body(self, at: KeyBench):
        ticket = at.start()
        assert at.present(ticket, {"id": "A" * 20_000}).status_code == 413

    def test_a_disabled_account(self, at: KeyBench):
        name = at.newcomer()
        key = at.register(name)
        with at.bench.office() as office:
            people.set_disabled(office, name, disabled=True)
        assert at.sign_in(key).json()["decision"] == "deny"

    def test_refusals_are_on_record_without_secrets(self, at: KeyBench):
        name = at.newcomer()
        key = at.register(name)
        at.sign_in(key)
        events = [entry.event for entry in trail(at, name)]
        assert events == ["user-added", "enrolment-code-made", "key-registered", "signed-in"]


class TestCopies:
    def test_a_counter_that_goes_back_suppresses_nothing_and_is_on_record(self, at: KeyBench):
        person = at.bench.person(enrol=False)
        key = at.register(person.username, at.key(counter=10))
        assert at.sign_in(key).json()["decision"] == "allow"
        for counter in (11, 5):
            ticket = at.start()
            answer = at.present(ticket, key.answer(key_options(ticket), ORIGIN, counter=counter)).json()
            assert answer["decision"] == "challenge"
            assert answer["methods"] == ["password", "totp", "recovery"]
            assert answer["reasons"][0]["code"] == "undecided:key-maybe-copied"
            assert answer["suppressed"] == []
        assert "there may be a copy" in answer["sentence"]
        assert [entry.event for entry in trail(at, person.username)].count("key-copied") == 2
        assert at.server.password(ticket, person.username).json()["decision"] == "challenge"
        done = at.server.code(ticket, person.code()).json()
        assert done["decision"] == "allow"
        assert done["assurance"]["aal"] == 2, "the doubtful key adds nothing"
        assert at.sign_in(key, counter=12).json()["decision"] == "allow"

    def test_a_key_without_a_counter_is_fine(self, at: KeyBench):
        key = at.register(at.newcomer())
        assert [at.sign_in(key).json()["decision"] for _ in range(2)] == ["allow", "allow"]

    def test_a_counter_that_starts_after_registration_must_go_on(self, at: KeyBench):
        key = at.register(at.newcomer())
        assert at.sign_in(key, counter=3).json()["decision"] == "allow"
        assert at.sign_in(key, counter=0).json()["decision"] != "allow"

    def test_of_two_with_the_same_counter_one_is_in_doubt(self, at: KeyBench):
        key = at.register(at.newcomer(), at.key(counter=10))
        tickets = [at.start() for _ in range(4)]
        raws = [key.answer(key_options(ticket), ORIGIN, counter=20) for ticket in tickets]
        works = [lambda pair=pair: at.present(*pair) for pair in zip(tickets, raws, strict=True)]
        decisions = sorted(answer.json()["decision"] for answer in race(*works))
        assert decisions == ["allow", "challenge", "challenge", "challenge"]


class TestModels:
    @pytest.mark.parametrize("status", ["REVOKED", "USER_KEY_REMOTE_COMPROMISE", "ATTESTATION_KEY_COMPROMISE"])
    def test_a_model_that_is_revoked_after_registration(self, at: KeyBench, maker: Maker, status: str):
        name = at.newcomer()
        key = at.register(name)
        at.load(hardware_model(maker, Report(status=status)))
        assert reason(at.sign_in(key)) == "model-revoked"
        at.load(hardware_model(maker))
        assert at.sign_in(key).json()["decision"] == "allow"

    def test_a_revoked_model_is_not_registered_and_the_code_remains(self, at: KeyBench, maker: Maker):
        at.load(hardware_model(maker, Report(status="REVOKED")))
        name = at.newcomer()
        code = at.enrolment_code(name)
        begun = at.begin_by_code(name, code).json()
        answer = at.finish(begun, at.key().register(begun["options"], ORIGIN))
        assert (answer.status_code, reason(answer)) == (403, "model-revoked")
        other = SoftwareKey()
        begun = at.begin_by_code(name, code).json()
        assert reason(at.finish(begun, other.register(begun["options"], ORIGIN))) == "model-revoked", "a claim counts"
        begun = at.begin_by_code(name, code).json()
        plain = SoftwareKey(aaguid=bytes(16))
        assert at.finish(begun, plain.register(begun["options"], ORIGIN)).status_code == 201

    def test_stale_metadata_is_a_doubt(self, at: KeyBench, maker: Maker):
        person = at.bench.person(enrol=False)
        key = at.register(person.username)
        at.load(hardware_model(maker), next_update=now().date() - dt.timedelta(days=1))
        answer = at.sign_in(key).json()
        assert answer["decision"] == "challenge"
        assert answer["reasons"][0]["code"] == "undecided:metadata-stale"
        assert answer["methods"] == ["password", "totp", "recovery"]

    def test_another_makers_chain_lowers_the_level(self, at: KeyBench):
        key = at.register(at.newcomer(), at.key(maker=Maker()))
        assert at.sign_in(key).json()["assurance"]["aal"] == 2

    def test_without_metadata_keys_count_as_not_attested(self, at: KeyBench):
        key = at.register(at.newcomer())
        at.load()
        assert at.sign_in(key).json()["assurance"]["aal"] == 2


class TestEnrolment:
    def test_wrong_names_and_codes_look_the_same(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)
        answers = [
            at.begin_by_code(name, "0000-0000-0000-0000-0000-0000"),
            at.begin_by_code("nobody-at-all", code),
            at.begin_by_code(at.newcomer(), code),
        ]
        bodies = [{k: v for k, v in answer.json()["error"].items() if k != "request_id"} for answer in answers]
        assert bodies[0] == bodies[1] == bodies[2]
        assert bodies[0]["reason"] == "enrolment-code-wrong"

    def test_attempts_are_limited_for_unknown_names_too(self, at: KeyBench):
        for name in (at.newcomer(), "nobody-is-called-so"):
            answers = [at.begin_by_code(name, "wrong") for _ in range(11)]
            # A minute may end in between, and the count begins again.
            assert {answer.status_code for answer in answers[:-1]} <= {403, 429}
            assert answers[-1].status_code == 429 or answers[0].status_code == 403

    def test_an_old_code(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)
        with at.bench.office() as office, office.database.write() as tx:
            tx.connection().exec_driver_sql("UPDATE enrolment_codes SET expires_at = '2020-01-01 00:00:00.000000'")
        assert reason(at.begin_by_code(name, code)) == "enrolment-code-wrong"

    def test_a_code_is_stored_as_a_hash(self, at: KeyBench, databases: Databases):
        name = at.newcomer()
        code = at.enrolment_code(name)
        stolen = databases.stolen(at.bench.data)
        assert name.encode() in stolen
        assert code.encode() not in stolen
        assert code.replace("-", "").encode() not in stolen

    def test_a_used_code(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)
        begun = at.begin_by_code(name, code).json()
        assert at.finish(begun, at.key().register(begun["options"], ORIGIN)).status_code == 201
        assert reason(at.begin_by_code(name, code)) == "enrolment-code-wrong"

    def test_the_newest_registration_has_the_code(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)
        first, second = at.begin_by_code(name, code).json(), at.begin_by_code(name, code).json()
        answer = at.finish(first, at.key().register(first["options"], ORIGIN))
        assert reason(answer) == "enrolment-code-wrong"
        assert at.finish(second, at.key().register(second["options"], ORIGIN)).status_code == 201

    def test_a_code_in_a_race_makes_one_key(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)

        def whole() -> httpx.Response:
            begun = at.begin_by_code(name, code)
            if begun.status_code != 201:
                return begun
            return at.finish(begun.json(), at.key().register(begun.json()["options"], ORIGIN))

        answers = race(*[whole] * 6)
        assert [answer.status_code for answer in answers].count(201) == 1
        assert [entry.event for entry in trail(at, name)].count("key-registered") == 1

    def test_a_challenge_in_a_race_makes_one_key(self, at: KeyBench):
        name = at.newcomer()
        begun = at.begin_by_code(name).json()
        works = [
            lambda raw=at.key().register(begun["options"], ORIGIN): at.finish(begun, raw)  # noqa: B008
            for _ in range(6)
        ]
        assert sorted(answer.status_code for answer in race(*works)) == [201, 404, 404, 404, 404, 404]

    def test_the_same_key_twice(self, at: KeyBench):
        key = at.register(at.newcomer())
        for name in (at.newcomer(), at.newcomer()):
            begun = at.begin_by_code(name).json()
            assert reason(at.finish(begun, key.register(begun["options"], ORIGIN))) == "credential-exists"

    def test_a_registration_ends_with_its_session(self, at: KeyBench):
        key = at.register(at.newcomer())
        token = at.session(key)
        begun = at.begin_by_session(token).json()
        assert at.server.http.delete("/api/session", headers=bearer(token)).status_code == 204
        answer = at.finish(begun, at.key().register(begun["options"], ORIGIN))
        assert (answer.status_code, reason(answer)) == (401, "no-session")

    def test_a_disabled_account_gets_no_key_nor_does_its_old_code_come_back(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)
        begun = at.begin_by_code(name, code).json()
        with at.bench.office() as office:
            people.set_disabled(office, name, disabled=True)
        assert at.finish(begun, at.key().register(begun["options"], ORIGIN)).status_code == 404
        with at.bench.office() as office:
            people.set_disabled(office, name, disabled=False)
        assert reason(at.begin_by_code(name, code)) == "enrolment-code-wrong"

    def test_a_new_password_voids_a_code(self, at: KeyBench):
        name = at.newcomer()
        code = at.enrolment_code(name)
        with at.bench.office() as office:
            people.set_password(office, name, "another correct horse")
        assert reason(at.begin_by_code(name, code)) == "enrolment-code-wrong"

    def test_a_session_that_has_become_too_weak_meanwhile(self, at: KeyBench):
        person = at.bench.person(enrol=False)
        begun = at.begin_by_session(at.session_by_code(person)).json()
        at.register(person.username)
        answer = at.finish(begun, at.key().register(begun["options"], ORIGIN))
        assert (answer.status_code, reason(answer)) == (403, "step-up")
        entry = trail(at, person.username)[-1]
        assert (entry.event, "step-up" in str(entry.detail)) == ("key-refused", True)

    def test_a_weak_session_is_on_record(self, at: KeyBench):
        person = at.bench.person(enrol=False)
        token = at.session_by_code(person)
        at.register(person.username)
        assert reason(at.begin_by_session(token)) == "step-up"
        assert at.server.http.post("/api/recovery-codes", json={}, headers=bearer(token)).status_code == 403
        assert [entry.event for entry in trail(at, person.username)].count("step-up-wanted") == 2

    def test_a_registration_that_took_too_long(self, at: KeyBench):
        begun = at.begin_by_code(at.newcomer()).json()
        with at.bench.office() as office, office.database.write() as tx:
            tx.connection().exec_driver_sql("UPDATE key_registrations SET expires_at = '2020-01-01 00:00:00.000000'")
        assert reason(at.finish(begun, at.key().register(begun["options"], ORIGIN))) == "challenge-expired"

    @pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\x00b", "a\x1b[2Jb", "line\nfeed", "\u202eevil"])
    def test_names_that_are_none(self, at: KeyBench, name: str):
        begun = at.begin_by_code(at.newcomer()).json()
        address = f"/api/keys/registration/{begun['registration']}"
        raw = at.key().register(begun["options"], ORIGIN)
        answer = at.server.http.post(address, json={"credential": raw, "name": name})
        assert answer.status_code == 400
        assert at.finish(begun, raw).status_code == 201, "nothing was spent"

    @pytest.mark.parametrize("body", [{"username": "x"}, {"enrolment_code": "x"}, {"username": 7}, {"more": 1}])
    def test_half_a_request(self, at: KeyBench, body: dict):
        assert at.server.http.post("/api/keys/registration", json=body).status_code == 400

    def test_no_session_no_keys(self, at: KeyBench):
        for method, address in [
            ("POST", "/api/keys/registration"),
            ("GET", "/api/keys"),
            ("PATCH", "/api/keys/1"),
            ("DELETE", "/api/keys/1"),
            ("POST", "/api/recovery-codes"),
        ]:
            body = {"name": "x"} if method == "PATCH" else {}
            for headers in ({}, bearer("made-up")):
                answer = at.server.http.request(method, address, json=body, headers=headers)
                assert answer.status_code == 401, address

    def test_keys_of_others_are_not_there(self, at: KeyBench):
        mine, other = at.register(at.newcomer()), at.register(at.newcomer())
        token = at.session(mine)
        (theirs,) = at.server.http.get("/api/keys", headers=bearer(at.session(other))).json()["keys"]
        address = f"/api/keys/{theirs['id']}"
        assert at.server.http.delete(address, headers=bearer(token)).status_code == 404
        assert at.server.http.patch(address, json={"name": "x"}, headers=bearer(token)).status_code == 404
        assert at.sign_in(other).json()["decision"] == "allow"

    def test_an_old_session_changes_nothing(self, at: KeyBench):
        key = at.register(at.newcomer())
        token = at.session(key)
        with at.bench.office() as office, office.database.write() as tx:
            tx.connection().exec_driver_sql("UPDATE sessions SET started_at = '2020-01-01 00:00:00.000000'")
        answer = at.begin_by_session(token)
        assert reason(answer) == "step-up"
        assert "10 minutes" in answer.json()["error"]["message"]


class TestRecovery:
    def test_a_code_in_a_race_counts_once(self, at: KeyBench):
        name = at.newcomer()
        begun = at.begin_by_code(name).json()
        code = at.finish(begun, at.key().register(begun["options"], ORIGIN)).json()["recovery_codes"][0]
        tickets = [at.start() for _ in range(4)]
        for ticket in tickets:
            assert at.server.password(ticket, name).status_code == 200
        works = [
            lambda ticket=ticket: at.server.http.post(
                f"/api/sign-in/{ticket['transaction']}/code", json={"method": "recovery", "code": code}
            )
            for ticket in tickets
        ]
        assert sorted(answer.status_code for answer in race(*works)) == [200, 403, 403, 403]

    def test_a_recovery_code_without_a_password(self, at: KeyBench):
        name = at.newcomer()
        begun = at.begin_by_code(name).json()
        code = at.finish(begun, at.key().register(begun["options"], ORIGIN)).json()["recovery_codes"][0]
        ticket = at.start(name)
        body = {"method": "recovery", "code": code}
        assert at.server.http.post(f"/api/sign-in/{ticket['transaction']}/code", json=body).status_code == 409

    def test_a_recovery_code_of_somebody_else(self, at: KeyBench):
        mine, other = at.newcomer(), at.newcomer()
        at.register(mine)
        begun = at.begin_by_code(other).json()
        code = at.finish(begun, at.key().register(begun["options"], ORIGIN)).json()["recovery_codes"][0]
        ticket = at.start()
        at.server.password(ticket, mine)
        body = {"method": "recovery", "code": code}
        answer = at.server.http.post(f"/api/sign-in/{ticket['transaction']}/code", json=body)
        assert reason(answer) == "code-wrong"


class TestSettings:
    def settings(self, tmp_path: Path, pki: RigPki, **changes: Any) -> server_settings.Settings:
        data = tmp_path / "data"
        make_bench(data, pki, **changes)
        return server_settings.load(data)

    def serve(self, tmp_path: Path, pki: RigPki, **changes: Any):
        return serving(self.settings(tmp_path, pki, **changes).data)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"key_user_verification": "maybe"}, "key_user_verification"),
            ({"key_minimum_level": "L9"}, "key_minimum_level"),
            ({"key_allowed": ("not-an-aaguid",)}, "AAGUID"),
            ({"key_roots": (Path("/nowhere.pem"),)}, "nowhere.pem"),
            ({"rp_id": "example.org"}, "rp_id"),
        ],
    )
    def test_what_can_not_be_right_is_refused_at_the_start(
        self, tmp_path: Path, pki: RigPki, changes: dict, words: str
    ):
        with pytest.raises(SetupError, match=words):
            build(self.settings(tmp_path, pki, **changes))

    def test_a_server_without_a_name_takes_no_keys(self, tmp_path: Path, pki: RigPki):
        with self.serve(tmp_path, pki, origin="https://127.0.0.1:8443") as server:
            ticket = server.begin()
            assert [way["method"] for way in ticket["accepts"]] == ["card", "password"]
            assert server.http.get("/api/keys", headers=bearer("x")).status_code == 409
            address = f"/api/sign-in/{ticket['transaction']}/key"
            assert server.http.post(address, json={"credential": {}}).status_code == 409

    def test_only_what_the_operator_allows(self, tmp_path: Path, pki: RigPki, maker: Maker):
        (tmp_path / "maker.pem").write_bytes(maker.pem)
        changes = {
            "key_allowed": ("01020304-0506-0708-a1a2-a3a4a5a6a7a8",),
            "key_roots": (tmp_path / "maker.pem",),
            "key_user_verification": "required",
            "key_resident": "required",
        }
        with self.serve(tmp_path, pki, **changes) as server:
            bench = KeyBench(bench=Bench(data=tmp_path / "data", pki=pki), server=server, maker=maker)
            begun = bench.begin_by_code(bench.newcomer()).json()
            assert begun["options"]["authenticatorSelection"]["residentKey"] == "required"
            for how, why in [
                ({"maker": None, "fmt": "none"}, "attestation-untrusted"),
                ({"aaguid": bytes(15) + b"\x01"}, "model-refused"),
                ({"flags": UP}, "user-not-verified"),
            ]:
                begun = bench.begin_by_code(bench.newcomer()).json()
                answer = bench.finish(begun, bench.key(**how).register(begun["options"], ORIGIN))
                assert reason(answer) == why
            key = bench.register(bench.newcomer())
            assert bench.sign_in(key).json()["assurance"]["aal"] == 3
            assert reason(bench.sign_in(key, flags=UP)) == "user-not-verified"
