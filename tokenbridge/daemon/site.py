"""The relying party as the bridge sees it: its sign-in API over HTTPS. What it answers is untrusted and bounded.

The origin that will be signed comes from the address that was asked for, never from what the site says of itself.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import stat
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from tokenbridge.errors import BadRequest, OriginRefused, RelyingPartyUnavailable, RemoteError, SetupError
from tokenbridge.interaction import Secret

MAX_ANSWER: Final = 256 << 10
MAX_ISSUERS: Final = 256
MAX_TEXT: Final = 200
MAX_MESSAGE: Final = 1000
MAX_CLIENTS: Final = 8
CALL_SECONDS: Final = 30.0
"""For one call altogether: httpx's own limit is for each part of an answer, however many parts a site makes of it."""

_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A sign-in transaction that the site opened."""

    transaction: str
    name: str
    origin: str
    nonce: str
    expires_at: datetime
    issuers: tuple[bytes, ...]
    algorithms: tuple[str, ...]
    takes_card: bool
    key_options: Mapping[str, Any] | None = None
    """`PublicKeyCredentialRequestOptionsJSON`, unchecked; None: the site takes no keys."""

    @property
    def takes_key(self) -> bool:
        return self.key_options is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the site decided; `data` is the whole answer as the API contract names it."""

    decision: str
    methods: tuple[str, ...]
    data: Mapping[str, Any]
    key_options: Mapping[str, Any] | None = None
    """As in `Offer`: for a key as the further proof that a challenge asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A code that the site has sent, or a question to a telephone: then `number` is to be typed there. `sent_to` is
    masked. `watched`: the site may come to know that the message is `lost`."""

    method: str
    sent_to: str
    number: str = ""
    watched: bool = False
    lost: bool = False


