"""What is suspended signs in nowhere, whatever was under way; nothing that it guarded becomes easier by it."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.conftest import DER, ORIGIN, Bench, Databases, SoftCard, make_bench, now, serving
from tests.server.key_bench import KeyBench, bearer, hardware_model, key_options, reason
from tests.server.test_cli import Cli
from tests.software_key import UP, Maker, b64u
from tokenbridge.errors import BadRequest
from tokenbridge.rig.pki import Profile, RigPki
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.proof import DEVICES, Method
from tokenbridge.server import holdings, step_up, suspending
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.login import Dead
from tokenbridge.server.operator import authorities, people, security_keys
from tokenbridge.server.operator.suspensions import set_issuer_suspended, set_suspended
from tokenbridge.server.people import person as person_of
from tokenbridge.server.store import accounts, audit, cards, groups, sessions, sign_ins, suspensions
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.store.suspensions import Kind, Ref, parse
from tokenbridge.server.trust import TrustBook

UIDS = map("7{:011d}".format, itertools.count())


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, databases: Databases) -> Iterator[KeyBench]:
    """Its authority may say whose a card is."""
    bench = make_bench(tmp_path_factory.mktemp("suspensions") / "data", pki, database=databases.new())
    bench.trust(map_nhs_uid=True)
    maker = Maker()
    with serving(bench.data) as server:
        made = KeyBench(bench=bench, server=server, maker=maker)
        made.load(hardware_model(maker))
        yield made


def keys_of(at: KeyBench, name: str) -> list[int]:
    with at.bench.office() as office:
        return [one["id"] for one in security_keys.keys_of(office, name)]


def cards_of(at: KeyBench, name: str) -> list[int]:
    with at.bench.office() as office:
        return [row.id for row, _ in people.cards_of(office, name)]


def suspend(at: KeyBench, kind: Kind, number: int, *, suspended: bool = True) -> int:
    """Returns how many sessions have ended."""
    with at.bench.office() as office:
        return set_suspended(office, kind, number, suspended=suspended).sessions_ended


def by_card(at: KeyBench, card: SoftCard) -> httpx.Response:
    ticket = at.server.begin()
    return at.server.card(ticket, card.token(ticket["nonce"]))


def alive(at: KeyBench, token: str) -> bool:
    return at.server.session(token).status_code == 200


def enrolled(at: KeyBench, name: str) -> frozenset[Method]:
    """As two ways of asking say alike."""
    with at.bench.office() as office, office.database.read() as tx:
        account = accounts.get(tx, name)
        who = person_of(tx, account.id)
        assert who is not None
        assert who.enrolled == accounts.enrolled(tx, account.id)
        return who.enrolled


def trail(at: KeyBench, name: str) -> list[str]:
    with at.bench.office() as office, office.database.read() as tx:
        return [entry.event for entry in audit.entries(tx, account=name)]


class TestKeys:
    def test_a_suspended_key_is_refused_with_a_reason_and_signs_in_again_once_that_is_lifted(self, at: KeyBench):
        name = at.newcomer()
        key = at.register(name)
        (number,) = keys_of(at, name)
        token = at.session(key)
        assert suspend(at, Kind.KEY, number) == 1
        assert not alive(at, token), "what it has opened is shut"
        refused = at.sign_in(key)
        assert (refused.status_code, reason(refused)) == (403, "suspended")
        assert "suspended" in refused.json()["error"]["message"]
        assert enrolled(at, name) == frozenset({Method.RECOVERY})
        suspend(at, Kind.KEY, number, suspended=False)
        assert at.sign_in(key).status_code == 200
        assert [event for event in trail(at, name) if "susp" in event] == ["key-suspended", "suspension-lifted"]
        assert "refused" in trail(at, name), "its owner sees that somebody has tried"

    def test_nobody_learns_without_the_key_that_it_is_suspended(self, at: KeyBench):
        name = at.newcomer()
        key = at.register(name)
        before = key_options(at.start(name))["allowCredentials"]
        suspend(at, Kind.KEY, keys_of(at, name)[0])
        assert key_options(at.start(name))["allowCredentials"] == before
        told, stranger = [], at.register(at.newcomer())
        for credential in (key.credential_id, b"no id of ours" * 4):
            ticket = at.start(name)
            raw = stranger.answer(key_options(ticket), at.origin)
            refused = at.present(ticket, {**raw, "id": b64u(credential), "rawId": b64u(credential)})
            told.append((refused.status_code, reason(refused), refused.json()["error"]["message"]))
        assert told[0] == told[1]
        assert told[0][1] == "credential-unknown"

    def test_other_keys_and_their_sessions_go_on(self, at: KeyBench):
        name = at.newcomer()
        one, other = at.register(name), at.key()
        token = at.session(one)
        begun = at.begin_by_session(token).json()
        assert at.finish(begun, other.register(begun["options"], ORIGIN)).status_code == 201
        kept = at.session(other)
        assert suspend(at, Kind.KEY, keys_of(at, name)[0]) == 1
        assert (alive(at, token), alive(at, kept)) == (False, True)
        assert at.sign_in(other).status_code == 200
        assert Method.KEY in enrolled(at, name)

    def test_as_the_second_step_it_is_not_offered(self, at: KeyBench):
        person = at.bench.person(enrol=False)
        at.register(person.username)
        ticket = at.server.begin()
        assert "key" in at.server.password(ticket, person.username).json()["methods"]
        suspend(at, Kind.KEY, keys_of(at, person.username)[0])
        ticket = at.server.begin()
        answer = at.server.password(ticket, person.username).json()
        assert "key" not in answer["methods"]
        assert at.server.code(ticket, person.code()).status_code == 200

    def test_the_second_step_that_was_offered_before_does_not_complete(self, at: KeyBench):
        person = at.bench.person(enrol=False)
        key = at.register(person.username)
        ticket = at.server.begin()
        options = at.server.password(ticket, person.username).json()["key_options"]
        suspend(at, Kind.KEY, keys_of(at, person.username)[0])
        refused = at.present(ticket, key.answer(options, at.origin))
        assert (refused.status_code, reason(refused)) == (403, "suspended")

    def test_the_key_of_a_touch_that_awaits_the_password(self, at: KeyBench):
        """Its proof counts no more: the sign-in is over."""
        name = at.newcomer()
        key = at.register(name)
        ticket = at.start()
        waiting = at.present(ticket, key.answer(key_options(ticket), at.origin, flags=UP))
        assert waiting.json()["methods"] == ["password"], waiting.text
        suspend(at, Kind.KEY, keys_of(at, name)[0])
        assert at.server.password(ticket, name).status_code == 409
        with at.bench.office() as office, office.database.read() as tx:
            found = sign_ins.find(tx, hashlib.sha256(ticket["transaction"].encode()).hexdigest())
        assert found is not None
        assert found.state == Dead(reason="suspended")

    def test_suspending_the_only_key_lets_nobody_in_by_the_password_alone(self, at: KeyBench):
        """`@unenrolled` is for those who have nothing, and this account has."""
        name = at.newcomer()
        at.register(name)
        with at.bench.office() as office, office.database.write() as tx:
            account = accounts.get(tx, name)
            tx.connection().exec_driver_sql(f"DELETE FROM recovery_codes WHERE account_id = {account.id}")
        suspend(at, Kind.KEY, keys_of(at, name)[0])
        with at.bench.office() as office, office.database.read() as tx:
            who = person_of(tx, accounts.get(tx, name).id)
        assert who is not None
        assert (who.enrolled, who.suspended) == (frozenset(), True)
        assert groups.UNENROLLED not in who.groups

    def test_a_weaker_session_gains_nothing_by_it(self, at: KeyBench):
        """The account's bar stays where it was: no key can be registered, and it is not lifted, with less."""
        person = at.bench.person(enrol=False)
        at.register(person.username)
        weak = at.session_by_code(person)
        assert at.begin_by_session(weak).status_code == 403
        suspend(at, Kind.KEY, keys_of(at, person.username)[0])
        assert reason(at.begin_by_session(weak)) == "step-up"

    def test_the_api_and_the_list_of_an_operator_say_since_when(self, at: KeyBench):
        person = at.bench.person(enrol=False)
        at.register(person.username)
        token = at.session_by_code(person)
        (number,) = keys_of(at, person.username)
        listed = at.server.http.get("/api/keys", headers=bearer(token)).json()["keys"]
        assert [key["suspended_at"] for key in listed] == [None]
        suspend(at, Kind.KEY, number)
        (listed,) = at.server.http.get("/api/keys", headers=bearer(token)).json()["keys"]
        assert listed["suspended_at"] is not None


