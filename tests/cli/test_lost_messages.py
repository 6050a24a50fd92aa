"""`tokenbridge sign-in` in a terminal of its own, with a real bridge and server: a message that is reported lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Terminal
from tests.daemon.test_app import bridge, place
from tests.patience import SECONDS, ended, until
from tests.server.conftest import PASSWORD, Databases
from tests.server.portal.conftest import Portal
from tests.server.portal.test_deliveries import by_notify, by_twilio, reporting, sent, service, with_phone
from tests.server.portal.test_text_instead import texted
from tests.server.test_senders import Service

__all__ = ["bridge", "place", "service"]


PROGRAM = (sys.executable, "-m", "tokenbridge")


@pytest.fixture(scope="module")
def databases() -> Databases:
    """What the terminal shows does not depend on it."""
    return Databases(cluster=None)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases, service: Service) -> Iterator[Portal]:
    with reporting(tmp_path_factory.mktemp("lost-messages"), databases, service) as made:
        yield made


@pytest.fixture
def name(portal: Portal, service: Service) -> Iterator[str]:
    visitor = portal.visitor()
    with visitor.http:
        yield with_phone(portal, visitor, service).username


def signing_in(portal: Portal, name: str, by: str, *more: str) -> str:
    """The program's code; its standard output is the result."""
    ca = portal.bench.data / "tls" / "ca.pem"
    arguments = ["tokenbridge", "sign-in", portal.origin, "--ca", str(ca), "--user", name, "--by", by, *more]
    return f"os.dup2(RESULT, 1)\nsys.argv = {arguments!r}\nfrom tokenbridge.cli.main import main\nmain()\n"


def begun(terminals: list[Terminal], code: str, service: Service) -> tuple[Terminal, int]:
    """A sign-in that waits for the code of its message; with how many messages there were before."""
    service.will(201, {"id": "2", "sid": "SM2"})
    before = len(service.asked)
    terminals.append(Terminal(code))
    terminals[-1].sees("Password: ")
    terminals[-1].types(f"{PASSWORD}\n")
    until(lambda: len(service.asked) > before, "the message")
    return terminals[-1], len(service.asked)


@pytest.mark.usefixtures("bridge")
def test_the_text_message_in_its_place_is_told_and_asked_for(
    terminals: list[Terminal], portal: Portal, name: str, service: Service
) -> None:
    terminal, before = begun(terminals, signing_in(portal, name, "whatsapp", "--json"), service)
    terminal.sees("Code of the WhatsApp message to")
    service.will(201, {"id": "3"})
    by_twilio(portal, sent(service)["StatusCallback"])
    terminal.sees("The WhatsApp message did not arrive. We have sent a text message to *** ***")
    terminal.sees("Code of the text message to")
    terminal.types(f"{texted(portal, service, before)}\n")
    outcome = json.loads(terminal.result())
    assert (outcome["decision"], outcome["undelivered"]) == ("allow", ["whatsapp"])


@pytest.mark.usefixtures("bridge")
def test_a_script_goes_on_with_the_code_of_the_text_message(portal: Portal, name: str, service: Service) -> None:
    """It reads the code when there is one, whichever message that was asked for."""
    (password, password_in), (code, code_in) = os.pipe(), os.pipe()
    os.write(password_in, f"{PASSWORD}\n".encode())
    service.will(201, {"sid": "SM2"})
    before = len(service.asked)
    ca = portal.bench.data / "tls" / "ca.pem"
    given = ("--password-fd", str(password), "--code-fd", str(code), "--json")
    script = subprocess.Popen(
        [*PROGRAM, "sign-in", portal.origin, "--ca", str(ca), "--user", name, "--by", "whatsapp", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(password, code),
    )
    with ended(script):
        until(lambda: len(service.asked) > before, "the WhatsApp message")
        service.will(201, {"id": "3"})
        by_twilio(portal, sent(service)["StatusCallback"])
        os.write(code_in, texted(portal, service, before + 1).encode() + b"\n")
        output, _ = script.communicate(timeout=SECONDS)
    for descriptor in (password, password_in, code, code_in):
        os.close(descriptor)
    assert json.loads(output)["decision"] == "allow"


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_message_that_is_lost_ends_it(
    terminals: list[Terminal], portal: Portal, name: str, service: Service, more: tuple[str, ...]
) -> None:
    terminal, _ = begun(terminals, signing_in(portal, name, "sms", *more), service)
    terminal.sees("Code of the text message to")
    by_notify(portal, sent(service)["reference"])
    terminal.sees("The text message could not be delivered.")
    result = terminal.result()
    assert terminal.process.returncode == 5
    if more:
        assert json.loads(result)["error"]["code"] == "send-failed"
    else:
        assert "Sign in by another method (--by)." in terminal.screen
