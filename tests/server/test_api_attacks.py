"""What must not sign anybody in, by a real server process over TLS."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import threading

import httpx
import pytest

from tests.patience import SECONDS
from tests.server.conftest import ORIGIN, PASSWORD, Bench, Databases, Server
from tokenbridge.errors import TokenbridgeError
from tokenbridge.rig.pki import Variant
from tokenbridge.server.operator import people
from tokenbridge.server.store import audit


def reason(answer: httpx.Response) -> str:
    return answer.json()["error"].get("reason", answer.json()["error"]["code"])


def trail(bench: Bench) -> list[audit.Entry]:
    with bench.office() as opened, opened.database.read() as tx:
        return audit.entries(tx, limit=100_000)


class TestNonce:
    def test_replay_in_the_same_transaction(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        token = person.card.token(ticket["nonce"])
        assert server.card(ticket, token).status_code == 200
        assert server.card(ticket, token).status_code == 409

    def test_token_of_another_transaction(self, bench: Bench, server: Server):
        person, mine, other = bench.person(), server.begin(), server.begin()
        answer = server.card(other, person.card.token(mine["nonce"]))
        assert (answer.status_code, reason(answer)) == (403, "signature-invalid")

    def test_bad_evidence_spends_the_nonce(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        good = person.card.token(ticket["nonce"])
        bad = {**good, "signature": base64.b64encode(bytes(64)).decode()}
        assert server.card(ticket, bad).status_code == 403
        assert server.card(ticket, good).status_code == 409

    def test_unknown_transaction(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        for token in ("x" * 43, "y" * 4000, "%00"):
            answer = server.card({"transaction": token}, person.card.token(ticket["nonce"]))
            assert (answer.status_code, reason(answer)) == (404, "challenge-unknown")

    def test_of_many_racing_for_one_nonce_one_wins(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        token, start = person.card.token(ticket["nonce"]), threading.Barrier(6)

        def present() -> int:
            start.wait(SECONDS)
            return server.card(ticket, token).status_code

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            codes = [future.result() for future in [pool.submit(present) for _ in range(6)]]
        assert sorted(codes) == [200, 409, 409, 409, 409, 409]


class TestEvidence:
    def test_origin_of_another_site(self, bench: Bench, server: Server):
        person = bench.person()
        for origin in ("https://evil.example", ORIGIN + "/", "https://localhost"):
            ticket = server.begin()
            answer = server.card(ticket, person.card.token(ticket["nonce"], origin=origin))
            assert (answer.status_code, reason(answer)) == (403, "signature-invalid")

    def test_certificate_of_somebody_else(self, bench: Bench, server: Server):
        alice, mallory, ticket = bench.person(), bench.card(), server.begin()
        stolen = base64.b64encode(alice.card.der).decode()
        answer = server.card(ticket, mallory.token(ticket["nonce"], unverifiedCertificate=stolen))
        assert (answer.status_code, reason(answer)) == (403, "signature-invalid")

    def test_nobodys_card_is_refused_and_recorded(self, bench: Bench, server: Server):
        card, ticket = bench.card(), server.begin()
        answer = server.card(ticket, card.token(ticket["nonce"]))
        assert (answer.status_code, reason(answer)) == (403, "subject-unknown")
        last = trail(bench)[-1]
        assert (last.event, last.request) == ("refused", answer.headers["x-request-id"])
        assert f"{card.certificate.serial_number:x}" in last.detail["detail"]

    @pytest.mark.parametrize(
        ("variant", "expected"),
        [
            (Variant.EXPIRED, "certificate-expired"),
            (Variant.NOT_YET_VALID, "certificate-not-yet-valid"),
            (Variant.WRONG_USAGE, "certificate-usage"),
            (Variant.UNKNOWN_ISSUER, "issuer-unknown"),
        ],
    )
    def test_unfit_certificates(self, bench: Bench, server: Server, variant: Variant, expected: str):
        person, ticket = bench.person(card=bench.card(variant=variant)), server.begin()
        answer = server.card(ticket, person.card.token(ticket["nonce"]))
        assert (answer.status_code, reason(answer)) == (403, expected)

    @pytest.mark.parametrize(
        "change",
        [
            {"format": "web-eid:2.0"},
            {"algorithm": "none"},
            {"algorithm": "ES384"},
            {"algorithm": "RS256"},
            {"signature": ""},
            {"signature": 7},
            {"unverifiedCertificate": "AAAA"},
            {"unverifiedCertificate": "A" * 9000},
            {"appVersion": None},
        ],
    )
    def test_tampered_tokens(self, bench: Bench, server: Server, change: dict[str, object]):
        person, ticket = bench.person(), server.begin()
        answer = server.card(ticket, {**person.card.token(ticket["nonce"]), **change})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "rejected"

    def test_card_removed_from_the_account(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        with bench.office() as opened:
            ((row, _),) = people.cards_of(opened, person.username)
            people.remove_card(opened, row.id)
        answer = server.card(ticket, person.card.token(ticket["nonce"]))
        assert (answer.status_code, reason(answer)) == (403, "subject-unknown")

    def test_issuer_that_may_not_name_people_names_nobody(self, bench: Bench, server: Server):
        """The certificate says whose it is, but its authority was not given that right."""
        card = bench.card(uid="555000000999", upn="victim@nhs.example", email="victim@nhs.example")
        bench.person(enrol=False, nhs_uid="555000000999", upn="victim@nhs.example", email="victim@nhs.example")
        ticket = server.begin()
        answer = server.card(ticket, card.token(ticket["nonce"]))
        assert (answer.status_code, reason(answer)) == (403, "subject-unknown")

    def test_disabled_account_is_denied_by_card(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        with bench.office() as opened:
            people.set_disabled(opened, person.username, disabled=True)
        answer = server.card(ticket, person.card.token(ticket["nonce"]))
        assert answer.json()["decision"] == "deny"
        assert [item["code"] for item in answer.json()["reasons"]] == ["account-disabled"]
        assert "session" not in answer.json()

    @pytest.mark.parametrize(
        "change",
        [
            lambda office, name: people.set_disabled(office, name, disabled=True),
            lambda office, name: people.set_password(office, name, "another good one"),
            people.revoke_sessions,
        ],
        ids=["disabled", "new password", "revoked"],
    )
    def test_what_ends_the_sessions(self, bench: Bench, server: Server, change):
        person, ticket = bench.person(), server.begin()
        token = server.card(ticket, person.card.token(ticket["nonce"])).json()["session"]["token"]
        assert server.session(token).status_code == 200
        with bench.office() as opened:
            change(opened, person.username)
        assert server.session(token).status_code == 401


class TestPasswords:
    def test_unknown_disabled_and_wrong_look_the_same(self, bench: Bench, server: Server):
        person, disabled = bench.person(), bench.person()
        with bench.office() as opened:
            people.set_disabled(opened, disabled.username, disabled=True)
        tries = [(person.username, "wrong password"), ("nobody-here", PASSWORD), (disabled.username, PASSWORD)]
        answers = [server.password(server.begin(), *pair) for pair in tries]
        assert {answer.status_code for answer in answers} == {403}
        told = [{k: v for k, v in answer.json()["error"].items() if k != "request_id"} for answer in answers]
        assert told[0] == told[1] == told[2]
        headers = [{k for k in answer.headers if k != "x-request-id"} for answer in answers]
        assert headers[0] == headers[1] == headers[2]

    def test_attempts_of_one_transaction_are_limited(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        codes = [server.password(ticket, person.username, "wrong password").status_code for _ in range(6)]
        assert codes == [403] * 5 + [429]
        assert server.password(ticket, person.username).status_code == 409

    def test_two_clients_race_for_one_code(self, bench: Bench, server: Server):
        person = bench.person()
        tickets = [server.begin() for _ in range(4)]
        for ticket in tickets:
            assert server.password(ticket, person.username).status_code == 200
        code, start = person.code(), threading.Barrier(4)

        def present(ticket: dict[str, object]) -> int:
            start.wait(SECONDS)
            return server.code(ticket, code).status_code

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            codes = sorted(pool.map(present, tickets))
        assert codes == [200, 403, 403, 403]


class TestRequests:
    @pytest.mark.parametrize("declared", [True, False])
    def test_oversized_body(self, server: Server, declared: bool):
        body = json.dumps({"client": "x" * 20_000}).encode()
        content = body if declared else iter([body[:10_000], body[10_000:]])
        answer = server.http.post("/api/sign-in", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, reason(answer)) == (413, "too-large")

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"client": 7}', b'{"client": "a b"}', b'{"client": ""}',
         b'{"client": "cli", "more": 1}', b'{"client": "\\ud800"}', b"[" * 8000],
    )  # fmt: skip
    def test_malformed_bodies(self, server: Server, body: bytes):
        answer = server.http.post("/api/sign-in", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, reason(answer)) == (400, "bad-request")
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]

    def test_password_is_not_echoed(self, server: Server):
        ticket = server.begin()
        body = {"username": "alice", "password": ["secret word"]}
        answer = server.http.post(f"/api/sign-in/{ticket['transaction']}/password", json=body)
        assert answer.status_code == 400
        assert "secret word" not in answer.text

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/api/sign-in", 405)])
    def test_unknown_places_answer_in_the_same_form(self, server: Server, method: str, path: str, status: int):
        answer = server.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["request_id"]

    @pytest.mark.parametrize("header", [None, "Basic YTpi", "Bearer", "Bearer x", "Bearer " + "x" * 5000])
    def test_no_session_without_its_token(self, server: Server, header: str | None):
        answer = server.http.get("/api/session", headers={"Authorization": header} if header else {})
        assert (answer.status_code, reason(answer)) == (401, "no-session")
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_every_answer_has_the_safe_headers(self, server: Server):
        for path in ("/healthz", "/nothing", "/api/session"):
            headers = server.http.get(path).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
            assert "strict-transport-security" not in headers  # a self-made certificate, on localhost

    def test_plain_http_is_not_spoken(self, server: Server):
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https", "http") + "/healthz", trust_env=False)


class TestStore:
    def test_audit_rows_can_be_neither_changed_nor_removed(self, bench: Bench, server: Server):
        server.card(server.begin(), {})
        for statement in ("UPDATE audit SET event = 'x'", "DELETE FROM audit"):
            with pytest.raises(TokenbridgeError) as caught:
                bench.sql(statement)
            assert "append-only" in caught.value.detail
        with bench.office() as opened, opened.database.read() as tx:
            verdict = audit.verify(tx, opened.ring)
        assert verdict.broken_at is None
        assert verdict.rows == len(trail(bench))

    def test_a_stolen_database_holds_no_secret(self, bench: Bench, server: Server, databases: Databases):
        person, ticket = bench.person(), server.begin()
        card_session = server.card(ticket, person.card.token(ticket["nonce"])).json()["session"]["token"]
        second = server.begin()
        server.password(second, person.username)
        server.code(second, person.code())
        stolen = databases.stolen(bench.data)
        log = (bench.data / "server.log").read_bytes()
        for secret in (PASSWORD, person.totp.secret, card_session, ticket["transaction"], second["transaction"]):
            assert secret.encode() not in stolen
            assert secret.encode() not in log
        assert base64.b32decode(person.totp.secret) not in stolen
        assert person.username.encode() in stolen
