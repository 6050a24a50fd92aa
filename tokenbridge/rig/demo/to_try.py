"""What to try in a demo that was kept, in an order that makes a story, for people who read no code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tokenbridge.rig.demo import tools
from tokenbridge.rig.demo.stage import ADMINISTRATOR, KEY_PIN, MAIL_PROGRAM, NEWCOMER, PIN, Stage
from tokenbridge.rig.demo.workstation import Workstation

PEOPLE: Final = ("username,display_name,email", "nina,Nina Nurse,nina@example.org")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`text` is a paragraph of any length; `typed` are lines to copy as they are."""

    title: str
    text: str
    typed: tuple[str, ...] = ()


def to_try(stage: Stage) -> Iterator[Step]:
    """In this order."""
    yield Step(
        title="First day",
        text=f"Sign in as {NEWCOMER}, scan the QR code with any authenticator app, and keep the recovery codes. "
        "No phone at hand? The program oathtool takes the key that the page shows, and gives the codes as well:",
        typed=("oathtool --totp --base32 KEY",),
    )
    yield Step(
        title="More ways to sign in",
        text="Under Self-Service, set up a phone number (07400 123456) and the phone app.",
    )
    yield from _card(stage.workstation)
    yield _key(stage)
    yield Step(
        title="Sign out, and in by each",
        text="App, WhatsApp, text message, voice call (press # or * on the test phone), phone app, recovery code, key, "
        "card. Each time one sentence says what was used, or why nothing more was asked. After * calls and the phone "
        "app rest for half an hour; the other ways do not.",
    )
    yield Step(
        title="Mail programs",
        text=f"They can't ask for a second step. Self-Service, App passwords: make one for the program {MAIL_PROGRAM}. "
        "Then ask as a mail server would, before and after you revoke it:",
        typed=(f"{tools.mail_check_file(stage)} {NEWCOMER} 'APP PASSWORD'",),
    )
    yield Step(
        title="A strange computer",
        text="Sign in with the card in a private window: there it is not enough by itself, and the page says why. The "
        "test phone gets an e-mail; answer it under Recent activity, Was this you?",
    )
    yield Step(
        title="Forgotten your password?",
        text="On the sign-in page. It takes a code that you have, and one more method.",
    )
    yield Step(
        title="Lost your phone, key or card?",
        text="On the sign-in page too. Sign in with what is left, remove what is lost, and set up anew.",
    )
    yield from _administration()


def _administration() -> Iterator[Step]:
    yield Step(
        title="Administration: the policy",
        text=f"Sign in as {ADMINISTRATOR} in a private window, and open Administration, Policy, Edit the policy. Add "
        "this line at the end, check, apply: now an app's code is too little for everybody. Then put the old one back.",
        typed=("aal = 3",),
    )
    yield Step(
        title="Administration: accounts",
        text="Accounts, Import: paste these lines and choose enrolment codes. With her code Nina chooses Set up your "
        "account with a one-time code on the sign-in page. Then find somebody, and reset what was lost.",
        typed=PEOPLE,
    )
    yield Step(
        title="Administration: what happened",
        text="Dashboard: challenges suppressed against challenges shown. Audit trail: search, save as JSON lines.",
    )


def _card(place: Workstation | None) -> Iterator[Step]:
    """By the door where it is open, and by the link."""
    by_link = f"tokenbridge hand-over 'ADDRESS' --no-open   # PIN {PIN}; see In a terminal"
    copy = "copy the address of the button Open tokenbridge into this command, and open what it prints in that browser:"
    if place is not None and place.door_is_open:
        yield Step(
            title="A card",
            text="Self-Service, Security keys and cards, Add a smartcard. The page finds the bridge by itself (by its "
            f"loopback door) in a browser on this computer. {_who_answers(place)} In any other browser, {copy}",
            typed=(by_link,),
        )
        return
    yield Step(
        title="A card",
        text=f"Self-Service, Security keys and cards, Add a smartcard. There {copy}",
        typed=(by_link,),
    )
    if place is not None:
        yield Step(
            title="A card, by the door",
            text="An administrator of this computer can let the page find the bridge by itself (by its loopback door), "
            f"without copying. {_who_answers(place)} After these, status says that the door is open:",
            typed=(place.opening, "tokenbridge daemon stop; tokenbridge status"),
        )


def _who_answers(place: Workstation) -> str:
    if place.has_window:
        return f"A window asks for the PIN, {PIN}."
    return f"No window can open here, so the demo agrees and types the PIN, {PIN}, for you."


def _key(stage: Stage) -> Step:
    where = "Self-Service, Security keys and cards, Register a security key. "
    if stage.kernel_knows_key:
        return Step(title="A key", text=f"{where}The demo's is plugged in (PIN {KEY_PIN}).")
    return Step(
        title="A key",
        text=f"{where}Take one of your own: the browser can't see the demo's, as this kernel has no /dev/uhid. Or "
        "one of Chromium's: developer tools (F12), More tools, WebAuthn, Enable virtual authenticator environment.",
    )
