"""Attestation statements: none, packed by the credential's own key, packed by the batch's (WebAuthn section 8)."""

from __future__ import annotations

from typing import Any

from tokenbridge.authenticator.core import Core
from tokenbridge.authenticator.memory import Credential
from tokenbridge.authenticator.ports import AttestationKey
from tokenbridge.authenticator.profile import AttestationFormat
from tokenbridge.authenticator.steps import Steps, slowly


def attest(core: Core, credential: Credential, data: bytes, client_data_hash: bytes) -> Steps[tuple[str, Any]]:
    """Format and statement over authenticator data and client data hash."""
    signed = data + client_data_hash
    batch = core.world.attestation
    match core.profile.attestation:
        case AttestationFormat.NONE:
            return "none", {}
        case AttestationFormat.PACKED_BATCH if batch is not None:
            return "packed", (yield from _by_batch(batch, signed))
        case _:
            store = core.world.store
            signature = yield from slowly(lambda: store.sign(credential.handle, credential.algorithm, signed))
            return "packed", {"alg": int(credential.algorithm), "sig": signature}


def _by_batch(batch: AttestationKey, signed: bytes) -> Steps[dict[str, Any]]:
    signature = yield from slowly(lambda: batch.sign(signed))
    return {"alg": int(batch.algorithm), "sig": signature, "x5c": list(batch.certificates)}
