"""Why a key's evidence is refused, in sentences for people, each with its next step. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenbridge.errors import Rejected, RejectReason

_AGAIN: Final = "Start again; if it stays so, tell your IT service desk."
_OTHER: Final = "Use another key, or your other way to sign in."
_ADDRESS: Final = "Check the address in your browser. If it is right, tell IT: somebody may be in between."

_WORDS: Final[Mapping[RejectReason, tuple[str, str]]] = {
    RejectReason.MALFORMED: (
        "What the key's program sent can't be read.",
        "Update the browser or program, then retry.",
    ),
    RejectReason.CLIENT_DATA_TYPE: ("The key signed for another purpose than this.", _AGAIN),
    RejectReason.CHALLENGE_MISMATCH: ("The key answered another request than this one.", _AGAIN),
    RejectReason.ORIGIN_MISMATCH: ("The key signed for another address than this site's.", _ADDRESS),
    RejectReason.CROSS_ORIGIN: (
        "Another site has embedded this one; keys are not accepted there.",
        "Open this site in a window of its own.",
    ),
    RejectReason.RP_ID_MISMATCH: ("The key signed for another site than this.", _ADDRESS),
    RejectReason.USER_NOT_PRESENT: ("The key was not touched.", "Start again and touch the key when it blinks."),
    RejectReason.USER_NOT_VERIFIED: (
        "The key did not check who you are.",
        "Set a PIN on the key, or enrol a fingerprint, and start again.",
    ),
    RejectReason.BACKUP_STATE: ("The key says something about its backup that can't be right.", _OTHER),
    RejectReason.ALGORITHM_UNSUPPORTED: ("The key uses an algorithm that is not accepted here.", "Use another key."),
    RejectReason.ALGORITHM_WEAK: ("The key's own key pair is too weak.", "Use another key."),
    RejectReason.SIGNATURE_INVALID: ("The key's signature is wrong.", _AGAIN),
    RejectReason.CREDENTIAL_UNKNOWN: (
        "This key is not registered here, or not for this account.",
        "Use a key that you registered, or your other way to sign in.",
    ),
    RejectReason.CREDENTIAL_EXISTS: ("This key is registered already.", "Use it to sign in, or register another key."),
    RejectReason.FORMAT_UNSUPPORTED: ("The key proves its make in a way that is not known here.", "Use another key."),
    RejectReason.ATTESTATION_INVALID: ("What the key says about its make is not true.", "Use another key."),
    RejectReason.ATTESTATION_UNTRUSTED: (
        "Nobody who is trusted here vouches for the make of this key.",
        "Use a key of a make that your organisation accepts.",
    ),
    RejectReason.MODEL_REFUSED: (
        "Keys of this model are not accepted here.",
        "Use a key of a model that your organisation accepts.",
    ),
    RejectReason.MODEL_REVOKED: (
        "Keys of this model are known to be unsafe.",
        "Use another key, and ask your IT service desk to replace this one.",
    ),
    RejectReason.MODEL_LEVEL: (
        "Keys of this model are not certified highly enough.",
        "Use a key of a model that your organisation accepts.",
    ),
    RejectReason.ENROLMENT_CODE_WRONG: (
        "The user name or the enrolment code is wrong, or the code is used up or too old.",
        "Type both again with care, or ask your IT service desk for a new code.",
    ),
}


def refusal(reason: RejectReason, detail: str = "") -> Rejected:
    """The error for `reason`, with its sentence and next step; `detail` is for the log only."""
    sentence, step = _WORDS[reason]
    error = Rejected(reason, sentence, detail=detail)
    error.hint = step
    return error
