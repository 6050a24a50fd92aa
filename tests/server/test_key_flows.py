"""Security keys at a real server: registered by code and by session, signing in alone, before and after a password."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.conftest import ORIGIN, Bench, serving
from tests.server.key_bench import KeyBench, bearer, hardware_model, key_options, reason
from tests.software_key import BE, BS, EDDSA, ES384, RS256, UP, UV, Maker, SoftwareKey


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="module")
def at(bench: Bench, maker: Maker) -> Iterator[KeyBench]:
    with serving(bench.data) as server:
        made = KeyBench(bench=bench, server=server, maker=maker)
        made.load(hardware_model(maker))
        yield made


def test_a_new_account_registers_its_first_key_by_code_and_signs_in_without_a_name(at: KeyBench):
    name = at.newcomer(password=None)
    begun = at.begin_by_code(name).json()
    assert begun["account"] == {"username": name, "display_name": "A Newcomer"}
    assert begun["rp"] == {"id": "localhost", "name": "Test Hospital", "origin": ORIGIN}
    key = at.key()
    said = {"credProtect": 2, "minPinLength": 6}
    done = at.finish(begun, key.register(begun["options"], ORIGIN, extensions=said), "blue key")
    assert done.status_code == 201, done.text
    told = done.json()
    assert told["key"]["name"] == "blue key"
    assert told["key"]["model"] == "Test Key 5"
    assert (told["key"]["level"], told["key"]["trusted"], told["key"]["synced"]) == (3, True, False)
    assert (told["key"]["discoverable"], told["key"]["cred_protect"], told["key"]["min_pin_length"]) == (True, 2, 6)
    assert len(set(told["recovery_codes"])) == 10

    answer = at.sign_in(key).json()
    assert answer["decision"] == "allow"
    assert answer["account"]["username"] == name
    assert answer["assurance"]["aal"] == 3
    assert answer["assurance"]["amr"] == ["hwk", "pin", "user", "mfa"]
    assert answer["assurance"]["phishing_resistant"]


@pytest.mark.parametrize("algorithm", [EDDSA, ES384, RS256])
def test_every_algorithm_that_is_offered(at: KeyBench, algorithm: int):
    key = at.register(at.newcomer(), at.key(algorithm=algorithm))
    assert at.sign_in(key).json()["decision"] == "allow"


def test_the_first_answer_after_use_says_when(at: KeyBench):
    key = at.register(at.newcomer())
    token = at.session(key)
    (listed,) = at.server.http.get("/api/keys", headers=bearer(token)).json()["keys"]
    assert listed["last_used"] is not None


@pytest.mark.parametrize(
    ("how", "aal"),
    [
        ({"maker": None, "fmt": "none"}, 2),
        ({"maker": None, "fmt": "packed"}, 2),
        ({"flags": UP | UV | BE | BS}, 2),
        ({}, 3),
    ],
)
def test_what_a_key_is_worth(at: KeyBench, how: dict, aal: int):
    key = at.register(at.newcomer(), at.key(**how))
    answer = at.sign_in(key).json()
    assert answer["assurance"]["aal"] == aal
    assert ("swk" in answer["assurance"]["amr"]) == (aal == 2)


def test_a_touch_is_one_factor_and_the_password_the_other(at: KeyBench):
    name = at.newcomer()
    key = at.register(name, at.key(flags=UP))
    ticket = at.start()
    answer = at.present(ticket, key.answer(key_options(ticket), ORIGIN)).json()
    assert (answer["decision"], answer["methods"]) == ("challenge", ["password"])
    answer = at.server.password(ticket, name).json()
    assert answer["decision"] == "allow"
    assert answer["assurance"]["aal"] == 2
    assert answer["assurance"]["amr"] == ["hwk", "user", "pwd", "mfa"]


def test_only_the_password_of_the_keys_owner_follows_a_touch(at: KeyBench):
    key = at.register(at.newcomer(), at.key(flags=UP))
    ticket = at.start()
    at.present(ticket, key.answer(key_options(ticket), ORIGIN))
    assert reason(at.server.password(ticket, at.newcomer())) == "credentials-wrong"


def test_a_key_is_the_second_step_after_a_password(at: KeyBench):
    name = at.newcomer()
    key = at.register(name, at.key(flags=UP, discoverable=False))
    ticket = at.start()
    answer = at.server.password(ticket, name).json()
    assert answer["methods"] == ["key", "recovery"]
    options = answer["key_options"]
    assert options["challenge"] != key_options(ticket)["challenge"]
    assert [one["id"] for one in options["allowCredentials"]] == [key._named()["id"]]
    done = at.present(ticket, key.answer(options, ORIGIN)).json()
    assert done["decision"] == "allow"
    assert done["assurance"]["aal"] == 2


def test_the_second_step_takes_no_key_of_somebody_else(at: KeyBench):
    name = at.newcomer()
    at.register(name)
    other = at.register(at.newcomer())
    ticket = at.start()
    options = at.server.password(ticket, name).json()["key_options"]
    assert reason(at.present(ticket, other.answer(options, ORIGIN))) == "credential-unknown"
    assert at.server.password(ticket, name).status_code == 409


def test_a_named_sign_in_offers_the_accounts_keys(at: KeyBench):
    name = at.newcomer()
    key = at.register(name, at.key(discoverable=False))
    ticket = at.start(name)
    assert [one["id"] for one in key_options(ticket)["allowCredentials"]] == [key._named()["id"]]
    assert at.present(ticket, key.answer(key_options(ticket), ORIGIN)).json()["decision"] == "allow"


def test_a_named_sign_in_takes_no_key_of_somebody_else(at: KeyBench):
    name, other = at.newcomer(), at.register(at.newcomer())
    at.register(name)
    assert reason(at.sign_in(other, name)) == "credential-unknown"


def test_nobody_learns_from_the_options_who_has_an_account(at: KeyBench):
    nobody, without = "nobody-of-that-name", at.newcomer()
    for name in (nobody, without):
        first, second = key_options(at.start(name)), key_options(at.start(name))
        assert first["allowCredentials"] == second["allowCredentials"] != []
        assert {"type", "id", "transports"} == set(first["allowCredentials"][0])
    assert key_options(at.start(nobody))["allowCredentials"] != key_options(at.start(without))["allowCredentials"]
    assert reason(at.sign_in(at.key(), nobody)) == "credential-unknown"


def test_a_further_key_by_session_of_the_first(at: KeyBench):
    name = at.newcomer()
    first = at.register(name)
    begun = at.begin_by_session(at.session(first)).json()
    assert [one["id"] for one in begun["options"]["excludeCredentials"]] == [first._named()["id"]]
    second = at.key()
    told = at.finish(begun, second.register(begun["options"], ORIGIN)).json()
    assert told["key"]["name"] == "Test Key 5"
    assert "recovery_codes" not in told
    assert at.sign_in(second).json()["account"]["username"] == name


def test_a_weak_session_changes_no_keys(at: KeyBench):
    person = at.bench.person(enrol=False)
    strong = at.register(person.username)
    weak = at.session_by_code(person)
    assert at.begin_by_session(weak).status_code == 403
    assert reason(at.begin_by_session(weak)) == "step-up"
    (listed,) = at.server.http.get("/api/keys", headers=bearer(weak)).json()["keys"]
    assert reason(at.server.http.delete(f"/api/keys/{listed['id']}", headers=bearer(weak))) == "step-up"
    assert reason(at.server.http.post("/api/recovery-codes", headers=bearer(weak))) == "step-up"
    assert at.begin_by_session(at.session(strong)).status_code == 201


def test_a_card_in_the_account_sets_the_bar_for_its_first_key(at: KeyBench):
    person = at.bench.person()
    assert reason(at.begin_by_session(at.session_by_code(person))) == "step-up"
    ticket = at.start()
    by_card = at.server.card(ticket, person.card.token(ticket["nonce"])).json()
    assert at.begin_by_session(by_card["session"]["token"]).status_code == 201


def test_without_anything_stronger_a_code_session_registers_the_first_key(at: KeyBench):
    person = at.bench.person(enrol=False)
    assert at.begin_by_session(at.session_by_code(person)).status_code == 201


def test_keys_are_named_listed_and_removed(at: KeyBench):
    name = at.newcomer()
    first = at.register(name)
    token, other = at.session(first), at.session(first)
    at.register(name)
    listed = at.server.http.get("/api/keys", headers=bearer(token)).json()
    assert listed["recovery_codes_left"] == 10
    one, two = listed["keys"]
    told = at.server.http.patch(f"/api/keys/{two['id']}", json={"name": "spare"}, headers=bearer(token))
    assert told.json()["key"]["name"] == "spare"
    assert at.server.http.delete(f"/api/keys/{two['id']}", headers=bearer(token)).status_code == 204
    assert at.server.session(other).status_code == 401, "other sessions end with the key"
    assert at.server.session(token).status_code == 200
    last = at.server.http.delete(f"/api/keys/{one['id']}", headers=bearer(token))
    assert (last.status_code, reason(last)) == (409, "last-factor")
    sure = at.server.http.delete(f"/api/keys/{one['id']}?confirm_last=true", headers=bearer(token))
    assert sure.status_code == 204
    assert reason(at.sign_in(first)) == "credential-unknown"


def test_a_recovery_code_follows_the_password_once(at: KeyBench):
    name = at.newcomer()
    begun = at.begin_by_code(name).json()
    codes = at.finish(begun, at.key().register(begun["options"], ORIGIN)).json()["recovery_codes"]

    def use(code: str):
        ticket = at.start()
        assert "recovery" in at.server.password(ticket, name).json()["methods"]
        return at.server.http.post(
            f"/api/sign-in/{ticket['transaction']}/code", json={"method": "recovery", "code": code}
        )

    answer = use(codes[0].lower().replace("-", " ")).json()
    assert answer["decision"] == "allow"
    assert answer["assurance"]["amr"] == ["pwd", "otp", "mfa"]
    assert reason(use(codes[0])) == "code-wrong"
    assert use(codes[1]).status_code == 200


def test_new_recovery_codes_void_the_old(at: KeyBench):
    name = at.newcomer()
    begun = at.begin_by_code(name).json()
    key = at.key()
    old = at.finish(begun, key.register(begun["options"], ORIGIN)).json()["recovery_codes"]
    made = at.server.http.post("/api/recovery-codes", headers=bearer(at.session(key)))
    assert made.status_code == 201
    new = made.json()["recovery_codes"]
    assert len(new) == 10
    assert not set(new) & set(old)
    ticket = at.start()
    at.server.password(ticket, name)
    body = {"method": "recovery", "code": old[0]}
    assert reason(at.server.http.post(f"/api/sign-in/{ticket['transaction']}/code", json=body)) == "code-wrong"


def test_giving_a_registration_up(at: KeyBench):
    name, key = at.newcomer(), at.key()
    code = at.enrolment_code(name)
    begun = at.begin_by_code(name, code).json()
    assert at.server.http.delete(f"/api/keys/registration/{begun['registration']}").status_code == 204
    answer = at.finish(begun, key.register(begun["options"], ORIGIN))
    assert (answer.status_code, reason(answer)) == (404, "challenge-unknown")
    assert at.begin_by_code(name, code).status_code == 201, "the code was not used up"


def test_u2f_style_key_is_one_factor(at: KeyBench):
    name = at.newcomer()
    key = SoftwareKey(maker=at.maker, fmt="fido-u2f", aaguid=bytes(16), flags=UP, discoverable=False)
    at.register(name, key)
    answer = at.sign_in(key, name).json()
    assert answer["methods"] == ["password"]