def origin_of(url: str) -> str:
    """scheme://host[:port] of `url` as browsers write it. Raises `BadRequest`; plain HTTP only for loopback."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except ValueError as err:
        raise BadRequest(f"{url!r} is not an address.", next_step="Give it as https://host[:port].") from err
    if parts.scheme not in ("https", "http") or not _is_host(host) or parts.username is not None:
        raise BadRequest(f"{url!r} is not an address.", next_step="Give it as https://host[:port].")
    if parts.scheme == "http" and not _is_loopback(host):
        raise BadRequest("Signing in over plain HTTP is refused.", next_step="Use https://.")
    shown = f"[{host}]" if ":" in host else host
    standard = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, standard) else "")


def _is_host(host: str) -> bool:
    """A name, or an address without zone: nothing that one program reads so and another one otherwise."""
    return bool(_HOST.fullmatch(host)) or ("%" not in host and _address(host) is not None)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


class Sites:
    """Keeps one connection pool per set of trusted authorities, so that a sign-in does not pay for a new one."""

    def __init__(self, seconds: float, ca_file: Path | None) -> None:
        self._seconds = seconds
        self._ca_file = ca_file
        self._clients: dict[tuple[str, int, int], httpx.AsyncClient] = {}

    def client(self, ca_file: Path | None) -> httpx.AsyncClient:
        """Raises `SetupError` when `ca_file` can't be used."""
        path = ca_file or self._ca_file
        try:
            key = _identity(path) if path is not None else ("", 0, 0)
            if key not in self._clients:
                self._clients[key] = self._new(path)
        except (OSError, ValueError, ssl.SSLError) as err:
            raise SetupError(f"The authority file {str(path)!r} can't be used: {err}") from err
        found = self._clients[key]
        while len(self._clients) > MAX_CLIENTS:
            # Not closed: a sign-in may be using it, and idle connections end by themselves.
            del self._clients[next(iter(self._clients))]
        return found

    def _new(self, path: Path | None) -> httpx.AsyncClient:
        context = ssl.create_default_context()
        if path is not None:
            context.load_verify_locations(path)
        return httpx.AsyncClient(
            verify=context,
            timeout=self._seconds,
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            # Sign-ins of different people share this client: nothing of one may be sent with the next.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def _identity(path: Path) -> tuple[str, int, int]:
    """Changes with the file. Raises `OSError` for what is no file: a pipe would be waited for."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a file")
    return str(path), found.st_ino, found.st_mtime_ns


class Site:
    """One site."""

    def __init__(self, client: httpx.AsyncClient, origin: str, device: str = "") -> None:
        """`device`: by what this site knows the workstation again; empty: not at all."""
        self._client = client
        self._device = device
        self.origin = origin

    async def open(self, username: str = "") -> Offer:
        """Begin a transaction. Raises `RelyingPartyUnavailable`, `OriginRefused`, `RemoteError`.

        `username` when the site must name the credentials of that account to the key.
        """
        named = {name: value for name, value in (("username", username), ("device", self._device)) if value}
        answer = await self.call("POST", "/api/sign-in", {"client": "tokenbridge", **named})
        offer = offer_of(answer)
        if offer.origin != self.origin:
            raise OriginRefused(detail=f"asked {self.origin}, it says {offer.origin[:MAX_TEXT]!r}")
        return offer

    async def send_card(self, transaction: str, token: Mapping[str, str]) -> Verdict:
        return verdict_of(await self.call("POST", f"/api/sign-in/{transaction}/card", {"token": dict(token)}))

    async def send_key(self, transaction: str, credential: Mapping[str, Any]) -> Verdict:
        path = f"/api/sign-in/{transaction}/key"
        return verdict_of(await self.call("POST", path, {"credential": dict(credential)}))

    async def send_password(self, transaction: str, username: str, password: Secret) -> Verdict:
        body = {"username": username, "password": text_of(password)}
        return verdict_of(await self.call("POST", f"/api/sign-in/{transaction}/password", body))

    async def start_method(self, transaction: str, method: str) -> Message:
        """Have the site send a message. It may be of another kind than was asked for."""
        answer = await self.call("POST", f"/api/sign-in/{transaction}/start", {"method": method})
        return _message_of(answer)

    async def message(self, transaction: str) -> Message:
        """What has become of the message; it may be another one by now, sent in place of one that was lost."""
        return _message_of(await self.call("GET", f"/api/sign-in/{transaction}/message", None))

    async def is_answered(self, transaction: str) -> bool:
        """Whether the telephone has answered, or can't any more."""
        answer = await self.call("GET", f"/api/sign-in/{transaction}/approval", None)
        return not isinstance(answer, dict) or answer.get("answered") is not False

    async def send_approval(self, transaction: str) -> Verdict:
        """Go on with what the telephone has answered."""
        return verdict_of(await self.call("POST", f"/api/sign-in/{transaction}/approval", None))

    async def send_code(self, transaction: str, method: str, code: Secret) -> Verdict:
        body = {"method": method, "code": text_of(code)}
        return verdict_of(await self.call("POST", f"/api/sign-in/{transaction}/code", body))

    async def cancel(self, transaction: str) -> None:
        await self.call("DELETE", f"/api/sign-in/{transaction}", None)

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, session: Secret | None = None
    ) -> Any:
        """The site's JSON answer. Raises `RemoteError` for its own errors, `RelyingPartyUnavailable`."""
        headers = {"Authorization": f"Bearer {text_of(session)}"} if session is not None else {}
        try:
            async with (
                asyncio.timeout(CALL_SECONDS),
                self._client.stream(method, self.origin + path, json=body, headers=headers) as response,
            ):
                content = await _read(response)
        except TimeoutError as err:
            raise RelyingPartyUnavailable(f"{self.origin} did not finish its answer in time.") from err
        except (httpx.HTTPError, httpx.InvalidURL) as err:
            raise _unavailable(self.origin, err) from err
        try:
            data = response.json() if content else {}
        except (ValueError, RecursionError) as err:
            raise RelyingPartyUnavailable(
                f"{self.origin} does not speak tokenbridge's sign-in protocol.", detail=f"HTTP {response.status_code}"
            ) from err
        if response.is_success:
            return data
        if isinstance(data, dict) and isinstance(data.get("error"), dict):
            raise RemoteError(_bounded(data["error"]))
        raise RelyingPartyUnavailable(
            f"{self.origin} does not speak tokenbridge's sign-in protocol.", detail=f"HTTP {response.status_code}"
        )


