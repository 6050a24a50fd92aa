"""The demo's scenes, in order. Each checks that what it shows is what should have happened; if not, the demo fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyotp

from tokenbridge.errors import DemoFailed
from tokenbridge.rig.demo.stage import KEY_PIN, NAME, PIN, USER, WRONG_PIN, Stage
from tokenbridge.rig.faults import Action, Fault
from tokenbridge.rig.workplace import PASSWORD, Ran
from tokenbridge.wire.apdu import INS


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """`title` before, `ran` and `moral` after: what was seen, and what it means."""

    title: str
    ran: tuple[Ran, ...]
    moral: str


def play(stage: Stage) -> Iterator[Scene | str]:
    """Scenes as they are played; before each, its title alone."""
    acts: tuple[tuple[str, Callable[[Stage, str], Scene]], ...] = (
        ("A card is inserted, and enrolled for its holder", _enrol),
        ("Signing in with card and PIN", _card),
        ("A wrong PIN costs one try, and says so", _wrong_pin),
        ("The card is pulled out in the middle of the signature", _pulled),
        ("The same person without the card: password, and then a code", _password),
        ("A security key is plugged in, and registered with an enrolment code", _register_key),
        ("Signing in with the key, its PIN and a touch", _key),
        ("Everything that was decided is on record", _audit),
    )
    for title, act in acts:
        yield title
        yield act(stage, title)


def _enrol(stage: Stage, title: str) -> Scene:
    stage.slot.start()
    listed = stage.workplace.must("card", "list")
    pem = stage.directory / "card.pem"
    pem.write_text(stage.workplace.must("card", "certs", "--pem").output + "\n")
    enrolled = stage.workplace.must("server", "card", "enrol", USER, "--pem", str(pem))
    return Scene(title=title, ran=(listed, enrolled), moral=f"The server now knows that this card is {NAME}'s.")


def _card(stage: Stage, title: str) -> Scene:
    stage.slot.reset_counters()
    ran = stage.workplace.sign_in(secrets={"--pin-fd": PIN})
    _expect(ran, 0, "AAL3", "no text message or app code needed", "Not asked")
    moral = f"One PIN, no second challenge. The card exchanged {stage.slot.apdus} messages."
    return Scene(title=title, ran=(ran,), moral=moral)


def _wrong_pin(stage: Stage, title: str) -> Scene:
    wrong = stage.workplace.sign_in(secrets={"--pin-fd": WRONG_PIN})
    _expect(wrong, 4, "2 tries are left")
    right = stage.workplace.sign_in(secrets={"--pin-fd": PIN})
    _expect(right, 0, "AAL3")
    listed = stage.workplace.must("card", "list")
    _expect(listed, 0, "3 tries left")
    return Scene(title=title, ran=(wrong, right, listed), moral="The right PIN gave all tries back: nothing was lost.")


def _pulled(stage: Stage, title: str) -> Scene:
    stage.slot.faults.arm(Fault(action=Action.PULL_UNANSWERED, ins=INS.GENERAL_AUTHENTICATE))
    pulled = stage.workplace.sign_in(secrets={"--pin-fd": PIN})
    _expect(pulled, 3, "taken out")
    stage.slot.faults.disarm()
    stage.slot.start()
    again = stage.workplace.sign_in(secrets={"--pin-fd": PIN})
    _expect(again, 0, "AAL3")
    return Scene(title=title, ran=(pulled, again), moral="Inserted again, it works: no restart, no try lost.")


def _password(stage: Stage, title: str) -> Scene:
    alone = stage.workplace.sign_in("--user", USER, secrets={"--password-fd": PASSWORD})
    _expect(alone, 6, "authenticator-app code")
    code = pyotp.TOTP(stage.totp_secret).at(datetime.now(UTC))
    both = stage.workplace.sign_in("--user", USER, secrets={"--password-fd": PASSWORD, "--code-fd": code})
    _expect(both, 0, "AAL2")
    return Scene(
        title=title,
        ran=(alone, both),
        moral="A password alone proves too little: the challenge that the card made needless is asked for.",
    )


def _register_key(stage: Stage, title: str) -> Scene:
    place = stage.workplace
    stage.slot.stop()
    stage.plug_key_in()
    code = place.must_json("server", "user", "enrolment-code", USER)["code"]
    listed = place.must("key", "list")
    registered = place.at_site(
        "key", "register", options=("--by-code", "--user", USER, "--name", "blue key"),
        secrets={"--enrolment-code-fd": code, "--new-pin-fd": KEY_PIN},
    )  # fmt: skip
    _expect(registered, 0, "AAL3", "Recovery codes")
    link = "a HID device of the kernel's" if stage.kernel_knows_key else IN_PROCESS
    moral = f"The key had no PIN: it got one on the way. It is {link}."
    return Scene(title=title, ran=(listed, registered), moral=moral)


IN_PROCESS = "plugged in by a socket, since this kernel has no /dev/uhid; `make hw-test` shows it on a real kernel"


def _key(stage: Stage, title: str) -> Scene:
    ran = stage.workplace.sign_in(secrets={"--pin-fd": KEY_PIN})
    _expect(ran, 0, "AAL3", "no text message or app code needed")
    info = stage.workplace.must("key", "info")
    return Scene(title=title, ran=(ran, info), moral="The same policy, the same answer: card or key, one PIN, no more.")


def _audit(stage: Stage, title: str) -> Scene:
    shown = stage.workplace.must("server", "audit", "--user", USER)
    _expect(shown, 0, "signed-in", "challenged")
    verified = stage.workplace.must("server", "audit", "--verify")
    return Scene(title=title, ran=(shown, verified), moral="Each line holds the hash of the one before it.")


def _expect(ran: Ran, code: int, *words: str) -> None:
    missing = [word for word in words if word not in ran.output]
    if ran.code != code or missing:
        raise DemoFailed(
            f"`{ran.typed}` ended with {ran.code} (expected {code}); missing in its output: {missing or 'nothing'}.",
            next_step=ran.output,
        )
