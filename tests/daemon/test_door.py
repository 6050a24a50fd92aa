"""The loopback door at a real port: who gets in, what is asked for, what a page hears, how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import Bench
from tests.patience import until_async
from tokenbridge.daemon import devices, door, door_listener
from tokenbridge.daemon.door import MAX_BODY, Door
from tokenbridge.daemon.door_listener import DoorListener
from tokenbridge.daemon.settings import Settings
from tokenbridge.daemon.streams import Streams
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port
from tokenbridge.transport.base import EventKind

from .conftest import ORIGIN, OTHER_READER, READER, run
from .test_hand_over import LINK, ONWARD, Page
from .test_prompts import Pinentry
from .workstation import Workstation, cards_of, link_to_newest

OTHER = "https://other.example"
BODY = json.dumps({"link": LINK})
YES: dict[str, Any] = {"GETPIN": ["D 123456", "OK"]}
THINKS: dict[str, Any] = {"CONFIRM": ["wait"]}


class House:
    """A bridge's door, open; the person answers in a pinentry, by script."""

    def __init__(self, folder: Path, *, seconds: float = 4, **answers: Any) -> None:
        self.pinentry = Pinentry(folder, **(answers or YES))
        self.port = free_port()
        self.page = Page()
        chosen = Settings(
            busy_seconds=5, card_seconds=5, pinentry=str(self.pinentry.path), door_origins=(ORIGIN, OTHER),
            door_port=self.port, prompt_seconds=seconds,
        )  # fmt: skip
        self.station = Workstation(chosen)
        self.streams = Streams()
        app = Door(bridge=self.station.bridge, sites=self.page, streams=self.streams, settings=chosen)  # type: ignore[arg-type]
        self.listener = DoorListener(app, self.port)

    async def insert(self, cards: Bench, *readers: str) -> None:
        async with self.station.devices.events() as events:
            for reader in readers or (READER,):
                self.station.happens(EventKind.READER_ADDED, reader)
                self.station.insert(cards.card(), reader)
                while (await events.get()).kind is not EventKind.CARD_INSERTED:
                    pass

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, raw: bytes) -> bytes:
        """What comes back until the door closes the connection."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def request(self, method: str = "POST", path: str = "/hand-over", body: str = BODY, **changes: str | None) -> bytes:
        headers: dict[str, str | None] = {
            "host": f"127.0.0.1:{self.port}",
            "origin": ORIGIN,
            "content-type": "application/json",
            "content-length": str(len(body.encode())),
        }
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items() if v is not None)]
        return "\r\n".join([*lines, "", body]).encode()

    async def post(self, **changes: str | None) -> tuple[int, dict[str, str], Any]:
        return parsed(await self.ask(self.request(**changes)))


def parsed(raw: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers, and the one JSON value of the body (or of its last line), if there is one."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(body.split(b"\r\n")[1::2])
    return int(first.split()[1]), headers, json.loads(body) if body else None


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[House]:
    await house.listener.open()
    assert house.listener.view["state"] == "open"
    try:
        yield house
    finally:
        await house.streams.close()
        await house.listener.close()


@pytest.fixture
def cards(pki: RigPki, mocker: MockerFixture) -> Bench:
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return cards_of(pki)


# --- what an allowed page gets -----------------------------------------------------------------------------------


def test_an_allowed_page_hands_over_and_hears_where_to_go_on_and_nothing_else(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            await house.insert(cards)
            status, headers, last = await house.post()
            assert (status, last) == (200, {"event": "done", "continue": ONWARD})
            assert headers["access-control-allow-origin"] == ORIGIN
            assert headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in headers
            assert house.page.asked[-1] == "POST /api/hand-over/h1/card"
            told = "".join(house.pinentry.told())
            assert "asked by your browser" in told

    run(work())


def test_the_page_learns_at_once_that_it_has_begun_and_the_person_sees_who_asks(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path, **THINKS)) as house:
            await house.insert(cards)
            reader, writer = await house.connect()
            writer.write(house.request())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await until_async(lambda: "CONFIRM" in told(house), "the question")
            (said,) = [line for line in told(house) if line.startswith("SETDESC")]
            assert f"Firefox on Linux on this computer will be signed in at {ORIGIN}, as ada" in said
            writer.close()

    run(work())


def told(house: House) -> list[str]:
    return house.pinentry.told() if house.pinentry.log.exists() else []


def test_who_says_no_is_told_apart_and_the_link_is_void(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path, CONFIRM=["ERR 83886194 Not confirmed"])) as house:
            await house.insert(cards)
            status, _, last = await house.post()
            assert (status, last["error"]["code"]) == (200, "cancelled")
            assert house.page.asked == ["GET /api/hand-over/h1", "DELETE /api/hand-over/h1"]

    run(work())


@pytest.mark.parametrize("what", ["no card", "two cards", "wrong PIN", "no pinentry"])
def test_a_page_is_not_told_about_cards_and_people(cards: Bench, tmp_path: Path, what: str) -> None:
    async def work() -> None:
        house = House(
            tmp_path,
            seconds=4 if what != "no card" else 0.3,
            **(YES if what != "wrong PIN" else {"GETPIN": ["D 654321", "OK"]}),
        )
        if what == "no pinentry":
            house.pinentry.path.unlink()
        async with opened(house):
            if what != "no card":
                await house.insert(cards, *((READER, OTHER_READER) if what == "two cards" else (READER,)))
            status, _, last = await house.post()
            assert status == 200
            assert last["error"]["code"] == "not-allowed-now"
            assert last["error"]["message"] == "tokenbridge did not sign you in."
            assert set(last["error"]) == {"code", "message", "next_step", "retry"}

    run(work())


def test_two_cards_are_told_of_in_the_window(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            await house.insert(cards, READER, OTHER_READER)
            await house.post()
            assert "There are 2 cards." in "".join(house.pinentry.told())
            assert house.pinentry.told()[-1] == "MESSAGE"

    run(work())


# --- who gets in -------------------------------------------------------------------------------------------------

NOTHING: dict[str, dict[str, Any]] = {
    "no origin": {"origin": None},
    "null": {"origin": "null"},
    "another origin": {"origin": "https://evil.example"},
    "a part of it": {"origin": ORIGIN[:-1]},
    "more than it": {"origin": f"{ORIGIN}.evil.example"},
    "another scheme": {"origin": ORIGIN.replace("https", "http")},
    "upper case": {"origin": ORIGIN.upper()},
    "two in one": {"origin": f"{ORIGIN} {ORIGIN}"},
    "star": {"origin": "*"},
    "empty": {"origin": ""},
    "another host": {"host": "evil.example"},
    "another host, right port": {"host": "evil.example:{port}"},
    "localhost": {"host": "localhost:{port}"},
    "host without port": {"host": "127.0.0.1"},
    "another port": {"host": "127.0.0.1:1"},
    "host with user": {"host": "evil@127.0.0.1:{port}"},
    "root": {"path": "/"},
    "status": {"path": "/v1/status"},
    "the socket's own API": {"path": "/v1/hand-over"},
    "below": {"path": "/hand-over/"},
    "encoded": {"path": "/hand%2Dover"},
    "with a host": {"path": "http://evil.example/hand-over"},
    "GET": {"method": "GET"},
    "PUT": {"method": "PUT"},
    "DELETE": {"method": "DELETE"},
    "preflight of another origin": {"method": "OPTIONS", "origin": "https://evil.example"},
    "preflight for another path": {"method": "OPTIONS", "path": "/v1/status"},
    "preflight by a rebound name": {"method": "OPTIONS", "host": "evil.example:{port}"},
}


@pytest.mark.parametrize("changes", NOTHING.values(), ids=NOTHING.keys())
def test_anything_else_gets_the_same_empty_refusal(cards: Bench, tmp_path: Path, changes: dict[str, Any]) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            await house.insert(cards)
            asked = {key: value.format(port=house.port) if value else value for key, value in changes.items()}
            status, headers, body = await house.post(**asked)
            assert (status, body) == (403, None)
            assert headers == {
                "cache-control": "no-store", "connection": "close", "vary": "Origin", "content-length": "0",
            }  # fmt: skip
            assert house.page.asked == []
            assert not house.pinentry.log.exists()

    run(work())


TWICE = {
    "origin": f"origin: {ORIGIN}\r\norigin: {ORIGIN}",
    "one allowed, one not": f"origin: {ORIGIN}\r\norigin: https://evil.example",
}


@pytest.mark.parametrize("lines", TWICE.values(), ids=TWICE.keys())
def test_two_origins_are_none(cards: Bench, tmp_path: Path, lines: str) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            raw = house.request().replace(f"origin: {ORIGIN}".encode(), lines.encode())
            assert parsed(await house.ask(raw))[0] == 403

    run(work())


RAW = {
    "no HTTP": b"\x16\x03\x01\x00\xa5\x01\x00",
    "SSH": b"SSH-2.0-x\r\n\r\n",
    "no host": b"POST /hand-over HTTP/1.1\r\n\r\n",
    "endless head": b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000,
    "bad length": b"POST /hand-over HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
def test_what_is_no_request_gets_no_answer(tmp_path: Path, raw: bytes) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            assert await house.ask(raw) == b""

    run(work())


def test_preflight_says_what_is_taken_of_whom(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            usual = {"method": "OPTIONS", "body": "", "content_type": None}
            status, headers, body = await house.post(**usual, access_control_request_method="POST")
            assert (status, body) == (204, None)
            assert headers["access-control-allow-origin"] == ORIGIN
            assert headers["access-control-allow-methods"] == "POST"
            assert headers["access-control-allow-headers"] == "content-type"
            assert headers["vary"] == "Origin"
            assert "access-control-allow-private-network" not in headers
            assert "access-control-allow-credentials" not in headers
            _, headers, _ = await house.post(**usual, access_control_request_private_network="true")
            assert headers["access-control-allow-private-network"] == "true"

    run(work())


# --- what may be asked -------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[int, dict[str, str | None]]] = {
    "another site's link": (403, {"body": json.dumps({"link": LINK.replace("localhost:8443", "other.example")})}),
    "no link": (400, {"body": "{}"}),
    "another kind of link": (400, {"body": json.dumps({"link": LINK.replace("hand-over", "sign-in")})}),
    "a reader chosen by the page": (400, {"body": json.dumps({"link": LINK, "reader": READER})}),
    "an authority chosen by the page": (400, {"body": json.dumps({"link": LINK, "ca": "/etc/passwd"})}),
    "a window chosen by the page": (400, {"body": json.dumps({"link": LINK, "pinentry": {"display": ":1"}})}),
    "a list": (400, {"body": "[]"}),
    "no JSON": (400, {"body": "{"}),
    "deep": (400, {"body": "[" * MAX_BODY}),
    "too large": (400, {"body": json.dumps({"link": "a" * MAX_BODY})}),
    "padded beyond the bound": (400, {"body": " " * MAX_BODY + BODY}),
    "a form": (400, {"content_type": "application/x-www-form-urlencoded"}),
    "text, as a form can send": (400, {"content_type": "text/plain"}),
    "no media type": (400, {"content_type": None}),
    "JSON in other words": (400, {"content_type": "text/plain; application/json"}),
}


@pytest.mark.parametrize(("wanted", "changes"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_requests_of_an_allowed_page(
    cards: Bench, tmp_path: Path, wanted: int, changes: dict[str, str | None]
) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            await house.insert(cards)
            status, headers, body = await house.post(**changes)
            assert status == wanted
            assert set(body) == {"error"}
            assert headers["access-control-allow-origin"] == ORIGIN
            assert house.page.asked == []
            assert not house.pinentry.log.exists()

    run(work())


def test_a_site_that_is_allowed_too_can_not_use_the_link_of_another(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            status, headers, _ = await house.post(origin=OTHER)
            assert (status, headers["access-control-allow-origin"]) == (403, OTHER)

    run(work())


# --- time, order, ends -------------------------------------------------------------------------------------------


def test_a_second_page_hears_at_once_that_it_is_busy(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path, **THINKS)) as house:
            await house.insert(cards)
            reader, writer = await house.connect()
            writer.write(house.request())
            await reader.readuntil(b"\r\n\r\n")
            status, _, body = await house.post()
            assert (status, body["error"]["code"]) == (409, "device-busy")
            writer.close()
            await until_async(lambda: not house.listener._state.tasks)
            assert (await house.post(content_type="text/plain"))[0] == 400  # nobody is in the way any more

    run(work())


def test_a_page_that_goes_away_takes_the_question_with_it(cards: Bench, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path, **THINKS)) as house:
            await house.insert(cards)
            reader, writer = await house.connect()
            writer.write(house.request())
            await reader.readuntil(b"\r\n\r\n")
            await until_async(lambda: "CONFIRM" in told(house))
            writer.close()
            await until_async(lambda: not house.streams._tasks)
            assert house.station.claims() == set()
            assert house.station.verifies() == []
            assert house.page.asked == ["GET /api/hand-over/h1"]  # the link is still good, by the other way

    run(work())


def test_slow_heads_and_bodies_are_hung_up_on(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(door_listener, "HEAD_SECONDS", 0.2)
    mocker.patch.object(door, "BODY_SECONDS", 0.2)

    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            whole = house.request()
            assert await house.ask(b"") == b""
            assert await house.ask(whole[:20]) == b""
            status, _, body = parsed(await house.ask(whole[:-5]))
            assert (status, body["error"]["code"]) == (408, "timed-out")
            assert house.page.asked == []

    run(work())


def test_a_page_that_goes_away_in_the_middle_of_its_request_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            _, writer = await house.connect()
            writer.write(house.request()[:-5])
            await until_async(lambda: house.listener._state.tasks)
            writer.close()
            await until_async(lambda: not house.listener._state.tasks)
            assert house.page.asked == []

    run(work())


def test_it_all_has_a_deadline(cards: Bench, tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(door, "CEREMONY_SECONDS", 0.3)

    async def work() -> None:
        async with opened(House(tmp_path, **THINKS)) as house:
            await house.insert(cards)
            status, _, last = await house.post()
            assert (status, last["error"]["code"]) == (200, "not-allowed-now")

    run(work())


def test_one_request_a_connection(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            wrong = house.request(origin="https://evil.example")
            assert (await house.ask(wrong + house.request())).count(b"HTTP/1.1") == 1

    run(work())


def test_there_is_a_limit_of_connections(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(door_listener, "MOST_CONNECTIONS", 2)

    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            held = [await house.connect() for _ in range(2)]
            await until_async(lambda: len(house.listener._state.connections) == 2)
            assert await house.ask(house.request()) == b""
            for _, writer in held:
                writer.close()

    run(work())
