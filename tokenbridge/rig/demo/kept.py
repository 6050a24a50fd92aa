"""What somebody needs to know to go on by hand in a demo that was kept: as data, and in plain lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final

from tokenbridge.rig.demo.stage import ADMINISTRATOR, KEY_PIN, NEWCOMER, NEWCOMER_NAME, PIN, USER, Stage
from tokenbridge.rig.workplace import PASSWORD

FIRST: Final = "Virtual PCD 00 00"
SECOND: Final = "Virtual PCD 00 01"
"""The readers' names, as vpcd and pcscd make them."""

ENVIRONMENT: Final = (
    "PCSCLITE_CSOCK_NAME",
    "TOKENBRIDGE_RUNTIME_DIR",
    "TOKENBRIDGE_STATE_DIR",
    "TOKENBRIDGE_SERVER_DATA",
    "TOKENBRIDGE_KEY_SOCKETS",
)


def facts(stage: Stage) -> dict[str, Any]:
    """JSON types. `readers` says where whose card is; `environment` is for commands in a terminal."""
    place = stage.workplace
    return {
        "portal": place.origin,
        "telephone": f"{place.origin}/outbox",
        "phone_app": f"{place.origin}/phone/",
        "administration": f"{place.origin}/admin",
        "authority": str(place.ca_file),
        "password": PASSWORD,
        "accounts": {NEWCOMER: "nothing set up yet", USER: "app, card and key", ADMINISTRATOR: "administrator"},
        "recovery_codes": {ADMINISTRATOR: list(stage.administrators_codes)},
        "card_pin": PIN,
        "readers": {USER: FIRST, NEWCOMER: SECOND},
        "key_pin": KEY_PIN,
        "key_in_browser": stage.kernel_knows_key,
        "environment": {name: place.environ[name] for name in ENVIRONMENT if name in place.environ},
        "stop": f"tokenbridge demo --stop {stage.directory}",
    }


def in_a_browser(stage: Stage) -> Iterator[tuple[str, str]]:
    """A heading or an address each, and what is there."""
    place = stage.workplace
    yield place.origin, f"the portal (its certificate is of the demo's own: {place.ca_file})"
    yield f"{place.origin}/outbox", "the test phone: messages, calls (press # there), pushes, notices by e-mail"
    yield (
        f"{place.origin}/phone/",
        "the phone app for number matching; open it in a second browser, or a private window",
    )
    yield f"{place.origin}/admin", "administration: dashboard, accounts, trust anchors, key models, policy"


def people(stage: Stage) -> Iterator[tuple[str, str]]:
    """User names, and what they have."""
    yield NEWCOMER, "nothing set up yet; a card in the second reader is nobody's so far"
    yield USER, "an app, a card in the first reader, a key"
    codes = " ".join(stage.administrators_codes[:3])
    yield ADMINISTRATOR, f"administrates; instead of an app these recovery codes, each once: {codes}"


def to_try(stage: Stage) -> Iterator[str]:
    """In this order it makes a story."""
    yield f"1. Sign in as {NEWCOMER}; scan the QR code with any authenticator app, and keep the recovery codes."
    yield "2. Sign in again with a code. Self-Service: add a phone number (07400 123456), the phone app."
    yield "3. Add a key and a card under Security keys and cards."
    yield "   Card: copy the address of the button Open tokenbridge; in a terminal, after the exports below:"
    yield f"   tokenbridge hand-over LINK --ca {stage.workplace.ca_file} --reader {shlex.quote(SECOND)} --no-open"
    yield f"   ({NEWCOMER_NAME}'s, PIN {PIN}), and open what it prints in that browser. To sign in with it: the same."
    yield from _key(stage)
    yield "4. Sign out and in by each: app, text message, WhatsApp, voice call, phone app, recovery code, key, card."
    yield "5. Lost your phone? Sign in with the card, remove app, number and phone app under Self-Service, set up anew;"
    yield f"   or {ADMINISTRATOR} resets the account under Administration, Accounts."
    yield "The loopback door, which spares the copying, is an administrator's to open: docs/card-on-a-page.md."


def _key(stage: Stage) -> Iterator[str]:
    if stage.kernel_knows_key:
        yield f"   Key: the demo's is a device of the kernel's, so the browser sees it (PIN {KEY_PIN})."
        return
    yield "   Key: one of your own; the browser can't see the demo's, as this kernel has no /dev/uhid. Or in Chromium:"
    yield "   developer tools, More tools, WebAuthn, Enable virtual authenticator environment."


def in_a_terminal(stage: Stage) -> Iterator[str]:
    """Commands, after the variables that they need."""
    site = f"{stage.workplace.origin} --ca {stage.workplace.ca_file}"
    for name, value in facts(stage)["environment"].items():
        yield f"export {name}={value}"
    yield f"tokenbridge sign-in {site} --reader {shlex.quote(FIRST)}   # PIN {PIN}"
    yield f"tokenbridge sign-in {site} --user {USER}   # password: {PASSWORD}"
    yield f"tokenbridge sign-in {site} --key any   # PIN {KEY_PIN}"
    yield "tokenbridge watch    tokenbridge card list    tokenbridge key info    tokenbridge server audit"
    yield str(facts(stage)["stop"])
