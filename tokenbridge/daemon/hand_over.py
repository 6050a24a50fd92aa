"""A sign-in that a page in the browser hands over to the bridge: the link, and the site as that ceremony sees it.

The session never comes here. What comes back is an address to open in the browser, where it counts only if the sign-in
was begun there: so a link that somebody else sent leads nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx

from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.runner import Bridge, SignIn
from tokenbridge.daemon.site import MAX_TEXT, Offer, Site, Verdict, offer_of, origin_of, path_part, verdict_of
from tokenbridge.daemon.steps import CARD, Wish
from tokenbridge.errors import BadRequest, Cancelled, OriginRefused, RelyingPartyUnavailable, TokenbridgeError
from tokenbridge.interaction import one_line

SCHEME: Final = "tokenbridge"
WHAT: Final = "hand-over"
MAX_LINK: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """`tokenbridge://hand-over?site=ORIGIN&id=ID`, as a page offers it."""

    origin: str
    id: str


def parse_link(text: str) -> Link:
    """Raises `BadRequest` for what is no such link."""
    try:
        if len(text) > MAX_LINK:
            raise ValueError("too long")
        parts = urlsplit(text)
        members = parse_qsl(parts.query, strict_parsing=True, max_num_fields=2)
        given = dict(members)
        if (parts.scheme, parts.netloc, parts.path.strip("/")) != (SCHEME, WHAT, "") or set(given) != {"site", "id"}:
            raise ValueError("another kind of link")
        return Link(origin=origin_of(given["site"]), id=path_part(given["id"]))
    except ValueError as err:
        raise BadRequest(
            "That is not a link to hand a sign-in over.",
            next_step="Choose the smartcard on the page where you want to sign in.",
            detail=repr(err),
        ) from err


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the person is shown before anything is signed. `account` and `device` as the page had them, or empty.
    `adds`: the card is to be added to that account; nobody is signed in by it."""

    name: str
    origin: str
    account: str
    device: str
    adds: bool = False

    @property
    def question(self) -> str:
        if self.adds:
            return f"Add your card to {self.account or 'an account'} at {self.name}?"
        return f"Sign in to {self.name}?"

    @property
    def consequence(self) -> str:
        where = f" {self.device}" if self.device else ""
        if self.adds:
            return (
                f"From then on your card signs in {self.account or 'that account'} at {self.origin}. "
                f"The browser{where} on this computer asks once more, and shows the card. "
                "Say no if you did not choose this in your browser a moment ago. Insert your card, then go on."
            )
        whom = f", as {self.account}" if self.account else ""
        return (
            f"The browser{where} on this computer will be signed in at {self.origin}{whom}. "
            "Say no if you did not choose this in your browser a moment ago. Insert your card, then go on."
        )


class HandOverSite(Site):
    """The site of one link. It takes a card, and what else is to be proved is proved in the browser."""

    def __init__(self, client: httpx.AsyncClient, link: Link) -> None:
        super().__init__(client, link.origin)
        self._id = link.id

    async def facts(self) -> Facts:
        """Raises as `open`."""
        data = await self._asked()
        offer = self._checked(data)
        return Facts(
            name=one_line(offer.name),
            origin=self.origin,
            account=one_line(str(data.get("account") or ""))[:MAX_TEXT],
            device=one_line(str(data.get("device") or ""))[:MAX_TEXT],
            adds=data.get("purpose") == "add-card",
        )

    async def open(self, username: str = "") -> Offer:  # noqa: ARG002  the page has asked for it
        return self._checked(await self._asked())

    async def send_card(self, transaction: str, token: Mapping[str, str]) -> Verdict:
        answer = await self.call("POST", f"/api/hand-over/{transaction}/card", {"token": dict(token)})
        found = verdict_of(answer)
        # Whatever is still to be proved, the browser asks for it.
        return Verdict(decision=found.decision, methods=(), data={**found.data, "continue": self._onward(answer)})

    async def cancel(self, transaction: str) -> None:
        """An offer that seems to end too soon is looked at again, not given up: it can't be replaced from here."""

    async def decline(self) -> None:
        """The person said no."""
        with contextlib.suppress(TokenbridgeError):  # it expires by itself
            await self.call("DELETE", f"/api/hand-over/{self._id}", None)

    async def _asked(self) -> Mapping[str, Any]:
        answer = await self.call("GET", f"/api/hand-over/{self._id}", None)
        if not isinstance(answer, dict):
            raise RelyingPartyUnavailable("The site's answer can't be understood.")
        return answer

    def _checked(self, data: Mapping[str, Any]) -> Offer:
        offer = offer_of(data)
        if offer.origin != self.origin or offer.transaction != self._id:
            raise OriginRefused(detail=f"asked {self.origin}, it says {offer.origin[:MAX_TEXT]!r}")
        return offer

    def _onward(self, answer: Mapping[str, Any]) -> str:
        """The address to open: one of the very site that asked, and nothing that a browser could read otherwise."""
        address = str(answer.get("continue") or "")
        path = address.removeprefix(f"{self.origin}/")
        if path == address or len(address) > MAX_LINK or not all(c.isalnum() or c in "-_/" for c in path):
            raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=address[:MAX_TEXT])
        return address


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """One hand-over, by whichever way the page reached the bridge. `program`: who asks, for the PIN prompt."""

    bridge: Bridge
    site: HandOverSite
    interaction: StreamInteraction
    program: str
    wait_seconds: float
    reader: str = ""

    async def run(self) -> Mapping[str, Any]:
        """What the site answered, with `continue`, the address to open. Raises `TokenbridgeError`.

        The person is told of a failure here: the page hears less of it, or nothing.
        """
        try:
            return await self._agreed()
        except Cancelled:
            await self.site.decline()
            raise
        except TokenbridgeError as err:
            with contextlib.suppress(TokenbridgeError):  # nothing must take the place of what went wrong
                await self.interaction.tell(f"It was not done. {err.message}\n\n{err.hint}")
            raise

    async def _agreed(self) -> Mapping[str, Any]:
        facts = await self.site.facts()
        await self.interaction.confirm(facts.question, facts.consequence)
        wish = Wish(origin=self.site.origin, program=self.program, method=CARD, reader=self.reader)
        sign_in = SignIn(self.bridge, self.site, self.interaction, wish, wait_seconds=self.wait_seconds)
        return dict((await sign_in.run()).data)
