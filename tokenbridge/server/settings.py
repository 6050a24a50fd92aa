"""What the server can be told, with its defaults and the paths that follow from them. It opens nothing."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from tokenbridge import config
from tokenbridge.errors import SetupError

PREFIX = "TOKENBRIDGE_SERVER"
FILE_NAME = "server.toml"
DEFAULT_PORTS: Final = {"https": 443, "http": 80}
MOST_WORKERS: Final = 64
MOST_CONNECTIONS: Final = 100
MOST_MESSAGES: Final = 1_000_000
DOOR_PORTS: Final = range(1024, 65536)


def default_data(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_DATA_HOME/tokenbridge/server`."""
    return config.xdg("XDG_DATA_HOME", ".local/share", environ) / "tokenbridge" / "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one server. Lifetimes are seconds.

    `data` holds the database, the key file and the TLS files. `origin` is what cards sign: scheme, host and port as
    people's browsers see them; empty for this machine's own. `policy` is the policy file (default: `policy.toml` in
    `data`); it also says how long sessions live. `countries` and `risk_*` are for noticing what is unusual. `outbox`,
    `sms_sender`, `notify_*`, `twilio_*`, `smtp_*`, `mail_from` and `phone_*` are about messages: see `senders.choice`.
    `messages_*` bound what goes out in an hour: see `message_limits`.
    `push_services` and `push_contact` are about pushes to phone apps: see `push_keys`.
    Each of the `workers` has its `database_connections`. From `trusted_proxies`, addresses or networks, X-Forwarded-For
    is believed: see `client_address`. `rp_id` and `key_*` are about security keys; `key_rules` reads them.
    `bridge_door` is the loopback port at which the card page looks for the bridge of its workstation; 0: it does not.
    """

    data: Path = field(default_factory=default_data)
    name: str = "tokenbridge server"
    origin: str = ""
    host: str = "127.0.0.1"
    port: int = 8443
    database: str = ""
    database_connections: int = 10
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()
    plain_http: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    bridge_door: int = 0
    sign_in_seconds: int = 300
    step_up_seconds: int = 600
    password_reset: bool = True
    policy: Path | None = None
    countries: Path | None = None
    risk_travel_minutes: int = 180
    risk_failures: int = 10
    outbox: bool = False
    sms_sender: str = ""
    notify_url: str = "https://api.notifications.service.gov.uk"
    notify_key_file: Path | None = None
    notify_template: str = ""
    notify_callback_token_file: Path | None = None
    twilio_url: str = "https://api.twilio.com"
    twilio_account: str = ""
    twilio_token_file: Path | None = None
    twilio_from: str = ""
    twilio_whatsapp_from: str = ""
    twilio_whatsapp_template: str = ""
    twilio_voice_from: str = ""
    twilio_callback: str = ""
    twilio_reports: bool = False
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_plain: bool = False
    smtp_user: str = ""
    smtp_password_file: Path | None = None
    mail_from: str = ""
    phone_regions: tuple[str, ...] = ("GB",)
    phone_office: tuple[str, ...] = ()
    messages_per_account: int = 10
    messages_per_number: int = 10
    messages_per_hour: int = 3000
    push_services: tuple[str, ...] = (
        "fcm.googleapis.com",
        "updates.push.services.mozilla.com",
        "web.push.apple.com",
        "*.notify.windows.com",
    )
    push_contact: str = ""
    rp_id: str = ""
    key_user_verification: str = "preferred"
    key_resident: str = "preferred"
    key_attested: bool = False
    key_allowed: tuple[str, ...] = ()
    key_refused: tuple[str, ...] = ()
    key_minimum_level: str = ""
    key_stale_metadata: str = "doubt"
    key_roots: tuple[Path, ...] = ()

    @property
    def site(self) -> str:
        """The origin in effect: the one that is set, or this machine's."""
        usual = DEFAULT_PORTS[self.scheme]
        return self.origin or f"{self.scheme}://localhost" + (f":{self.port}" if self.port != usual else "")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'server.db'}"

    @property
    def key_file(self) -> Path:
        return self.data / "keys.json"

    @property
    def policy_file(self) -> Path:
        return self.policy or self.data / "policy.toml"

    @property
    def tls_dir(self) -> Path:
        return self.data / "tls"

    @property
    def scheme(self) -> str:
        return "http" if self.plain_http else "https"