class TestCards:
    def test_an_enrolled_card(self, at: KeyBench):
        person = at.bench.person()
        (number,) = cards_of(at, person.username)
        token = by_card(at, person.card).json()["session"]["token"]
        assert suspend(at, Kind.CARD, number) == 1
        assert not alive(at, token)
        refused = by_card(at, person.card)
        assert (refused.status_code, reason(refused)) == (403, "suspended")
        assert enrolled(at, person.username) == frozenset({Method.TOTP})
        suspend(at, Kind.CARD, number, suspended=False)
        assert by_card(at, person.card).status_code == 200

    def test_its_renewed_certificate_is_the_same_card(self, at: KeyBench):
        uid = next(UIDS)
        card = at.bench.card(uid)
        person = at.bench.person(card=card, nhs_uid=uid)
        renewed = at.bench.pki.issue(card.key.public_key(), Profile(uid=uid), now=now())
        again = SoftCard(key=card.key, certificate=renewed)
        assert again.der != card.der
        token = by_card(at, again).json()["session"]["token"]
        assert suspend(at, Kind.CARD, cards_of(at, person.username)[0]) == 1
        assert not alive(at, token), "the session of the renewed one too"
        assert reason(by_card(at, again)) == "suspended"

    def test_a_suspended_card_does_not_come_in_by_its_issuers_word(self, at: KeyBench):
        uid = next(UIDS)
        card = at.bench.card(uid)
        person = at.bench.person(card=card, nhs_uid=uid)
        (number,) = cards_of(at, person.username)
        suspend(at, Kind.CARD, number)
        assert reason(by_card(at, card)) == "suspended"
        with at.bench.office() as office:
            people.remove_card(office, number)
        assert reason(by_card(at, card)) == "suspended", "nor once it is removed"

    def test_cards_of_an_issuer_that_are_not_enrolled(self, at: KeyBench):
        uid = next(UIDS)
        card, other = at.bench.card(uid), at.bench.card(uid)
        person = at.bench.person(card=card, nhs_uid=uid, enrol=False)
        token = by_card(at, card).json()["session"]["token"]
        with at.bench.office() as office:
            done = set_issuer_suspended(office, person.username, "bench", suspended=True)
        assert (done.changed, done.sessions_ended) == (True, 1)
        assert not alive(at, token)
        assert reason(by_card(at, card)) == "suspended"
        assert reason(by_card(at, other)) == "suspended", "nobody here knows which of them is the lost one"
        with at.bench.office() as office:
            people.enrol(office, person.username, Certificate.parse(other.der), "", unchecked=True)
        assert by_card(at, other).status_code == 200, "one that is enrolled by itself does count"
        assert reason(by_card(at, card)) == "suspended"
        with at.bench.office() as office:
            set_issuer_suspended(office, person.username, "bench", suspended=False)
            with pytest.raises(BadRequest, match="not known by the word"):
                set_issuer_suspended(office, person.username, "nobody", suspended=True)
        assert by_card(at, card).status_code == 200

    def test_others_of_the_issuer_are_not_touched(self, at: KeyBench):
        one, other = next(UIDS), next(UIDS)
        mine, theirs = at.bench.card(one), at.bench.card(other)
        person = at.bench.person(card=mine, nhs_uid=one, enrol=False)
        at.bench.person(card=theirs, nhs_uid=other, enrol=False)
        with at.bench.office() as office:
            set_issuer_suspended(office, person.username, "bench", suspended=True)
        assert by_card(at, theirs).status_code == 200

    def test_an_authority_under_another_name_does_not_lift_it(self, fresh: Bench):
        uid = next(UIDS)
        card = fresh.card(uid)
        fresh.trust(map_nhs_uid=True)
        person = fresh.person(card=card, nhs_uid=uid, enrol=False)
        with fresh.office() as office:
            set_issuer_suspended(office, person.username, "bench", suspended=True)
        fresh.distrust()
        with fresh.office() as office:
            authorities.add(
                office,
                Anchor(
                    name="another name",
                    certificate=fresh.pki.root.certificate.public_bytes(DER),
                    intermediates=(fresh.pki.issuing.certificate.public_bytes(DER),),
                    hardware=True,
                    pin_enforced=True,
                    map_nhs_uid=True,
                    crl_files=(str(fresh.crl), str(fresh.data / "root.crl")),
                ),
            )
        with serving(fresh.data) as server:
            ticket = server.begin()
            assert reason(server.card(ticket, card.token(ticket["nonce"]))) == "suspended"


