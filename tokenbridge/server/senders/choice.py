"""The settings about messages as senders. Secrets are read here, from files that only the server may read."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tokenbridge.errors import SetupError
from tokenbridge.server.numbers import NumberRules
from tokenbridge.server.senders import http
from tokenbridge.server.senders.mail import Smtp
from tokenbridge.server.senders.notify import Notify, NotifyKey
from tokenbridge.server.senders.port import Channel, Sender, Senders
from tokenbridge.server.senders.twilio import Lines, Twilio
from tokenbridge.server.settings import Settings, is_loopback

MAX_SECRET: Final = 4096
LEAST_TOKEN: Final = 20
_SID: Final = re.compile(r"AC[0-9a-f]{32}")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_ADDRESS: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_REGION: Final = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """`notify` is the token that GOV.UK Notify shows, `twilio` by what Twilio signs; empty and None: they tell
    nothing."""

    notify: str = ""
    twilio: Lines | None = None

    def __repr__(self) -> str:
        return f"Reports({bool(self.notify)}, {self.twilio})"

    @property
    def any(self) -> bool:
        return bool(self.notify) or self.twilio is not None


def senders_of(settings: Settings, outbox: Sender) -> Senders:
    """Raises `SetupError` that names the setting."""
    if settings.outbox:
        return Senders({channel: outbox for channel in Channel})
    client, found = http.client(), dict[Channel, Sender]()
    match settings.sms_sender:
        case "":
            pass
        case "notify":
            found[Channel.SMS] = _notify(settings, client)
        case "twilio":
            found[Channel.SMS] = _twilio(settings, client)
        case other:
            raise SetupError(f"sms_sender can't be {other!r}.", next_step="It is one of: notify, twilio.")
    if settings.twilio_whatsapp_from:
        found[Channel.WHATSAPP] = _twilio(settings, client)
    if settings.twilio_voice_from:
        found[Channel.VOICE] = _twilio(settings, client)
    return Senders({**found, **mail_of(settings, outbox).by_channel})


def mail_of(settings: Settings, outbox: Sender) -> Senders:
    """Mail alone. Raises `SetupError` that names the setting."""
    if settings.outbox:
        return Senders({Channel.MAIL: outbox})
    return Senders({Channel.MAIL: _smtp(settings)} if settings.smtp_host else {})


def rules_of(settings: Settings) -> NumberRules:
    """Raises `SetupError` that names the setting."""
    regions, office = settings.phone_regions, settings.phone_office
    if not regions or not all(map(_REGION.fullmatch, regions)):
        raise SetupError("phone_regions holds countries as two capital letters, such as GB.")
    if not all(prefix.startswith("+") and prefix[1:].isdecimal() for prefix in office):
        raise SetupError("phone_office holds beginnings of numbers such as +441615550.")
    return NumberRules(regions=regions, office=office)


def _notify(settings: Settings, client: httpx.Client) -> Notify:
    if not settings.notify_template:
        raise SetupError("notify_template is not set.", next_step="Make a template with the text ((message)).")
    key = NotifyKey.parse(_secret(settings.notify_key_file, "notify_key_file"))
    return Notify(
        http=client,
        url=_url(settings.notify_url, "notify_url"),
        key=key,
        template=settings.notify_template,
        reports=settings.notify_callback_token_file is not None,
    )


def _twilio(settings: Settings, client: httpx.Client) -> Twilio:
    if not _SID.fullmatch(settings.twilio_account):
        raise SetupError("twilio_account is no account SID (AC and 32 hexadecimal digits).")
    for name in ("twilio_from", "twilio_whatsapp_from", "twilio_voice_from"):
        value = getattr(settings, name)
        if value and not _E164.fullmatch(value):
            raise SetupError(f"{name} is no number such as +447400123456.")
    return Twilio(
        http=client,
        url=_url(settings.twilio_url, "twilio_url"),
        account=settings.twilio_account,
        token=_token(settings),
        sender=settings.twilio_from,
        whatsapp_sender=settings.twilio_whatsapp_from,
        voice_sender=settings.twilio_voice_from,
        callback=_callback(settings),
        template=settings.twilio_whatsapp_template,
        reports=settings.twilio_reports,
    )


def lines_of(settings: Settings) -> Lines | None:
    """How Twilio tells what was pressed in a call; None where no calls are made by it. Raises `SetupError`."""
    if settings.outbox or not settings.twilio_voice_from:
        return None
    return Lines(callback=_callback(settings), token=_token(settings))


def reports_of(settings: Settings) -> Reports:
    """Who may tell what became of messages. Raises `SetupError`."""
    if settings.outbox:
        return Reports()
    used = settings.sms_sender == "twilio" or settings.twilio_whatsapp_from or settings.twilio_voice_from
    by_twilio = settings.twilio_reports and used
    return Reports(
        notify=_notify_token(settings) if settings.sms_sender == "notify" else "",
        twilio=Lines(callback=_callback(settings), token=_token(settings)) if by_twilio else None,
    )


def _notify_token(settings: Settings) -> str:
    if settings.notify_callback_token_file is None:
        return ""
    found = _secret(settings.notify_callback_token_file, "notify_callback_token_file")
    if len(found) < LEAST_TOKEN or not found.isascii() or not found.isprintable() or " " in found:
        raise SetupError(
            f"The token of notify_callback_token_file has {LEAST_TOKEN} characters at least, and no blanks.",
            next_step="Make one: openssl rand -hex 24",
        )
    return found


def _callback(settings: Settings) -> str:
    return _url(settings.twilio_callback or settings.site, "twilio_callback")


def _token(settings: Settings) -> str:
    return _secret(settings.twilio_token_file, "twilio_token_file")


def _smtp(settings: Settings) -> Smtp:
    if settings.smtp_plain and not is_loopback(settings.smtp_host):
        raise SetupError("smtp_plain is for a mail server on loopback only.")
    if not _ADDRESS.fullmatch(settings.mail_from):
        raise SetupError("mail_from is no address.")
    password = _secret(settings.smtp_password_file, "smtp_password_file") if settings.smtp_user else ""
    return Smtp(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.mail_from,
        user=settings.smtp_user,
        password=password,
        plain=settings.smtp_plain,
    )


def _url(value: str, setting: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise SetupError(f"{setting} has to begin with https://.")
    return value.rstrip("/")


def _secret(path: Path | None, setting: str) -> str:
    if path is None:
        raise SetupError(f"{setting} is not set.", next_step="Name the file that holds the secret.")
    try:
        with path.open(encoding="utf-8") as file:
            mode, text = stat.S_IMODE(path.stat().st_mode), file.read(MAX_SECRET).strip()
    except (OSError, ValueError) as err:
        raise SetupError(f"The file of {setting} can't be read: {path}.", detail=str(err)) from err
    if mode & 0o077:
        raise SetupError(f"The file {path} is open to others.", next_step=f"Run: chmod 600 {path}")
    if not text:
        raise SetupError(f"The file {path} is empty.")
    return text
