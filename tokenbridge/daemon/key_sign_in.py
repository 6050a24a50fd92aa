"""A security key's part of a sign-in: from the site's options to the signed answer."""

from __future__ import annotations

from collections.abc import Sequence

from tokenbridge.daemon.devices import Devices
from tokenbridge.daemon.key_dialogue import KeyDialogue
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.steps import Event, KeySigned, KeyUnknown, UseKey
from tokenbridge.errors import Cancelled, NoCredential
from tokenbridge.fido import sign_in, verification
from tokenbridge.fido.request import assertion_request
from tokenbridge.fido.sign_in import Assertion
from tokenbridge.interaction import Option, PinRequest


async def use(devices: Devices, interaction: StreamInteraction, origin: str, effect: UseKey) -> Event:
    """`KeySigned` by one of the keys that `effect` names, or `KeyUnknown`. Raises `TokenbridgeError`."""
    request = assertion_request(effect.options, origin)
    asks = PinRequest(purpose="sign-in", rp_name=effect.offer.name, origin=origin, program=effect.program)
    dialogue = KeyDialogue(devices, interaction, asks)
    async with dialogue.one_of([devices.key(path) for path in effect.keys]) as key:
        try:
            found = await dialogue.verified(
                key,
                lambda facts: verification.to_sign_in(facts, request.verification),
                lambda session, how, pin: sign_in.sign(session, request, how, pin),
            )
        except NoCredential as err:
            return KeyUnknown(key=key.place.path, error=err)
    return KeySigned(credential=(await _one_account(interaction, found)).response)


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
