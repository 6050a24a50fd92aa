"""The vocabulary of a sign-in: states, events and effects, as frozen values. What leads where is in `ceremony`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tokenbridge.card.base import CardCertificate, CardSnapshot
from tokenbridge.daemon.site import Offer, Verdict
from tokenbridge.errors import TokenbridgeError
from tokenbridge.interaction import Option, PinRequest, Secret

PASSWORD: Final = "password"  # noqa: S105  the name of a method
TOTP: Final = "totp"
RECOVERY: Final = "recovery"
CARD: Final = "card"
KEY: Final = "key"
SMS: Final = "sms"
WHATSAPP: Final = "whatsapp"
NUMBER_MATCH: Final = "number-match"
VOICE: Final = "voice"
ANSWERABLE: Final = (PASSWORD, NUMBER_MATCH, TOTP, WHATSAPP, SMS, VOICE, RECOVERY)
"""Fallback methods that the bridge can ask for; a key is asked for otherwise."""
APPROVED_ELSEWHERE: Final = (NUMBER_MATCH, VOICE)
"""Of these, the ones that are answered on the telephone."""
STARTED_FIRST: Final = (WHATSAPP, SMS)
"""Of these, the ones for which the site sends a message before there is a code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the caller asked for: any device, or the card in `reader`, or the key that `key` names (serial or path).

    `username` set: sign in by password instead, unless `method` says that a key is meant: then it names the account,
    which keys without a memory of their own need.
    """

    origin: str
    program: str
    method: str = ""
    """"card", "key", "password", or "" for whatever the person presents."""
    reader: str = ""
    key: str = ""
    username: str = ""
    fallback: str = ""
    """The fallback method to use when the site names it among others."""
    removals: int = 0
    """How often a device has left so far: a loose contact must not keep a ceremony going for ever."""

    @property
    def wants_password(self) -> bool:
        return self.method == PASSWORD or (self.method == "" and bool(self.username))

    @property
    def wants_card(self) -> bool:
        return self.method in ("", CARD)

    @property
    def wants_key(self) -> bool:
        return self.method in ("", KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A card that fits, with the certificate that its usage chose."""

    snapshot: CardSnapshot
    certificate: CardCertificate


# --- states ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    wish: Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`last` is why the key that was there did not do: the answer if nothing else comes."""

    wish: Wish
    offer: Offer
    last: TokenbridgeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """At cards. `keys` are the paths of security keys that are there as well.

    `presented`: a card has just been inserted while a key was asked for, so the card is meant.
    """

    wish: Wish
    offer: Offer
    keys: tuple[str, ...] = ()
    presented: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    wish: Wish
    offer: Offer
    candidates: tuple[Candidate, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keying:
    """A dialogue with a security key is under way: touch, PIN, signature (`daemon.key_dialogue`).

    `verdict` is there when the site asks for the key as its further proof.
    """

    wish: Wish
    offer: Offer
    keys: tuple[str, ...]
    tried: tuple[str, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirming:
    """The last try is left: the person must agree to spend it."""

    wish: Wish
    offer: Offer
    candidate: Candidate
    last: TokenbridgeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    wish: Wish
    offer: Offer
    candidate: Candidate
    last: TokenbridgeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Also while a PIN is typed on the reader: declining there is declining, too."""

    wish: Wish
    offer: Offer
    candidate: Candidate
    last: TokenbridgeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    wish: Wish
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Proving:
    """The site wants a fallback method: `method` is being asked or checked."""

    wish: Wish
    offer: Offer
    method: str
    verdict: Verdict | None = None
    last: TokenbridgeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`verdict` of the site, or `error`."""

    verdict: Verdict | None = None
    error: TokenbridgeError | None = None


State: TypeAlias = (
    Opening | Waiting | Looking | Choosing | Keying | Confirming | Asking | Signing | Sending | Proving | Finished
)  # fmt: skip

# --- events ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceThere:
    """`fresh`: whether the offer lives long enough for a person to type a PIN."""

    readers: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    candidates: tuple[Candidate, ...]
    errors: tuple[TokenbridgeError, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The reader of the card that was chosen, or `KEY`."""

    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """The last try may be spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinTyped:
    """None: it will be typed on the reader."""

    pin: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretTyped:
    """`method`: what the site has really sent, where that is another one than was asked for; else empty."""

    username: str
    secret: Secret
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardGone:
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSigned:
    token: dict[str, str]
    snapshot: CardSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySigned:
    """`credential` is WebAuthn's AuthenticationResponseJSON."""

    credential: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUnknown:
    """The key at the path `key` has no credential for the site."""

    key: str
    error: TokenbridgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPin:
    """The card wants its other PIN; nothing was sent."""

    snapshot: CardSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """What was typed was not right, and the person may try again. `tries_left` is the card's new counter, if any."""

    error: TokenbridgeError
    tries_left: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """`keys` are the security keys that are plugged in at this moment."""

    verdict: Verdict
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    error: TokenbridgeError


Event: TypeAlias = (
    Opened | DeviceThere | Looked | Chosen | Agreed | PinTyped | SecretTyped | CardGone | TokenSigned | KeySigned
    | KeyUnknown | OtherPin | TryAgain | Decided | Failed
)  # fmt: skip

# --- effects ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Have the site open a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForDevice:
    """`without` are the paths of keys that have been tried."""

    offer: Offer
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    readers: tuple[str, ...]
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Choose:
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLastTry:
    request: PinRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPin:
    request: PinRequest
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    candidate: Candidate
    offer: Offer
    pin: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    offer: Offer
    token: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseKey:
    """Conduct a dialogue with one of `keys`; `program` asks for it."""

    offer: Offer
    options: Mapping[str, Any]
    keys: tuple[str, ...]
    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendKey:
    offer: Offer
    credential: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    snapshot: CardSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSecret:
    """Ask for the password (and whose) or the code."""

    method: str
    username: str
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForApproval:
    """Have the site ask the telephone, and wait until it has answered."""

    method: str
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    offer: Offer
    method: str
    username: str
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Whatever is asked of the person now is no longer wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    step: str
    facts: dict[str, object]


Effect: TypeAlias = (
    Open | WaitForDevice | Look | Choose | AskLastTry | AskPin | Sign | Send | UseKey | SendKey | Remember | AskSecret
    | WaitForApproval | Prove | Withdraw | Tell
)  # fmt: skip
Step: TypeAlias = tuple[State, tuple[Effect, ...]]
