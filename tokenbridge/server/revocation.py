"""Fetches CRLs and OCSP answers over HTTP and remembers them. It judges none of them: what is wrong is rp's to see."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import httpx
from asn1crypto import crl, ocsp

from tokenbridge import log
from tokenbridge.rp.certs import RevocationData
from tokenbridge.server.trust import unarmored

DEADLINE_SECONDS: Final = 5.0
MAX_CRL_BYTES: Final = 10 << 20
MAX_OCSP_BYTES: Final = 64 << 10
MAX_ENTRIES: Final = 256
MAX_REDIRECTS: Final = 2
KEEP_AT_MOST: Final = dt.timedelta(hours=1)
"""What claims to be fresh for longer is asked for again anyway: it is not verified yet when it is remembered."""

_log = log.get("server.revocation")


@dataclass(frozen=True, slots=True)
class Source:
    """Where to ask. `request` is the DER of an OCSP request, or None for a CRL."""

    url: str
    request: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    data: bytes
    until: dt.datetime


class RevocationFetcher:
    """One per process. A source that does not answer in time yields nothing, and is asked again next time."""

    def __init__(self, client: httpx.AsyncClient, clock: Callable[[], dt.datetime]) -> None:
        self._client = client
        self._clock = clock
        self._kept: dict[Source, _Kept] = {}
        self._running: dict[Source, asyncio.Task[bytes | None]] = {}

    async def fetch(self, sources: Iterable[Source]) -> RevocationData:
        """Everything that the sources say, within `DEADLINE_SECONDS` in total."""
        wanted = tuple(dict.fromkeys(sources))
        answers = await asyncio.gather(*(self._one(source) for source in wanted))
        pairs = [(source, data) for source, data in zip(wanted, answers, strict=True) if data is not None]
        return RevocationData(
            crls=tuple(data for source, data in pairs if source.request is None),
            ocsps=tuple(data for source, data in pairs if source.request is not None),
        )

    def forget(self, sources: Iterable[Source]) -> None:
        """Drop what is remembered of `sources`, because it turned out to be of no use."""
        for source in sources:
            self._kept.pop(source, None)

    async def close(self) -> None:
        for task in tuple(self._running.values()):
            task.cancel()
        await self._client.aclose()

    def _one(self, source: Source) -> Awaitable[bytes | None]:
        kept = self._kept.get(source)
        if kept is not None and self._clock() < kept.until:
            return _ready(kept.data)
        task = self._running.get(source)
        if task is None:
            task = asyncio.create_task(self._ask(source))
            self._running[source] = task
            task.add_done_callback(lambda _: self._running.pop(source, None))
        # One client that goes away must not end the fetch that others wait for.
        return asyncio.shield(task)

    async def _ask(self, source: Source) -> bytes | None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                data = await self._download(source)
            until = min(_next_update(source, data), self._clock() + KEEP_AT_MOST)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, TypeError, LookupError) as err:
            _log.warning("%s gave no revocation data: %s", source.url, err or type(err).__name__)
            return None
        if until > self._clock():
            self._remember(source, _Kept(data=data, until=until))
        return data

    async def _download(self, source: Source) -> bytes:
        limit = MAX_CRL_BYTES if source.request is None else MAX_OCSP_BYTES
        body, headers = source.request, {"Accept-Encoding": "identity"}
        if body is not None:
            # RFC 6960 appendix A.1
            headers |= {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
        method = "GET" if body is None else "POST"
        data = bytearray()
        response = await self._followed(self._client.build_request(method, source.url, content=body, headers=headers))
        async with aclosing(response):
            response.raise_for_status()
            if response.headers.get("Content-Encoding", "identity") != "identity":
                # One small part of it may inflate to anything before its size is seen.
                raise ValueError("compressed although that was not asked for")
            async for part in response.aiter_bytes():
                data += part
                if len(data) > limit:
                    raise ValueError(f"more than {limit} bytes")
        return unarmored(bytes(data))

    async def _followed(self, request: httpx.Request) -> httpx.Response:
        """The answer, redirects on the same host included. ValueError for one that leads elsewhere.

        Most of these addresses are plain HTTP: who can alter an answer must not choose what this server asks for.
        """
        for _ in range(1 + MAX_REDIRECTS):
            response = await self._client.send(request, stream=True)
            following = response.next_request
            if following is None:
                return response
            await response.aclose()
            if not _same_place(request.url, following.url):
                raise ValueError(f"it redirects to another place, {following.url}; configure that if it is right")
            request = following
        raise ValueError("it redirects again and again")

    def _remember(self, source: Source, kept: _Kept) -> None:
        if len(self._kept) >= MAX_ENTRIES:
            self._kept.pop(min(self._kept, key=lambda known: self._kept[known].until))
        self._kept[source] = kept


def client() -> httpx.AsyncClient:
    """The HTTP client for revocation data: no proxy or netrc of the environment, no redirects, short time."""
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=DEADLINE_SECONDS,
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
    )


def _same_place(before: httpx.URL, after: httpx.URL) -> bool:
    """The same host at the same port, or a change from plain HTTP to TLS at the usual ones."""
    upgraded = (before.scheme, after.scheme, before.port, after.port) == ("http", "https", None, None)
    same = (before.scheme, before.port) == (after.scheme, after.port)
    return before.host == after.host and (same or upgraded)


async def _ready(data: bytes) -> bytes:
    return data


def _next_update(source: Source, data: bytes) -> dt.datetime:
    """When the data says that there will be newer; now-or-never data counts as old. ValueError when it is no data."""
    if source.request is None:
        found = crl.CertificateList.load(data, strict=True)["tbs_cert_list"]["next_update"].native
    else:
        answer = ocsp.OCSPResponse.load(data, strict=True)
        if answer["response_status"].native != "successful":
            raise ValueError(f"the responder says {answer['response_status'].native}")
        single = answer.basic_ocsp_response["tbs_response_data"]["responses"][0]
        found = single["next_update"].native
    return found if isinstance(found, dt.datetime) else dt.datetime.min.replace(tzinfo=dt.UTC)
