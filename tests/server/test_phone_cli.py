"""`tokenbridge server phone` and `outbox`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.server.conftest import ORIGIN, make_bench, serving
from tests.server.soft_phone import SoftPhone
from tests.server.test_messages import MOBILE, Desk
from tokenbridge.cli.server import server as command
from tokenbridge.errors import BadRequest
from tokenbridge.rig.pki import RigPki


@pytest.fixture
def desk(tmp_path: Path, pki: RigPki) -> Iterator[Desk]:
    bench = make_bench(tmp_path, pki, outbox=True)
    bench.trust()
    with serving(bench.data) as server:
        yield Desk(bench=bench, server=server)


def run(data: Path, *words: str) -> Result:
    return CliRunner().invoke(command, ["--data", str(data), *words])


def test_a_lost_telephone_is_removed_and_sessions_end(desk: Desk):
    person = desk.with_phone(MOBILE)
    data = desk.bench.data
    (found,) = json.loads(run(data, "phone", "list", person.username, "--json").stdout)
    assert (found["number"], found["methods"]) == ("*** *** 456", ["sms", "voice", "whatsapp"])
    assert "*** *** 456" in run(data, "phone", "list", person.username).stdout
    other = desk.bench.person()
    assert isinstance(run(data, "phone", "remove", other.username, str(found["id"])).exception, BadRequest)
    assert json.loads(run(data, "phone", "remove", person.username, str(found["id"]), "--json").stdout) == {
        "removed": found["id"],
        "sessions_ended": 1,
    }
    assert desk.server.session(desk.session).status_code == 401
    assert "(none)" in run(data, "phone", "list", person.username).stdout


def test_the_app_of_a_lost_telephone_is_removed_and_sessions_end(desk: Desk):
    person, data = desk.bench.person(), desk.bench.data
    phone = SoftPhone(http=desk.server.http, origin=ORIGIN).enrolled(desk.bench, person.username)
    desk.sign_in(person)
    (found,) = json.loads(run(data, "phone", "apps", person.username, "--json").stdout)
    assert (found["name"], found["device"]) == ("iPhone", "Safari on iPhone")
    assert "Safari on iPhone" in run(data, "phone", "apps", person.username).stdout
    other = desk.bench.person()
    assert isinstance(run(data, "phone", "remove-app", other.username, str(found["id"])).exception, BadRequest)
    assert "ended: 1." in run(data, "phone", "remove-app", person.username, str(found["id"])).stdout
    assert phone.look().status_code == 401
    assert desk.server.session(desk.session).status_code == 401
    assert "(none)" in run(data, "phone", "apps", person.username).stdout


def test_the_outbox_is_shown(desk: Desk):
    desk.with_phone(MOBILE)
    shown = run(desk.bench.data, "outbox")
    assert desk.code() in shown.stdout
    assert "sms to +447400123456" in shown.stdout
    assert json.loads(run(desk.bench.data, "outbox", "--json").stdout)[0]["channel"] == "sms"


def test_without_an_outbox_it_says_so(tmp_path: Path, pki: RigPki):
    bench = make_bench(tmp_path, pki)
    assert isinstance(run(bench.data, "outbox").exception, BadRequest)