def load(data: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings of the data directory `data` (default: the variable, then XDG). Raises `SetupError`."""
    found = config.load(Settings, _file(data, environ), prefix=PREFIX, environ=environ)
    settings = found if data is None else dataclasses.replace(found, data=data)
    check(settings)
    return settings


def _file(data: Path | None, environ: Mapping[str, str] | None) -> Path:
    base = data or config.load(_Place, None, prefix=PREFIX, environ=environ).data
    return base / FILE_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    data: Path = field(default_factory=default_data)


def check(settings: Settings) -> None:
    """Refuse settings that can't be right or are not safe. Raises `SetupError`."""
    parts = urlsplit(settings.site)
    if not _is_origin(parts, settings):
        raise SetupError(
            f"{settings.site!r} is not an origin that this server can have",
            next_step=f"Write {settings.scheme}://host or {settings.scheme}://host:port in lower case, without path, "
            "final slash or the usual port, as browsers do.",
        )
    if len(settings.site) > 255:
        raise SetupError("The origin is longer than 255 characters, which no Web eID client signs.")
    if settings.plain_http and not (is_loopback(settings.host) and is_loopback(parts.hostname or "")):
        raise SetupError(
            "Plain HTTP is allowed on loopback only.",
            next_step="Set host to 127.0.0.1, or remove plain_http and use TLS.",
        )
    # Behind a proxy a server on loopback has the world as its clients: its own address tells.
    if settings.outbox and not (is_loopback(settings.host) and is_loopback(parts.hostname or "")):
        raise SetupError(
            "The development outbox shows codes to everybody: it is for a server on loopback only.",
            next_step="Set host to 127.0.0.1 and origin to localhost, or remove outbox.",
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SetupError("tls_cert and tls_key belong together; only one of them is set.")
    if min(settings.sign_in_seconds, settings.step_up_seconds) < 1:
        raise SetupError("Lifetimes are at least one second.")
    if min(settings.risk_travel_minutes, settings.risk_failures) < 1:
        raise SetupError("risk_travel_minutes and risk_failures are at least 1.")
    if settings.bridge_door and settings.bridge_door not in DOOR_PORTS:
        raise SetupError(
            f"bridge_door is 0 or a port from {DOOR_PORTS[0]} to {DOOR_PORTS[-1]}, as on the workstations."
        )
    _check_scale(settings)


def _check_scale(settings: Settings) -> None:
    messages = ("messages_per_account", "messages_per_number", "messages_per_hour")
    scale = (("workers", MOST_WORKERS), ("database_connections", MOST_CONNECTIONS))
    for name, most in (*scale, *((name, MOST_MESSAGES) for name in messages)):
        if not 1 <= getattr(settings, name) <= most:
            raise SetupError(f"{name} is a number from 1 to {most}.")
    for proxy in settings.trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as err:
            raise SetupError(
                f"trusted_proxies: {proxy!r} is neither an address nor a network.",
                next_step="Write such as 10.0.0.7, 10.0.0.0/24 or 2001:db8::/64, without bits behind the prefix.",
            ) from err


def _is_origin(parts: SplitResult, settings: Settings) -> bool:
    """Whether the site is written as browsers serialize an origin (RFC 6454 section 6.2)."""
    try:
        port = parts.port
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    written = f"{settings.scheme}://{host}" + (f":{port}" if port is not None else "")
    return bool(host) and settings.site == written and port != DEFAULT_PORTS[settings.scheme]


def changed(settings: Settings, **changes: object) -> Settings:
    """The same settings with those `changes` that are not None, checked. Raises `SetupError`."""
    wanted: Settings = dataclasses.replace(settings, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]  # names and types are the caller's options
    check(wanted)
    return wanted


def is_loopback(host: str) -> bool:
    """True for `localhost` and loopback addresses; names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def write(settings: Settings) -> Path:
    """Write the settings that differ from the defaults to the data directory's file; returns its path."""
    defaults = Settings(data=settings.data)
    lines = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name != "data" and value != getattr(defaults, item.name):
            lines.append(f"{item.name} = {_toml(value)}")
    path = settings.data / FILE_NAME
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return '"' + "".join(_toml_char(c) for c in str(value)) + '"'


def _toml_char(char: str) -> str:
    # TOML 1.0, basic strings: quotation mark, backslash and control characters are escaped.
    if char in '"\\':
        return "\\" + char
    return f"\\u{ord(char):04X}" if ord(char) < 0x20 or ord(char) == 0x7F else char
