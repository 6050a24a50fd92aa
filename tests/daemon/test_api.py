"""The bridge's API: bodies that are anything, statuses, streams, and whole sign-ins through it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import Bench
from tokenbridge.daemon import devices
from tokenbridge.daemon.api import MAX_SECRET, STATUS, Services, make_app
from tokenbridge.daemon.requests import MAX_BODY
from tokenbridge.daemon.settings import Settings
from tokenbridge.daemon.streams import MAX_AHEAD, Streams
from tokenbridge.errors import TokenbridgeError, tree
from tokenbridge.rig.pki import RigPki
from tokenbridge.rp.webeid import Token, verify_signature
from tokenbridge.transport.base import EventKind

from .asgi import Call, call
from .conftest import NONCE, ORIGIN, OTHER_READER, READER, run
from .workstation import Workstation, cards_of, link_to_newest


class LocalSites:
    """In place of `Sites`: one site that verifies cards and knows one password."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def client(self, ca_file: Path | None) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.method == "DELETE":
            return httpx.Response(204)
        body = json.loads(request.content)
        if request.url.path == "/api/sign-in":
            return httpx.Response(201, json=self._offer())
        token = Token.parse(body["token"])
        verify_signature(token, expected_origin=ORIGIN, expected_nonce=NONCE)
        return httpx.Response(200, json={"decision": "allow", "sentence": "AAL3", "methods": []})

    def _offer(self) -> dict[str, Any]:
        return {
            "transaction": "t1",
            "rp": {"name": "Test Hospital", "origin": ORIGIN},
            "nonce": NONCE,
            "expires_at": (datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
            "accepts": [{"method": "card", "algorithms": ["ES256"], "issuers": []}],
        }


class Api:
    """The application with everything below it; made inside a running loop."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.station = Workstation(settings)
        self.sites = LocalSites()
        self.services = Services(
            settings=self.station.settings,
            bridge=self.station.bridge,
            sites=self.sites,  # type: ignore[arg-type]
            stopping=asyncio.Event(),
        )
        self.app = make_app(self.services)

    def start(self, path: str, body: Mapping[str, Any], program: str = "portal") -> Call:
        return Call(self.app, "POST", path, json.dumps(body).encode(), program=program)

    async def call(self, method: str, path: str, body: bytes | Mapping[str, Any] = b"") -> tuple[int, Any]:
        return await call(self.app, method, path, body)

    async def insert(self, cards: Bench, reader: str = READER) -> None:
        async with self.station.devices.events() as events:
            self.station.happens(EventKind.READER_ADDED, reader)
            self.station.insert(cards.card(), reader)
            while (await events.get()).kind is not EventKind.CARD_INSERTED:
                pass

    async def lead(self, stream: Call, answers: Mapping[str, bytes]) -> list[dict[str, Any]]:
        """All lines of `stream`, its questions answered."""
        assert await stream.status() == 200
        lines = []
        async for line in stream.lines():
            lines.append(line)
            if line["event"] == "prompt":
                status, _ = await self.call("POST", f"/v1/prompts/{line['id']}", answers[line["kind"]])
                assert status == 204
        return lines


@pytest.fixture
def cards(pki: RigPki, mocker: MockerFixture) -> Bench:
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return cards_of(pki)


# --- bodies ----------------------------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "no JSON": b"{",
    "bytes": b"\xff\xfe",
    "list": b"[]",
    "text": b'"x"',
    "number": b"5",
    "null": b"null",
    "deep": b"[" * 16_000,
    "unknown member": b'{"url": "https://localhost", "pin": "123456"}',
    "url missing": b"{}",
    "url a number": b'{"url": 5}',
    "url a list": b'{"url": ["https://localhost"]}',
    "plain HTTP": b'{"url": "http://portal.example.org"}',
    "no address": b'{"url": "https://"}',
    "reader a number": b'{"url": "https://localhost", "reader": 5}',
    "user name a list": b'{"url": "https://localhost", "username": ["ada"]}',
    "wait a text": b'{"url": "https://localhost", "wait_seconds": "5"}',
    "wait true": b'{"url": "https://localhost", "wait_seconds": true}',
    "wait null": b'{"url": "https://localhost", "wait_seconds": null}',
    "wait zero": b'{"url": "https://localhost", "wait_seconds": 0}',
    "wait negative": b'{"url": "https://localhost", "wait_seconds": -1}',
    "wait for ever": b'{"url": "https://localhost", "wait_seconds": 3601}',
    "wait NaN": b'{"url": "https://localhost", "wait_seconds": NaN}',
    "wait infinite": b'{"url": "https://localhost", "wait_seconds": Infinity}',
    "too large": b'{"url": "' + b"a" * MAX_BODY + b'"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bad_bodies(body: bytes) -> None:
    async def work() -> None:
        api = Api()
        status, answer = await api.call("POST", "/v1/sign-in", body)
        assert (status, answer["error"]["code"]) == (400, "bad-request")
        assert api.sites.asked == []

    run(work())


@pytest.mark.parametrize("path", ["/v1/pin/change", "/v1/pin/unblock"])
@pytest.mark.parametrize("body", [b"[]", b'{"pin": "123456"}', b"x" * (MAX_BODY + 1)])
def test_bad_bodies_of_pin_requests(path: str, body: bytes) -> None:
    async def work() -> None:
        status, answer = await Api().call("POST", path, body)
        assert (status, answer["error"]["code"]) == (400, "bad-request")

    run(work())


def test_a_reader_that_is_no_text_ends_the_stream_with_its_error() -> None:
    async def work() -> None:
        api = Api()
        (line,) = await api.lead(api.start("/v1/pin/change", {"reader": 5}), {})
        assert line["error"]["code"] == "bad-request"

    run(work())


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    async def work() -> None:
        api = Api()
        endless = Call(api.app, "POST", "/v1/sign-in", b"x" * (1 << 20))
        assert (await endless.answer())[0] == 400
        assert endless.chunks_read <= MAX_BODY // 4096 + 1

    run(work())


def test_an_answer_that_is_too_long_and_one_to_nobody() -> None:
    async def work() -> None:
        api = Api()
        question, future = api.services.pending.open()
        status, answer = await api.call("POST", f"/v1/prompts/{question}", b"1" * (MAX_SECRET + 1))
        assert (status, answer["error"]["code"]) == (400, "bad-request")
        assert not future.done()
        assert (await api.call("POST", f"/v1/prompts/{question}", b"123456"))[0] == 204
        assert bytes(future.result().reveal()) == b"123456"
        for method in ("POST", "DELETE"):
            status, answer = await api.call(method, f"/v1/prompts/{question}", b"123456")
            assert (status, answer["error"]["code"]) == (409, "not-allowed-now")

    run(work())


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/unknown", 404),
        ("GET", "/v1/sign-in", 405),
        ("POST", "/v1/status", 405),
        ("GET", "/v1/prompts/x", 405),
        ("GET", "/v1/prompts/x/y", 404),
    ],
)
def test_paths_that_are_not_there(method: str, path: str, expected: int) -> None:
    async def work() -> None:
        call = Call(Api().app, method, path)
        assert await call.status() == expected
        await call.hang_up()

    run(work())


def test_a_defect_in_a_handler_is_an_internal_error_without_its_details(mocker: MockerFixture) -> None:
    async def work() -> None:
        mocker.patch("tokenbridge.daemon.views.picture", side_effect=ZeroDivisionError("secret detail"))
        call = Call(Api().app, "GET", "/v1/status")
        with pytest.raises(ZeroDivisionError):  # goes on to the server, which logs it
            await call.task
        assert await call.status() == 500
        (line,) = [line async for line in call.lines(end=b"")]
        assert line["error"]["code"] == "internal"
        assert "secret detail" not in json.dumps(line)

    run(work())


def test_every_error_has_a_status() -> None:
    for kind in tree():
        assert any(base in STATUS for base in kind.__mro__), kind


# --- what is there ---------------------------------------------------------------------------------------------


def test_status_and_cards(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        status, answer = await api.call("GET", "/v1/status")
        assert status == 200
        assert (answer["pcsc"], answer["readers"]) == ("up", [])
        await api.insert(cards)
        _, answer = await api.call("GET", "/v1/status")
        (reader,) = answer["readers"]
        assert (reader["reader"], reader["card"], reader["used_by"]) == (READER, True, "")
        _, answer = await api.call("GET", "/v1/cards")
        (card,) = answer["cards"]
        assert (card["holder"], card["tries_left"], card["application"]) == ("000123456789", 3, "PIV")
        _, answer = await api.call("GET", "/v1/card")
        (certificate,) = answer["certificates"]
        assert (certificate["slot"], certificate["fitness"], certificate["key"]) == ("9A", "fits", "P-256")
        assert "BEGIN CERTIFICATE" in certificate["pem"]
        assert api.station.known.get(answer["guid"]) is not None

    run(work())


def test_a_card_that_is_not_there_or_not_the_only_one(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        status, answer = await api.call("GET", "/v1/card")
        assert (status, answer["error"]["code"]) == (404, "no-device")
        await api.insert(cards)
        await api.insert(cards, OTHER_READER)
        status, answer = await api.call("GET", "/v1/card")
        assert (status, answer["error"]["code"]) == (500, "device")
        status, answer = await api.call("GET", f"/v1/card?reader={OTHER_READER.replace(' ', '%20')}")
        assert (status, answer["reader"]) == (200, OTHER_READER)

    run(work())


def test_why_there_is_no_card() -> None:
    async def work() -> None:
        api = Api()
        _, answer = await api.call("GET", "/v1/cards")
        assert (answer["cards"], answer["absence"]["code"]) == ([], "no-device")
        api.station.happens(EventKind.SERVICE_DOWN)
        _, answer = await api.call("GET", "/v1/cards")
        assert answer["absence"]["code"] == "pcsc-service-gone"
        _, answer = await api.call("GET", "/v1/card")
        assert answer["error"]["code"] == "pcsc-service-gone"

    run(work())


def test_a_card_that_is_of_no_use_does_not_hide_the_others(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        await api.insert(cards)
        await api.insert(cards, OTHER_READER)
        api.station.shape = lambda link: (
            setattr(link, "on_command", lambda _: b"\x6a\x82") if link.reader == READER else None
        )
        _, answer = await api.call("GET", "/v1/cards")
        first, second = answer["cards"]
        assert (first["error"]["code"], first["application"]) == ("card-unsupported", "")
        assert second["holder"] == "000123456789"

    run(work())


def test_events_until_the_client_hangs_up(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        stream = Call(api.app, "GET", "/v1/events")
        assert await stream.status() == 200
        lines = stream.lines()
        now = await anext(lines)
        assert (now["event"], now["pcsc"]) == ("now", "up")
        await api.insert(cards)
        assert await anext(lines) == {"event": "reader-added", "reader": READER}
        inserted = await anext(lines)
        assert (inserted["event"], inserted["reader"]) == ("card-inserted", READER)
        await stream.hang_up()
        await api.services.streams.close()
        assert api.station.devices._listeners == set()

    run(work())


# --- sign-ins --------------------------------------------------------------------------------------------------


def test_a_whole_sign_in(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        await api.insert(cards)
        lines = await api.lead(api.start("/v1/sign-in", {"url": ORIGIN}), {"pin": b"123456"})
        assert [line["event"] for line in lines] == ["prompt", "done"]
        assert lines[0]["program"] == "portal (7)"
        assert lines[-1]["outcome"]["decision"] == "allow"
        assert api.sites.asked == ["POST /api/sign-in", "POST /api/sign-in/t1/card"]
        assert "123456" not in json.dumps(lines[1:])

    run(work())


def test_a_second_sign_in_meanwhile_hears_who_is_busy(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        await api.insert(cards)
        first = api.start("/v1/sign-in", {"url": ORIGIN}, program="first")
        assert await first.status() == 200
        assert (await anext(first.lines()))["kind"] == "pin"
        _, status = await api.call("GET", "/v1/status")
        assert status["readers"][0]["used_by"] == "first (7)"
        (line,) = await api.lead(api.start("/v1/sign-in", {"url": ORIGIN}, program="second"), {})
        assert (line["event"], line["error"]["by"]) == ("error", "first (7)")
        await first.hang_up()
        await api.services.streams.close()
        lines = await api.lead(api.start("/v1/sign-in", {"url": ORIGIN}), {"pin": b"123456"})
        assert lines[-1]["event"] == "done"

    run(work())


def test_a_client_that_hangs_up_takes_its_transaction_back(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        await api.insert(cards)
        stream = api.start("/v1/sign-in", {"url": ORIGIN})
        assert await stream.status() == 200
        prompt = await anext(stream.lines())
        await stream.hang_up()
        await api.services.streams.close()
        assert api.sites.asked[-1] == "DELETE /api/sign-in/t1"
        assert api.station.claims() == set()
        assert (await api.call("POST", f"/v1/prompts/{prompt['id']}", b"123456"))[0] == 409

    run(work())


def test_no_card_in_time_is_the_last_line(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        lines = await api.lead(api.start("/v1/sign-in", {"url": ORIGIN, "wait_seconds": 0.01}), {})
        assert [line["event"] for line in lines] == ["step", "error"]
        assert lines[-1]["error"]["code"] == "no-device"
        assert "detail" not in lines[-1]["error"]

    run(work())


def test_change_and_unblock_of_a_pin(cards: Bench) -> None:
    async def work() -> None:
        api = Api()
        await api.insert(cards)
        lines = await api.lead(api.start("/v1/pin/change", {}), {"pin": b"123456", "new-pin": b"24682468"})
        assert lines[-1] == {"event": "done", "changed": True, "reader": READER}
        answers = {"puk": b"12345678", "new-pin": b"123456"}
        lines = await api.lead(api.start("/v1/pin/unblock", {"reader": READER}), answers)
        assert lines[-1] == {"event": "done", "unblocked": True, "reader": READER}

    run(work())


def test_stop() -> None:
    async def work() -> None:
        api = Api()
        assert (await api.call("POST", "/v1/stop"))[0] == 204
        assert api.services.stopping.is_set()

    run(work())


# --- streams ---------------------------------------------------------------------------------------------------


async def read(streams: Streams, body: Any) -> list[dict[str, Any]]:
    response = streams.respond(body)
    return [json.loads(chunk) async for chunk in response.body_iterator]


@pytest.mark.parametrize("count", [0, 1, MAX_AHEAD - 2, MAX_AHEAD - 1, MAX_AHEAD, MAX_AHEAD + 1, 3 * MAX_AHEAD])
def test_a_stream_has_all_its_lines_and_an_end_however_many_they_are(count: int) -> None:
    async def work() -> None:
        async def body(emit: Any) -> Mapping[str, Any]:
            for number in range(count):
                await emit({"event": "step", "number": number})
            return {"result": 1}

        lines = await read(Streams(), body)
        assert [line["number"] for line in lines[:-1]] == list(range(count))
        assert lines[-1] == {"event": "done", "result": 1}

    run(work())


def test_a_defect_is_an_internal_error_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async def body(emit: Any) -> Mapping[str, Any]:
            raise ZeroDivisionError("secret detail")

        (line,) = await read(Streams(), body)
        assert line["error"]["code"] == "internal"
        assert "secret detail" not in json.dumps(line)
        assert "secret detail" in caplog.text

    run(work())


def test_close_ends_streams_with_a_last_line() -> None:
    async def work() -> None:
        streams = Streams()
        begun, tidied = asyncio.Event(), asyncio.Event()

        async def body(emit: Any) -> Mapping[str, Any]:
            try:
                await emit({"event": "step"})
                begun.set()
                await asyncio.Event().wait()
            finally:
                tidied.set()
            return {}

        reading = asyncio.create_task(read(streams, body))
        await begun.wait()
        await streams.close()
        lines = await reading
        assert lines[-1]["error"] == {**lines[-1]["error"], "code": "cancelled", "by": "shutdown"}
        assert tidied.is_set()

    run(work())


def test_typed_errors_are_the_last_line() -> None:
    async def work() -> None:
        async def body(emit: Any) -> Mapping[str, Any]:
            raise TokenbridgeError("safe", detail="for the log only")

        (line,) = await read(Streams(), body)
        assert line["error"]["message"] == "safe"
        assert "for the log only" not in json.dumps(line)

    run(work())
