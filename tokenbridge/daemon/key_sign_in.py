"""A security key's part of a sign-in: from the site's options to the signed answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenbridge.daemon.devices import Devices
from tokenbridge.daemon.key_dialogue import KeyDialogue
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.site import Site
from tokenbridge.daemon.steps import UseKey
from tokenbridge.errors import Cancelled
from tokenbridge.fido import sign_in, verification
from tokenbridge.fido.request import assertion_request
from tokenbridge.fido.sign_in import Assertion
from tokenbridge.interaction import Option, PinRequest


async def sign(devices: Devices, interaction: StreamInteraction, site: Site, effect: UseKey) -> Mapping[str, Any]:
    """`AuthenticationResponseJSON` by one of the keys that `effect` names. Raises `TokenbridgeError`."""
    request = assertion_request(effect.options, site.origin)
    asks = PinRequest(purpose="sign-in", rp_name=effect.offer.name, origin=site.origin, program=effect.program)
    dialogue = KeyDialogue(devices, interaction, asks)
    async with dialogue.one_of([devices.key(path) for path in effect.keys]) as key:
        found = await dialogue.verified(
            key,
            lambda facts: verification.to_sign_in(facts, request.verification),
            lambda session, how, pin: sign_in.sign(session, request, how, pin),
        )
    return (await _one_account(interaction, found)).response


async def _one_account(interaction: StreamInteraction, found: Sequence[Assertion]) -> Assertion:
    """A key may hold credentials of several accounts at one site: the person says which."""
    if len(found) == 1:
        return found[0]
    options = {
        str(number): Option(id=str(number), label=item.account or f"account {number}", detail=item.display_name)
        for number, item in enumerate(found, 1)
    }
    chosen = await interaction.choose("Which account?", list(options.values()))
    if chosen not in options:
        raise Cancelled("user")
    return found[int(chosen) - 1]