class TestRaces:
    """Each round: sign-ins whose evidence is made, and a suspension, all at the same moment."""

    def test_with_a_key(self, at: KeyBench):
        for _ in range(6):
            name = at.newcomer()
            key = at.register(name, at.key(counter=0))
            (number,) = keys_of(at, name)
            begun = [at.start() for _ in range(4)]
            proofs = [(ticket, key.answer(key_options(ticket), at.origin)) for ticket in begun]
            self._race(at, name, Kind.KEY, number, [lambda pair=pair: at.present(*pair) for pair in proofs])

    def test_with_a_card(self, at: KeyBench):
        for _ in range(6):
            person = at.bench.person()
            (number,) = cards_of(at, person.username)
            begun = [at.server.begin() for _ in range(4)]
            proofs = [(ticket, person.card.token(ticket["nonce"])) for ticket in begun]
            self._race(at, person.username, Kind.CARD, number, [lambda p=p: at.server.card(*p) for p in proofs])

    def test_of_two_who_suspend_one_is_first(self, at: KeyBench):
        name = at.newcomer()
        at.register(name)
        (number,) = keys_of(at, name)
        with at.bench.office() as office, concurrent.futures.ThreadPoolExecutor(4) as pool:
            works = [pool.submit(set_suspended, office, Kind.KEY, number, suspended=True) for _ in range(4)]
            assert sorted(work.result(30).changed for work in works) == [False, False, False, True]
        assert trail(at, name).count("key-suspended") == 1

    @staticmethod
    def _race(at: KeyBench, name: str, kind: Kind, number: int, works: list[Callable[[], httpx.Response]]) -> None:
        start = threading.Barrier(len(works) + 1)

        def run(work: Callable[[], object]) -> object:
            start.wait(20)
            return work()

        with concurrent.futures.ThreadPoolExecutor(len(works) + 1) as pool:
            stopped = pool.submit(run, lambda: suspend(at, kind, number))
            answers = [future.result(30) for future in [pool.submit(run, work) for work in works]]
            ended = stopped.result(30)
        allowed = [answer for answer in answers if answer.status_code == 200]
        assert {reason(answer) for answer in answers if answer not in allowed} <= {"suspended"}
        assert ended == len(allowed), "whoever was faster is signed out by it"
        assert not any(alive(at, answer.json()["session"]["token"]) for answer in allowed)


