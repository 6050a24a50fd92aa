"""GOV.UK Notify and Twilio, against local servers that speak their published API, the damaged answers included."""

from __future__ import annotations

import base64
import email
import email.policy
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from aiosmtpd.controller import Controller

from tests.patience import SECONDS
from tokenbridge.errors import SendFailed, SendFault, SetupError
from tokenbridge.server.senders import choice
from tokenbridge.server.senders import http as sending
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.senders.port import Channel, Message, Senders
from tokenbridge.server.settings import Settings

SERVICE, SECRET = "26785a09-ab16-4eb0-8407-a37497a57506", "3d844edf-8d35-48ac-975b-e847b4f122b0"
ACCOUNT, TOKEN = f"AC{'0123456789abcdef' * 2}", "a-token-of-twilio"
SMS = Message(channel=Channel.SMS, to="+447400123456", text="123456 is your code", code="123456")
WHATSAPP = replace(SMS, channel=Channel.WHATSAPP)


@dataclass(kw_only=True)
class Service:
    """Answers with what `answers` holds, one after the other, and keeps what it was asked. It waits while `open` is not
    set."""

    url: str
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def will(self, status: int, body: Any) -> None:
        self.answers.append((status, body if isinstance(body, bytes) else json.dumps(body).encode()))


@contextmanager
def answering() -> Iterator[Service]:
    """A service on loopback that speaks as it is told."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            assert made.open.wait(SECONDS)
            status, data = made.answers.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Service(url=f"http://127.0.0.1:{server.server_port}")
    made.open.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.open.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with answering() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PAUSE", 0.0)


def secret(folder: Path, name: str, text: str, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def chosen(settings: Settings) -> Senders:
    outbox: Any = object.__new__(Outbox)
    return choice.senders_of(settings, outbox)


@pytest.fixture
def notify_settings(tmp_path: Path, service: Service) -> Settings:
    key = secret(tmp_path, "notify", f"my_key-{SERVICE}-{SECRET}\n")
    return Settings(
        data=tmp_path, sms_sender="notify", notify_url=service.url, notify_key_file=key, notify_template="t-1"
    )


@pytest.fixture
def twilio_settings(tmp_path: Path, service: Service) -> Settings:
    return Settings(
        data=tmp_path,
        sms_sender="twilio",
        twilio_url=service.url,
        twilio_account=ACCOUNT,
        twilio_token_file=secret(tmp_path, "twilio", TOKEN),
        twilio_from="+447700900000",
        twilio_whatsapp_from="+447700900001",
    )


@pytest.fixture
def notify(notify_settings: Settings) -> Senders:
    return chosen(notify_settings)


@pytest.fixture
def twilio(twilio_settings: Settings) -> Senders:
    return chosen(twilio_settings)


def fault_of(senders: Senders, message: Message = SMS) -> SendFault:
    with pytest.raises(SendFailed) as raised:
        senders.send(message)
    assert message.to not in raised.value.detail
    assert message.code not in raised.value.detail
    return raised.value.reason


class TestNotify:
    def test_sends_the_template_with_a_signed_token(self, notify: Senders, service: Service):
        service.will(201, {"id": "740e5834-3a29-46b4-9a6f-16142fde533a", "reference": None})
        notify.send(SMS)
        path, headers, body = service.asked[0]
        assert path == "/v2/notifications/sms"
        token = headers["authorization"].removeprefix("Bearer ")
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["iat", "iss"]})
        assert claims["iss"] == SERVICE
        assert json.loads(body) == {
            "phone_number": SMS.to,
            "template_id": "t-1",
            "personalisation": {"message": SMS.text},
        }

    @pytest.mark.parametrize(
        ("status", "error", "message", "fault"),
        [
            (400, "ValidationError", "phone_number Not enough digits", SendFault.RECIPIENT),
            (400, "BadRequestError", "Can't send to this recipient using a team-only API key", SendFault.REFUSED),
            (403, "AuthError", "Invalid token: API key not found", SendFault.REFUSED),
            (429, "RateLimitError", "Exceeded rate limit for key type LIVE", SendFault.LIMITED),
            (429, "TooManyRequestsError", "Exceeded send limits (50) for today", SendFault.LIMITED),
        ],
    )
    def test_errors_become_ours(
        self, notify: Senders, service: Service, status: int, error: str, message: str, fault: SendFault
    ):
        service.will(status, {"status_code": status, "errors": [{"error": error, "message": f"{message} {SMS.to}"}]})
        assert fault_of(notify) is fault
        assert len(service.asked) == 1, "asking again would not help"

    def test_an_outage_of_a_moment_is_got_over(self, notify: Senders, service: Service):
        service.will(500, {"status_code": 500, "errors": [{"error": "Exception", "message": "Internal server error"}]})
        service.will(503, b"<html>")
        service.will(201, {"id": "x"})
        notify.send(SMS)
        assert len(service.asked) == 3

    def test_an_outage_ends_after_three_tries(self, notify: Senders, service: Service):
        for _ in range(3):
            service.will(500, b"")
        assert fault_of(notify) is SendFault.UNREACHABLE

    @pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b'{"id": 5}', b"{" * 5000, b"x" * 100_000])
    def test_damaged_answers(self, notify: Senders, service: Service, body: bytes):
        service.will(201, body)
        assert fault_of(notify) is SendFault.DAMAGED

    def test_nobody_there(self, notify_settings: Settings):
        senders = chosen(replace(notify_settings, notify_url="http://127.0.0.1:9"))
        assert fault_of(senders) is SendFault.UNREACHABLE

    def test_a_slow_service_is_asked_once(
        self, notify_settings: Settings, service: Service, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sending, "TIMEOUT", httpx.Timeout(0.2))
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert fault_of(chosen(replace(notify_settings, notify_url=url))) is SendFault.UNREACHABLE


class TestTwilio:
    def test_sends_a_form_with_basic_authentication(self, twilio: Senders, service: Service):
        service.will(201, {"sid": "SM1", "status": "queued"})
        twilio.send(SMS)
        path, headers, body = service.asked[0]
        assert path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        assert base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode() == f"{ACCOUNT}:{TOKEN}"
        assert parse_qs(body.decode()) == {"To": [SMS.to], "From": ["+447700900000"], "Body": [SMS.text]}

    def test_whatsapp_by_template(self, twilio_settings: Settings, service: Service):
        service.will(201, {"sid": "SM1"})
        chosen(replace(twilio_settings, twilio_whatsapp_template="HX1")).send(WHATSAPP)
        assert parse_qs(service.asked[0][2].decode()) == {
            "To": [f"whatsapp:{SMS.to}"],
            "From": ["whatsapp:+447700900001"],
            "ContentSid": ["HX1"],
            "ContentVariables": ['{"1": "123456"}'],
        }

    @pytest.mark.parametrize(
        ("status", "code", "fault"),
        [
            (400, 21211, SendFault.RECIPIENT),
            (400, 63003, SendFault.RECIPIENT),
            (401, 20003, SendFault.REFUSED),
            (429, 20429, SendFault.LIMITED),
            (400, None, SendFault.REFUSED),
        ],
    )
    def test_errors_become_ours(
        self, twilio: Senders, service: Service, status: int, code: int | None, fault: SendFault
    ):
        service.will(status, {"code": code, "message": f"The 'To' number {SMS.to} is wrong", "status": status})
        assert fault_of(twilio, WHATSAPP) is fault

    @pytest.mark.parametrize("body", [b"", b"null", b'{"sid": null}'])
    def test_damaged_answers(self, twilio: Senders, service: Service, body: bytes):
        service.will(201, body)
        assert fault_of(twilio) is SendFault.DAMAGED

    def test_redirects_are_not_followed(self, twilio: Senders, service: Service):
        service.will(302, b"")
        assert fault_of(twilio) is SendFault.REFUSED


class Postman:
    """Takes letters, and refuses those to `nobody`."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.letters.append(envelope.content)
        return "250 OK"


