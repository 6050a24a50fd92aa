"""The ways in, by a real server process over TLS."""

from __future__ import annotations

import base64

import pyotp

from tests.server.conftest import ORIGIN, Bench, Server, serving
from tokenbridge.server.operator import office


def error(answer):
    body = answer.json()["error"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


class TestStart:
    def test_ticket_says_what_to_sign_and_what_is_accepted(self, bench: Bench, server: Server):
        ticket = server.begin()
        assert ticket["rp"] == {"name": "Test Hospital", "origin": ORIGIN}
        assert len(base64.b64decode(ticket["nonce"])) == 32
        card, key, password = ticket["accepts"]
        assert card["method"] == "card"
        assert card["format"] == "web-eid:1"
        assert {"ES256", "ES384", "RS256", "PS256"} <= set(card["algorithms"])
        names = {base64.b64decode(name) for name in card["issuers"]}
        assert bench.pki.issuing.name.public_bytes() in names
        assert key["method"] == "key"
        asked = key["options"]
        assert asked["challenge"] == ticket["nonce"].replace("+", "-").replace("/", "_").rstrip("=")
        assert (asked["rpId"], asked["userVerification"], asked["allowCredentials"]) == ("localhost", "preferred", [])
        assert password == {"method": "password", "then": ["key", "number-match", "totp", "recovery"]}

    def test_every_ticket_has_its_own_nonce(self, server: Server):
        assert len({server.begin()["nonce"] for _ in range(20)}) == 20


class TestCard:
    def test_signs_in_at_aal3_without_a_code(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        answer = server.card(ticket, person.card.token(ticket["nonce"]))
        assert answer.status_code == 200, answer.text
        outcome = answer.json()
        assert outcome["decision"] == "allow"
        assert outcome["account"]["username"] == person.username
        assert outcome["suppressed"] == ["totp"]
        assert "PIN enforced by the issuer" in outcome["sentence"]
        assert outcome["assurance"] == {
            "aal": 3,
            "acr": "aal3",
            "amr": ["sc", "hwk", "pin", "mfa"],
            "phishing_resistant": True,
            "hardware": True,
        }
        seen = server.session(outcome["session"]["token"])
        assert seen.status_code == 200
        assert seen.json()["account"] == outcome["account"]
        assert seen.json()["assurance"] == outcome["assurance"]

    def test_sign_out_ends_the_session(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        token = server.card(ticket, person.card.token(ticket["nonce"])).json()["session"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert server.http.delete("/api/session", headers=headers).status_code == 204
        assert server.session(token).status_code == 401
        assert server.http.delete("/api/session", headers=headers).status_code == 401


class TestPassword:
    def test_password_then_code_signs_in_at_aal2(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        first = server.password(ticket, person.username)
        assert first.status_code == 200, first.text
        assert first.json()["decision"] == "challenge"
        assert first.json()["methods"][0] == "totp"
        assert "session" not in first.json()
        second = server.code(ticket, person.code())
        assert second.status_code == 200, second.text
        assert second.json()["decision"] == "allow"
        assert second.json()["assurance"]["aal"] == 2
        assert second.json()["assurance"]["amr"] == ["pwd", "otp", "mfa"]
        assert second.json()["assurance"]["phishing_resistant"] is False

    def test_wrong_then_right_password(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        wrong = server.password(ticket, person.username, "not the password")
        assert wrong.status_code == 403
        assert error(wrong)["reason"] == "credentials-wrong"
        assert error(wrong)["retry"] == "again"
        assert server.password(ticket, person.username).json()["decision"] == "challenge"

    def test_a_code_counts_once(self, bench: Bench, server: Server):
        person, code = bench.person(), None
        for expected in (200, 403):
            ticket = server.begin()
            server.password(ticket, person.username)
            code = code or person.code()
            answer = server.code(ticket, code)
            assert answer.status_code == expected, answer.text
        assert error(answer)["reason"] == "code-wrong"

    def test_wrong_codes_end_the_transaction(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        server.password(ticket, person.username)
        stranger = pyotp.TOTP(pyotp.random_base32())
        answers = [server.code(ticket, stranger.at(1000 * n)) for n in range(6)]
        assert [answer.status_code for answer in answers] == [403] * 5 + [429]
        assert server.code(ticket, person.code()).status_code == 409

    def test_code_without_password_is_out_of_turn(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        assert server.code(ticket, person.code()).status_code == 409


class TestCancel:
    def test_cancelled_sign_in_takes_nothing_more(self, bench: Bench, server: Server):
        person, ticket = bench.person(), server.begin()
        assert server.http.delete(f"/api/sign-in/{ticket['transaction']}").status_code == 204
        answer = server.card(ticket, person.card.token(ticket["nonce"]))
        assert answer.status_code == 409
        assert error(answer)["code"] == "not-allowed-now"


def test_keys_are_rotated_while_the_server_runs(fresh: Bench):
    person, other = fresh.person(enrol=False), fresh.person(enrol=False)
    with serving(fresh.data) as server:
        for who in (person, other):
            ticket = server.begin()
            server.password(ticket, who.username)
            with fresh.office() as opened:
                before = opened.ring.keys[0].id
                assert office.rotate_keys(opened) == 2
            with fresh.office() as opened:
                assert [key.id for key in opened.ring.keys] != [before]
                assert len(opened.ring.keys) == 1
            assert server.code(ticket, who.code()).json()["decision"] == "allow"