class TestLaws:
    """For any account, and whatever of it is suspended."""

    @given(keys=st.lists(st.booleans(), max_size=3), own=st.lists(st.booleans(), max_size=3), word=st.booleans())
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_the_bar_stays_and_what_is_in_use_counts(
        self, at: KeyBench, keys: list[bool], own: list[bool], word: bool
    ) -> None:
        uid = next(UIDS)
        person = at.bench.person(card=at.bench.card(uid), nhs_uid=uid, enrol=False)
        for _ in keys:
            at.register(person.username)
        with at.bench.office() as office:
            for _ in own:
                people.enrol(office, person.username, Certificate.parse(at.bench.card(uid).der), "", unchecked=True)
            trust = TrustBook(office.database).current()
            models = KeyModelBook(office.database, office.settings).current()
            bar = step_up.Bar(trust=trust, models=models, max_age=dt.timedelta(minutes=10))
            with office.database.write() as tx:
                account = accounts.get(tx, person.username)
                before, height = accounts.enrolled(tx, account.id), bar.strongest(tx, account, now())
                wanted = dict(zip([*suspending.keys_of(tx, account)], keys, strict=True))
                wanted |= dict(zip([*suspending.cards_of(tx, account, trust)], own, strict=True))
                wanted |= {device: word for device in suspending.recognised(tx, account, trust)}
                chosen = [device for device, stop in wanted.items() if stop]
                suspending.suspend(tx, account, chosen, now())
                assert bar.strongest(tx, account, now()) == height == AAL.AAL3
                in_use = {device.ref for device in suspending.devices(tx, account, trust) if device.since is None}
                assert in_use == {device.ref for device, stop in wanted.items() if not stop}
                held = holdings.of(tx, account, trust, models, now())
                assert in_use == {holding.ref for holding in held if holding.suspended is None}
                assert accounts.enrolled(tx, account.id, suspended=True) == before
                left = {method for method in DEVICES if any(_of(ref, method) for ref in in_use)}
                assert accounts.enrolled(tx, account.id) & DEVICES == left
                who = person_of(tx, account.id)
                assert who is not None
                assert (who.suspended, who.enrolled) == (bool(chosen), accounts.enrolled(tx, account.id))
                for device in chosen:
                    assert suspending.lift(tx, account, device)
                assert accounts.enrolled(tx, account.id) == before
                assert person_of(tx, account.id).suspended is False

    @given(st.text(max_size=90))
    def test_what_names_a_device_reads_back_or_is_nothing(self, text: str) -> None:
        found = parse(text)
        assert found is None or str(found) == text

    @given(
        st.one_of(
            st.builds(Ref, st.sampled_from([Kind.KEY, Kind.CARD]), st.integers(0, 2**31 - 1).map(str)),
            st.builds(Ref, st.just(Kind.ISSUER), st.from_regex(r"\A[0-9a-f]{64}\Z")),
        )
    )
    def test_every_device_has_a_name_that_reads_back(self, ref: Ref) -> None:
        assert parse(str(ref)) == ref

    def test_numbers_that_no_database_has(self) -> None:
        assert parse("key-2147483648") is None

    def test_of_a_session_from_before_nothing_is_believed(self, at: KeyBench) -> None:
        """It was opened by a server that did not note with what."""
        person = at.bench.person()
        token = by_card(at, person.card).json()["session"]["token"]
        by_code = at.session_by_code(person)
        at.bench.sql("UPDATE sessions SET shown = NULL")
        assert suspend(at, Kind.CARD, cards_of(at, person.username)[0]) == 2
        assert (alive(at, token), alive(at, by_code)) == (False, False)