def _bounded(error: Mapping[str, Any]) -> dict[str, Any]:
    """What an error may be made of: single values, texts of a length that is read."""
    texts = {key: value[:MAX_MESSAGE] for key, value in error.items() if isinstance(value, str)}
    return {**{key: value for key, value in error.items() if isinstance(value, int | float)}, **texts}


async def _read(response: httpx.Response) -> bytes:
    """The body, into `response`, refused when it is too large; compressed ones are not asked for and not inflated."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # One small part of it may inflate to anything before its size is seen.
        raise RelyingPartyUnavailable("The site's answer is compressed although that was not asked for.")
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise RelyingPartyUnavailable("The site's answer is too large.")
    response._content = bytes(content)
    return response._content


def _unavailable(origin: str, err: httpx.HTTPError | httpx.InvalidURL) -> RelyingPartyUnavailable:
    text = str(err)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return RelyingPartyUnavailable(
            f"The certificate of {origin} is not trusted. Nothing was sent.",
            next_step="If it is your organisation's own authority, give it with --ca FILE or set ca_file.",
            detail=text,
        )
    return RelyingPartyUnavailable(f"{origin} does not answer.", detail=f"{type(err).__name__}: {text}")


def text_of(secret: Secret) -> str:
    """A secret as JSON wants it: for the one request that carries it."""
    return secret.reveal().decode("utf-8", "replace")


def offer_of(data: Any) -> Offer:
    """A transaction as a site tells it. Raises `RelyingPartyUnavailable`."""
    try:
        accepts = {str(item["method"]): item for item in data["accepts"]}
        card = accepts.get("card", {})
        issuers = tuple(b64decode(text, validate=True) for text in card.get("issuers", [])[:MAX_ISSUERS])
        return Offer(
            transaction=path_part(data["transaction"]),
            name=str(data["rp"]["name"])[:MAX_TEXT],
            origin=str(data["rp"]["origin"]),
            nonce=str(data["nonce"]),
            expires_at=datetime.fromisoformat(data["expires_at"]).astimezone(UTC),
            issuers=issuers,
            algorithms=tuple(map(str, card.get("algorithms", []))),
            takes_card=bool(card),
            key_options=_options(accepts.get("key", {}).get("options")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as err:
        raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=repr(err)) from err


def _message_of(answer: Any) -> Message:
    """Raises `RelyingPartyUnavailable`."""
    try:
        texts = {name: str(answer[name])[:MAX_TEXT] for name in ("method", "sent_to")}
        return Message(
            **texts,
            number=str(answer.get("number", ""))[:MAX_TEXT],
            watched=answer.get("watched") is True,
            lost=answer.get("undelivered") is True,
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=repr(err)) from err


def _options(data: Any) -> Mapping[str, Any] | None:
    """A key's options as they came: `fido.request` checks them before a key sees any of it."""
    return data if isinstance(data, dict) else None


def path_part(text: Any) -> str:
    """`text` if it may stand in a path: what a site hands out leads nowhere else. Raises `ValueError`."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT or not all(c.isalnum() or c in "-_" for c in text):
        raise ValueError("identifier")
    return text


def verdict_of(data: Any) -> Verdict:
    """What a site decided. Raises `RelyingPartyUnavailable`."""
    try:
        methods = tuple(map(str, data.get("methods") or ()))
        options = _options(data.get("key_options"))
        return Verdict(decision=str(data["decision"]), methods=methods, data=data, key_options=options)
    except (KeyError, TypeError, AttributeError) as err:
        raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=repr(err)) from err
