"""Every change of what somebody signs in with is on record, and told to their address: who did it by their session
would otherwise be the only one to know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pyotp
import pytest

from tests.patience import until
from tests.server.conftest import PASSWORD, Bench, Databases, Person, now
from tests.server.key_bench import KeyBench, bearer, hardware_model
from tests.server.portal.conftest import SESSION, Portal, Visitor, portal_at
from tests.server.portal.test_admin import granted, number
from tests.server.portal.test_lost import by_card
from tests.server.portal.test_number_match import begin, confirm
from tests.server.portal.test_own_cards import shown
from tests.server.portal.test_suspend_pages import card_number, sent
from tests.server.soft_phone import SoftPhone
from tests.server.test_cli import Cli
from tests.software_key import Maker
from tokenbridge.rig.ports import free_port
from tokenbridge.server.store import accounts, audit
from tokenbridge.server.store.roles import Role


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[tuple[Portal, KeyBench]]:
    """A portal with an outbox, trusted cards and keys, and a program that takes app passwords."""
    data, maker = tmp_path_factory.mktemp("notices") / "data", Maker()
    with portal_at(data, database=databases.new(), outbox=True, messages_per_hour=1000) as portal:
        portal.bench.pki.write_crls(data, now=now())
        portal.bench.trust()
        Cli(data)("app-client", "add", "mail")
        keys = KeyBench(bench=portal.bench, server=portal.server, maker=maker, origin=portal.origin)
        keys.load(hardware_model(maker))
        yield portal, keys


@dataclass(kw_only=True)
class Home:
    """Somebody with a card, a key, an app and recovery codes, signed in by the card in a browser."""

    portal: Portal
    keys: KeyBench
    person: Person
    visitor: Visitor
    email: str

    @property
    def account(self) -> int:
        return number(self.portal, self.person.username)

    @property
    def token(self) -> str:
        return str(self.visitor.http.cookies[SESSION])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.visitor.http.request(method, path, json=body, headers=bearer(self.token))
        return self._good(answer).json() if answer.content else None

    def send(self, path: str, **given: str) -> httpx.Response:
        """A form of the pages."""
        return self._good(sent(self.visitor, path, given))

    def help(self, path: str, **given: str) -> None:
        """A form of the help desk's about this account, sent by an administrator."""
        helper = self.portal.visitor()
        with helper.http:
            helper.sign_in(granted(self.portal, Role.ADMINISTRATOR))
            helper.get("/profile")
            self._good(helper.post(f"/admin/accounts/{self.account}/{path}", given))

    def key(self) -> int:
        return int(self.call("GET", "/api/keys")["keys"][0]["id"])

    def add_key(self) -> None:
        begun = self.call("POST", "/api/keys/registration", {})
        assert (
            self.keys.finish(begun, self.keys.key().register(begun["options"], self.portal.origin)).status_code == 201
        )

    def phone(self) -> int:
        """A telephone number that is confirmed."""
        number = f"07400 {900_000 + next(self.portal.bench.counter)}"
        self.call("POST", "/api/methods/sms", {"number": number})
        texts = [one for one in self.sent() if one["to"].endswith(number[-6:])]
        self.call("POST", "/api/methods/sms/confirm", {"code": re.findall(r"\b\d{6}\b", texts[0]["text"])[0]})
        return int(self.call("GET", "/api/methods")["phones"][0]["id"])

    def phone_app(self) -> int:
        SoftPhone(http=self.portal.server.http, origin=self.portal.origin).enrolled(
            self.portal.bench, self.person.username
        )
        return int(self.call("GET", "/api/methods")["phone_apps"][0]["id"])

    def app_password(self) -> int:
        return int(self.call("POST", "/api/app-passwords", {"client": "mail", "name": "Outlook"})["id"])

    def sent(self) -> list[dict[str, Any]]:
        return list(self.portal.server.http.get("/api/outbox").json()["messages"])

    def told(self) -> list[str]:
        """What the owner is told by mail."""
        return [one["subject"].partition(": ")[2] for one in self.sent() if one["to"] == self.email]

    def events(self) -> list[str]:
        with self.portal.bench.office() as office, office.database.read() as tx:
            return [entry.event for entry in audit.entries(tx, account=self.person.username)]

    @staticmethod
    def _good(answer: httpx.Response) -> httpx.Response:
        assert answer.status_code < 400, answer.text
        return answer


@pytest.fixture
def home(at: tuple[Portal, KeyBench]) -> Iterator[Home]:
    portal, keys = at
    person, visitor = portal.bench.person(), portal.visitor()
    keys.register(person.username)
    email = f"{person.username}@hospital.example"
    with portal.bench.office() as office, office.database.write() as tx:
        accounts.change(accounts.get(tx, person.username), {"email": email})
    with visitor.http:
        by_card(portal, visitor, person)
        yield Home(portal=portal, keys=keys, person=person, visitor=visitor, email=email)