def _of(ref: Ref, method: Method) -> bool:
    """Cards by an issuer's word are not enrolled."""
    return ref.kind is (Kind.KEY if method is Method.KEY else Kind.CARD)


class TestCommands:
    def test_suspend_and_lift(self, fresh: Bench):
        fresh.trust(map_nhs_uid=True)
        uid = next(UIDS)
        person = fresh.person(card=fresh.card(uid), nhs_uid=uid)
        cli = Cli(fresh.data)
        (card,) = json.loads(cli("card", "list", person.username, "--json"))
        assert card["suspended_at"] is None
        done = json.loads(cli("card", "suspend", str(card["id"]), "--json"))
        assert (done["username"], done["suspended"], done["changed"]) == (person.username, True, True)
        assert "suspended already" in cli("card", "suspend", str(card["id"]))
        (listed,) = json.loads(cli("card", "list", person.username, "--json"))
        assert listed["suspended_at"] is not None
        assert "in use from now on" in cli("card", "lift", str(card["id"]))
        assert "suspended from now on" in cli("card", "suspend-issuer", person.username, "bench")
        assert json.loads(cli("card", "lift-issuer", person.username, "bench", "--json"))["changed"]
        shown = json.loads(cli("user", "show", person.username, "--json"))
        assert (shown["methods"], shown["cards"][0]["suspended_at"]) == (["card", "totp"], None)
        assert [one["name"] for one in shown["issuers"]] == ["bench"]
        cli("card", "suspend", str(card["id"]))
        shown = json.loads(cli("user", "show", person.username, "--json"))
        assert (shown["methods"], bool(shown["cards"][0]["suspended_at"])) == (["totp"], True)
        assert re.search(rf"card {card['id']}: .*, suspended since 20", cli("user", "show", person.username))
        with pytest.raises(BadRequest, match="no key 99"):
            cli("key", "suspend", "99")


def test_marks_of_a_session(at: KeyBench) -> None:
    """What a session has to do with is kept exactly: one card of two taints its own."""
    uid = next(UIDS)
    person = at.bench.person(card=at.bench.card(uid), nhs_uid=uid)
    other = at.bench.card(uid)
    tokens = [by_card(at, card).json()["session"]["token"] for card in (person.card, other)]
    suspend(at, Kind.CARD, cards_of(at, person.username)[0])
    assert [alive(at, token) for token in tokens] == [False, True]
    with at.bench.office() as office, office.database.read() as tx:
        account = accounts.get(tx, person.username)
        (row,) = sessions.alive(tx, account.id, now())
        assert not suspensions.tainted(tx, account.id, row.shown)
        assert cards.is_enrolled(tx, Certificate.parse(person.card.der).fingerprint)
