"""A site that trickles, tracks or talks too much; authority files that are none; answers that agree to nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from tokenbridge.daemon import site as site_module
from tokenbridge.daemon.prompts import Pending
from tokenbridge.daemon.site import MAX_CLIENTS, MAX_MESSAGE, Site, Sites
from tokenbridge.errors import Cancelled, NotAllowedNow, RelyingPartyUnavailable, RemoteError, SetupError
from tokenbridge.interaction import Secret
from tokenbridge.rig.pki import RigPki

from .conftest import ORIGIN, run
from .test_prompts import REQUEST, Caller
from .test_site import answers


def test_an_answer_without_end_has_a_deadline(mocker: MockerFixture) -> None:
    mocker.patch.object(site_module, "CALL_SECONDS", 0.05)

    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

    async def work() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Trickle()))
        async with httpx.AsyncClient(transport=transport, timeout=5) as client:
            with pytest.raises(RelyingPartyUnavailable) as caught:
                await Site(client, ORIGIN).open()
        assert "in time" in caught.value.message

    run(work())


def test_cookies_are_not_kept() -> None:
    seen: list[str | None] = []

    def far(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(204, headers={"set-cookie": "person=ada; Path=/; Max-Age=3600"})

    async def work() -> None:
        sites = Sites(5, None)
        client = sites.client(None)
        client._transport = httpx.MockTransport(far)
        for _ in range(2):
            await Site(client, ORIGIN).cancel("t1")
        await sites.close()
        assert seen == [None, None]

    run(work())


def test_an_error_of_a_site_is_bounded() -> None:
    error: dict[str, Any] = {
        "code": "rejected",
        "message": "m" * 99_999,
        "next_step": ["x"],
        "deep": {"a": [1]},
        "reason": "code-wrong",
        "seconds": 30,
    }
    with pytest.raises(RemoteError) as caught:
        answers({"error": error}, 403).open()
    said = caught.value.as_dict()
    assert said["message"] == "m" * MAX_MESSAGE
    assert (said["code"], said["reason"], said["seconds"]) == ("rejected", "code-wrong", 30)
    assert isinstance(said["next_step"], str)
    assert "deep" not in said


def test_connection_pools_are_few_and_follow_the_file(tmp_path: Path, pki: RigPki) -> None:
    async def work() -> None:
        sites = Sites(5, None)
        pki.save(tmp_path)
        content = next(tmp_path.glob("*.pem")).read_bytes()
        path = tmp_path / "authority"
        path.write_bytes(content)
        first = sites.client(path)
        assert sites.client(path) is first
        replacement = tmp_path / "replacement"
        replacement.write_bytes(content)
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        os.utime(replacement, ns=times)
        replacement.replace(path)
        assert sites.client(path) is not first
        for number in range(MAX_CLIENTS * 2):
            path.write_bytes(content)
            os.utime(path, ns=(number, number))
            sites.client(path)
        assert len(sites._clients) == MAX_CLIENTS
        await sites.close()

    run(work())


def test_an_authority_that_is_no_file_does_not_block_the_bridge(tmp_path: Path) -> None:
    pipe = tmp_path / "ca.pem"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/x\0y")):
        with pytest.raises(SetupError):
            Sites(5, None).client(path)


# --- questions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "agrees"), [(b"yes", True), (b"Y", True), (b"no", False), (b"", False)])
def test_only_yes_spends_the_last_try(answer: bytes, agrees: bool) -> None:
    async def work() -> None:
        caller = Caller()
        asking = asyncio.create_task(caller.interaction.confirm_last_try(REQUEST))
        secret = Secret(answer)
        caller.pending.answer((await caller.hears())["id"], secret)
        if agrees:
            await asking
        else:
            with pytest.raises(Cancelled) as caught:
                await asking
            assert caught.value.by == "user"
        assert len(secret) == 0

    run(work())


def test_an_answer_that_nobody_waits_for_is_wiped() -> None:
    async def work() -> None:
        secret = Secret(b"123456")
        with pytest.raises(NotAllowedNow):
            Pending().answer("unknown", secret)
        assert len(secret) == 0

    run(work())