class TestMail:
    LETTER = Message(channel=Channel.MAIL, to="ada@x.example", subject="Set up", text="It was you, \u00e9?")

    @pytest.fixture
    def postman(self) -> Iterator[tuple[Postman, int]]:
        made = Postman()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        controller = Controller(made, hostname="127.0.0.1", port=port)
        controller.start()
        yield made, port
        controller.stop()

    def settings(self, folder: Path, port: int, **changes: Any) -> Settings:
        values = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_plain": True, "mail_from": "it@x.example"}
        return Settings(data=folder, **{**values, **changes})

    def test_a_letter_arrives(self, tmp_path: Path, postman: tuple[Postman, int]):
        chosen(self.settings(tmp_path, postman[1])).send(self.LETTER)
        letter = email.message_from_bytes(postman[0].letters[0], policy=email.policy.default)
        assert (letter["From"], letter["To"], letter["Subject"]) == ("it@x.example", "ada@x.example", "Set up")
        assert letter.get_content().strip() == self.LETTER.text

    def test_an_address_that_is_refused(self, tmp_path: Path, postman: tuple[Postman, int]):
        senders = chosen(self.settings(tmp_path, postman[1]))
        assert fault_of(senders, replace(self.LETTER, to="nobody@x.example", code="x")) is SendFault.RECIPIENT

    def test_no_letter_without_tls(self, tmp_path: Path, postman: tuple[Postman, int]):
        senders = chosen(self.settings(tmp_path, postman[1], smtp_plain=False))
        assert fault_of(senders, replace(self.LETTER, code="-----")) is SendFault.UNREACHABLE
        assert postman[0].letters == []

    def test_a_header_can_not_be_slipped_in(self, tmp_path: Path, postman: tuple[Postman, int]):
        senders = chosen(self.settings(tmp_path, postman[1]))
        evil = replace(self.LETTER, to="ada@x.example\nBcc: eve@x.example", code="-----")
        assert fault_of(senders, evil) is SendFault.UNREACHABLE

    @pytest.mark.parametrize("changes", [{"smtp_host": "mail.example"}, {"mail_from": "nobody"}, {"smtp_user": "x"}])
    def test_wrong_settings(self, tmp_path: Path, changes: dict[str, Any]):
        with pytest.raises(SetupError, match=r"smtp|mail_from"):
            chosen(self.settings(tmp_path, 25, **changes))