def _new_app(home: Home) -> None:
    secret = home.call("POST", "/api/methods/totp", {})["secret"]
    home.call("POST", "/api/methods/totp/confirm", {"code": pyotp.TOTP(secret).at(now())})


def _new_phone_app(home: Home) -> None:
    code = begin(home.visitor)
    shown_there = SoftPhone(http=home.portal.server.http, origin=home.portal.origin).enrol(code).json()["number"]
    confirm(home.visitor, code, shown_there)


def _new_card(home: Home) -> None:
    onward = shown(home.portal, home.visitor, home.portal.bench.card())
    home.visitor.get(onward)
    assert home.visitor.post(onward, {"name": "badge"}).status_code < 400


def _lift(home: Home) -> None:
    thing = f"key-{home.key()}"
    home.send(f"/self-service/suspend/{thing}")
    home.send(f"/self-service/lift/{thing}")


def _lift_by_help(home: Home) -> None:
    thing = f"devices/key-{home.key()}"
    home.help(f"{thing}/suspend")
    home.help(f"{thing}/lift")


def _enable_mfa(home: Home) -> None:
    with home.portal.bench.office() as office, office.database.write() as tx:
        accounts.get(tx, home.person.username).mfa_since = None
    home.send("/self-service/mfa")


def _rename(home: Home) -> None:
    """And something that is told: one worker sends in order, so that a notice of the name would be there before."""
    home.call("PATCH", f"/api/keys/{home.key()}", {"name": "Blue"})
    home.call("POST", "/api/recovery-codes")


def _first_key(home: Home) -> None:
    home.keys.register(home.person.username)


def _commanded(*words: str) -> Callable[[Home], object]:
    """A `tokenbridge server` command of an operator's; `{user}` and `{key}` stand for this account's."""

    def run(home: Home) -> None:
        values = {"user": home.person.username, "key": home.key()}
        Cli(home.portal.bench.data)(*(word.format_map(values) for word in words))

    return run


def _card_by_command(home: Home) -> None:
    card = home.portal.bench.card().der
    Cli(home.portal.bench.data)("card", "enrol", home.person.username, "--pem", "-", "--unchecked", stdin=card)


@dataclass(frozen=True)
class Change:
    """`event` is on record after it; `notices` are told: server and command may overtake each other."""

    act: Callable[[Home], object]
    event: str
    notices: tuple[str, ...]


