"""What somebody needs to know to go on by hand in a demo that was kept: as data, and in plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tokenbridge.errors import SetupError
from tokenbridge.rig.demo import tools
from tokenbridge.rig.demo.stage import ADMINISTRATOR, KEY_PIN, MAIL_PROGRAM, NEWCOMER, PIN, USER, Stage
from tokenbridge.rig.demo.workstation import Workstation
from tokenbridge.rig.workplace import PASSWORD

PRINTED_CODES: Final = 6


def facts(stage: Stage) -> dict[str, Any]:
    """JSON types. `environment` is for commands in a terminal; `door`: how the card page finds the bridge by itself."""
    place, door = stage.workplace, _workstation(stage)
    return {
        "portal": place.origin,
        "telephone": f"{place.origin}/outbox",
        "phone_app": f"{place.origin}/phone/",
        "administration": f"{place.origin}/admin",
        "authority": str(place.ca_file),
        "windows": {window: str(stage.directory / window) for window in tools.WINDOWS},
        "password": PASSWORD,
        "accounts": {NEWCOMER: "nothing set up yet", USER: "app, card and key", ADMINISTRATOR: "administrator"},
        "app_keys": {USER: stage.totp_secret, ADMINISTRATOR: stage.administrators_app},
        "recovery_codes": {ADMINISTRATOR: list(stage.administrators_codes)},
        "app_client": {"name": MAIL_PROGRAM, "secret": stage.mail_secret},
        "card_pin": PIN,
        "card_inserted": NEWCOMER,
        "door": {"port": door.door_port, "open": door.door_is_open, "to_open": door.opening, "window": door.has_window},
        "key_pin": KEY_PIN,
        "key_in_browser": stage.kernel_knows_key,
        "environment": tools.environment(stage),
        "environment_file": str(tools.environment_file(stage)),
        "mail_check": str(tools.mail_check_file(stage)),
        "stop": f"tokenbridge demo --stop {stage.directory}",
    }


def in_a_browser(stage: Stage) -> Iterator[tuple[str, str]]:
    """An address each, and what is there."""
    place = stage.workplace
    yield place.origin, "the portal"
    yield f"{place.origin}/outbox", "the test phone: text messages, WhatsApp, calls, pushes, e-mail"
    yield f"{place.origin}/phone/", "the phone app for number matching; it wants a browser window of its own"
    yield f"{place.origin}/admin", "administration"


def the_browser(stage: Stage) -> Iterator[str]:
    """How the demo's certificate is trusted: without that, browsers allow neither keys nor the phone app."""
    place = stage.workplace
    yield "Two windows of Chromium that trust the demo's certificate, for a computer and for a phone:"
    yield from (f"  {stage.directory / window}" for window in tools.WINDOWS)
    yield f"Into any other browser import this as an authority: {place.ca_file}"
    port = place.origin.rpartition(":")[2]
    yield f"From another computer, first: ssh -L {port}:localhost:{port} THIS-COMPUTER"


def people(stage: Stage) -> Iterator[tuple[str, str]]:
    """User names, and what they have."""
    yield NEWCOMER, "nothing set up yet; the card in the reader will be this person's"
    yield USER, f"an app (its key: {stage.totp_secret}), a card, a security key"
    yield ADMINISTRATOR, f"the administrator, with an app (its key: {stage.administrators_app})"
    codes = stage.administrators_codes[:PRINTED_CODES]
    for at, code in enumerate(codes):
        yield "", f"{'or recovery codes, each once:' if at == 0 else '':29} {code}"


def in_a_terminal(stage: Stage) -> Iterator[str]:
    """Commands, after the variables that they need."""
    site, home = stage.workplace.origin, stage.directory / "rig"
    yield f". {tools.environment_file(stage)}   # first of all, in each terminal"
    yield f"tokenbridge sign-in {site} --user {USER}   # password: {PASSWORD}"
    yield f"tokenbridge sign-in {site} --key any   # {USER}'s; PIN {KEY_PIN}"
    yield f"tokenbridge rig card remove {NEWCOMER} --home {home}"
    yield f"tokenbridge rig card insert {USER} --home {home}"
    yield f"tokenbridge sign-in {site}   # {USER}'s card; PIN {PIN}"
    yield "tokenbridge watch    tokenbridge card list    tokenbridge key info    tokenbridge server audit"
    yield f"{facts(stage)['stop']}   # ends it all"


def _workstation(stage: Stage) -> Workstation:
    if stage.workstation is None:
        raise SetupError("That demo is not kept.")
    return stage.workstation
