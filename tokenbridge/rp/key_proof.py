"""From a good signature of a key to a proof: which factors it stands for. Grading is `assurance`'s."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from tokenbridge.rp.key_assertion import Signed
from tokenbridge.rp.key_models import Standing
from tokenbridge.rp.proof import Factor, Method, Proof

# FIDO registry of predefined values, section 3.1: user verification methods.
_BIOMETRIC: Final = 0x02 | 0x08 | 0x10 | 0x40 | 0x100  # fingerprint, voice, face, eye, hand
_SECRET: Final = 0x04 | 0x80 | 0x800 | 0x1000  # passcode and pattern, on the device or outside


def proof_of(
    signed: Signed, standing: Standing, *, credential: str, aaguid: bytes, synced: bool, at: dt.datetime
) -> Proof:
    """`credential` names the key stably; `synced`: it may be on more than one device (its backup eligibility)."""
    factors = {Factor.POSSESSION}
    if signed.user_verified:
        factors |= verified_by(signed.uvm, standing)
    return Proof(
        method=Method.KEY,
        factors=frozenset(factors),
        hardware_bound=standing.attested and standing.hardware and not synced,
        phishing_resistant=True,
        user_verified=signed.user_verified,
        user_present=True,
        synced=synced,
        credential=credential,
        aaguid=aaguid,
        at=at,
    )


def verified_by(uvm: Sequence[int] | None, standing: Standing) -> frozenset[Factor]:
    """PIN or fingerprint: the flags do not say. What the key signed (`uvm`) goes first, then the model's metadata if it
    leaves no choice; else it is taken for a PIN, which every key with a fingerprint reader has as well."""
    told = frozenset(
        factor
        for factor, bits in ((Factor.INHERENCE, _BIOMETRIC), (Factor.KNOWLEDGE, _SECRET))
        if any(way & bits for way in uvm or ())
    )
    if told:
        return told
    ways = set(standing.verified_by)
    return ways.pop() if len(ways) == 1 else frozenset({Factor.KNOWLEDGE})