KEY = "the security key “test key 5”"
CODE = "a one-time code to set up a security key or an app was made by your organisation"
SUSPENDED = f"suspended, so that it signs in nowhere: {KEY}"
LIFTED = f"signs in again, since the suspension is lifted: {KEY}"
CHANGES = {
    "key registered": Change(Home.add_key, "key-registered", ("a security key was set up",)),
    "key registered by code": Change(_first_key, "key-registered", ("a security key was set up", CODE)),
    "key renamed": Change(_rename, "key-renamed", ("a set of recovery codes was set up",)),
    "key removed": Change(
        lambda h: h.call("DELETE", f"/api/keys/{h.key()}"), "key-removed", ("a security key was removed",)
    ),
    "key suspended": Change(lambda h: h.send(f"/self-service/suspend/key-{h.key()}"), "key-suspended", (SUSPENDED,)),
    "key lifted": Change(_lift, "suspension-lifted", (LIFTED, SUSPENDED)),
    "card added": Change(_new_card, "card-added", ("a card was set up",)),
    "card removed": Change(
        lambda h: h.send(f"/self-service/cards/{card_number(h.portal, h.person.username)}/remove"),
        "card-withdrawn",
        ("a card was removed",),
    ),
    "app set up": Change(_new_app, "method-added", ("an authenticator app was set up",)),
    "app removed": Change(
        lambda h: h.call("DELETE", "/api/methods/totp"), "method-removed", ("an authenticator app was removed",)
    ),
    "number added": Change(Home.phone, "method-added", ("a phone number was set up",)),
    "number removed": Change(
        lambda h: h.call("DELETE", f"/api/phones/{h.phone()}"),
        "method-removed",
        ("a phone number was removed", "a phone number was set up"),
    ),
    "number called": Change(
        lambda h: h.call("PATCH", f"/api/phones/{h.phone()}", {"voice": False}),
        "method-changed",
        ("the use of a phone number for a voice call was switched off", "a phone number was set up"),
    ),
    "phone app set up": Change(_new_phone_app, "method-added", ("a phone app was set up",)),
    "phone app removed": Change(
        lambda h: h.call("DELETE", f"/api/phone-apps/{h.phone_app()}"), "method-removed", ("a phone app was removed",)
    ),
    "recovery codes": Change(
        lambda h: h.call("POST", "/api/recovery-codes"), "recovery-codes-made", ("a set of recovery codes was set up",)
    ),
    "app password made": Change(Home.app_password, "app-password-made", ("an app password was set up",)),
    "app password revoked": Change(
        lambda h: h.call("DELETE", f"/api/app-passwords/{h.app_password()}"),
        "app-password-revoked",
        ("an app password was removed", "an app password was set up"),
    ),
    "password changed": Change(
        lambda h: h.send("/self-service/password", current=PASSWORD, new="another good one", again="another good one"),
        "password-changed",
        ("your password was changed",),
    ),
    "default chosen": Change(
        lambda h: h.send("/self-service/default-method", method="totp"),
        "method-changed",
        ("what you are asked for first when you sign in was changed to: authenticator-app code",),
    ),
    "mfa enabled": Change(_enable_mfa, "mfa-enabled", ("multi-factor authentication was enabled",)),
    "lost": Change(
        lambda h: h.send("/self-service/lost/key", **{f"key-{h.key()}": "yes"}),
        "key-removed",
        (f"removed because it is lost: {KEY}",),
    ),
    "helped: reset": Change(
        lambda h: h.help("reset", **{"remove-app": "yes"}),
        "account-reset",
        ("what you sign in with was reset by your help desk",),
    ),
    "helped: code": Change(
        lambda h: h.help("code"),
        "enrolment-code-made",
        (CODE,),
    ),
    "helped: key removed": Change(
        lambda h: h.help(f"devices/key-{h.key()}/remove"), "key-removed", ("a security key was removed",)
    ),
    "helped: lifted": Change(_lift_by_help, "suspension-lifted", (LIFTED, SUSPENDED)),
    "commanded: password": Change(
        lambda h: Cli(h.portal.bench.data)("user", "passwd", h.person.username, password="another good one"),
        "password-set",
        ("your password was changed",),
    ),
    "commanded: app": Change(
        _commanded("user", "totp", "{user}"), "method-added", ("an authenticator app was set up",)
    ),
    "commanded: code": Change(
        _commanded("user", "enrolment-code", "{user}"),
        "enrolment-code-made",
        (CODE,),
    ),
    "commanded: recovery codes": Change(
        _commanded("user", "recovery-codes", "{user}"), "recovery-codes-made", ("a set of recovery codes was set up",)
    ),
    "commanded: card enrolled": Change(_card_by_command, "card-enrolled", ("a card was set up",)),
    "commanded: card removed": Change(
        lambda h: Cli(h.portal.bench.data)("card", "remove", str(card_number(h.portal, h.person.username))),
        "card-removed",
        ("a card was removed",),
    ),
    "commanded: key removed": Change(
        _commanded("key", "remove", "{key}"), "key-removed", ("a security key was removed",)
    ),
    "commanded: key suspended": Change(_commanded("key", "suspend", "{key}"), "key-suspended", (SUSPENDED,)),
    "commanded: number removed": Change(
        lambda h: Cli(h.portal.bench.data)("phone", "remove", h.person.username, str(h.phone())),
        "phone-removed",
        ("a phone number was removed", "a phone number was set up"),
    ),
    "commanded: phone app removed": Change(
        lambda h: Cli(h.portal.bench.data)("phone", "remove-app", h.person.username, str(h.phone_app())),
        "phone-app-removed",
        ("a phone app was removed",),
    ),
    "commanded: app password revoked": Change(
        lambda h: Cli(h.portal.bench.data)("app-password", "revoke", h.person.username, str(h.app_password())),
        "app-password-revoked",
        ("an app password was removed", "an app password was set up"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_on_record_and_told(home: Home, name: str) -> None:
    change, before = CHANGES[name], len(home.events())
    change.act(home)
    assert change.event in home.events()[before:]
    until(lambda: len(home.told()) >= len(change.notices), "the notices")
    assert sorted(home.told()) == sorted(change.notices)


@pytest.mark.parametrize("away", ["smtp_plain = true", 'mail_from = "nobody"'], ids=["away", "not set up well"])
def test_a_mail_server_that_fails_stops_no_command(fresh: Bench, away: str, caplog: pytest.LogCaptureFixture) -> None:
    with (fresh.data / "server.toml").open("a") as file:
        given = "" if "mail_from" in away else 'mail_from = "it@hospital.example"\n'
        file.write(f'smtp_host = "127.0.0.1"\nsmtp_port = {free_port()}\n{given}{away}\n')
    person = fresh.person(email="ada@hospital.example")
    assert "-" in Cli(fresh.data)("user", "recovery-codes", person.username)
    assert "a notice was not sent" in caplog.text