class TestChoice:
    def test_nothing_is_sent_unless_it_is_set_up(self, tmp_path: Path):
        assert fault_of(chosen(Settings(data=tmp_path))) is SendFault.NOT_SET_UP

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sms_sender": "pigeon"}, "sms_sender"),
            ({"notify_template": ""}, "notify_template"),
            ({"notify_key_file": None}, "notify_key_file"),
            ({"notify_url": "http://notify.example"}, "https"),
            ({"sms_sender": "twilio"}, "twilio_account"),
        ],
    )
    def test_wrong_settings_are_named(self, notify_settings: Settings, changes: dict[str, Any], message: str):
        with pytest.raises(SetupError, match=message):
            chosen(replace(notify_settings, **changes))

    @pytest.mark.parametrize(
        ("text", "mode", "message"),
        [(SECRET, 0o600, "can't be right"), ("", 0o600, "empty"), (f"k-{SERVICE}-{SECRET}", 0o644, "open to others")],
    )
    def test_a_key_file_that_is_wrong(
        self, notify_settings: Settings, tmp_path: Path, text: str, mode: int, message: str
    ):
        with pytest.raises(SetupError, match=message):
            chosen(replace(notify_settings, notify_key_file=secret(tmp_path, "other", text, mode)))

    @pytest.mark.parametrize(
        "changes", [{"phone_regions": ()}, {"phone_regions": ("uk",)}, {"phone_office": ("0161",)}]
    )
    def test_wrong_rules_for_numbers(self, tmp_path: Path, changes: dict[str, Any]):
        with pytest.raises(SetupError, match="phone_"):
            choice.rules_of(Settings(data=tmp_path, **changes))

    def test_nothing_secret_is_shown(self, twilio: Senders, notify: Senders):
        assert TOKEN not in repr(twilio)
        assert SECRET not in repr(notify)
        assert SMS.to not in repr(SMS)
