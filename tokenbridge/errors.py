"""Every exception that crosses a package boundary, and nothing else.

    TokenbridgeError
      DeviceError                 NoDevice  DeviceRemoved  DeviceBusy(by)  AccessDenied  LinkFailed  TimedOut
                                  CardReset
        ServiceGone               a LinkFailed: pcscd is not running, or went away
      CardError                   CardUnsupported(atr)  BadCardData  NoUsableCertificate
        WrongKey                  a BadCardData: the key on the card is not its certificate's
        StatusError(sw)           PinWrong(tries_left)  PinBlocked  AppletMissing  ObjectMissing  NotPermitted
        PinUnfit                  refused before it was sent to the card: no try is spent
      SecurityKeyError            KeyStatus(status)  KeyUnsupported  BadKeyData  KeyNotTouched  KeyRefused  KeyFull
                                  CredentialExists  NoCredential  KeyVerificationWanted
        KeyUvFailed               the finger was not recognised; KeyUvBlocked: too often
        KeyPinWrong(tries_left)   KeyPinBlocked  KeyPinPaused  KeyPinMissing  KeyPinMustChange  KeyPinUnfit
        KeyResetTooLate           a key is reset in the first ten seconds after it was plugged in
      Cancelled(by)               user, caller or shutdown: not a failure, never logged as one
      RequestRefused              BadRequest  OriginRefused  NotAllowedNow  TooMany(seconds)
                                  NoSession  NotFound  BodyTooLarge  StepUp  FormStale  ClientUnknown
                                  PolicyRefuses  PhoneUnknown  NonceStale
        FileFaulty(faults)        a BadRequest: lines of a file are wrong, so nothing of it was taken
        Outdated                  a NotAllowedNow: somebody else was faster
        LastFactor                a NotAllowedNow: nothing but the password would be left
        CardOfAnother             a NotAllowedNow: a card that somebody else signs in with
        NotAnswered               a NotAllowedNow: the telephone has not answered yet
        MethodNotOffered          a NotAllowedNow: the decision did not name this method
        SendFailed(reason)        a message or a call did not get out
        NumberUnfit(reason)       a telephone number that can't be used
      Rejected(reason)            evidence is bad; the reason is an enum in the words of the standards
      Undecided(reason)           evidence could not be judged (revocation unreachable, stale)
      SetupError                  configuration, missing extra, missing permission; says what to do
        AlreadyRunning            one bridge per user
        PolicyInvalid(faults)     the policy file can't be used; the one before it stays in force
        DemoFailed                the demo did not go as it should
        DaemonUnavailable         the per-user bridge does not answer
        RelyingPartyUnavailable   the server does not answer

Each class has a stable `code`, a `retry` hint, a summary that may be shown to anybody, and a next step. `detail` is for
the log only. `docs/errors.md` is generated from this tree (`python -m tokenbridge.cli.docs`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum, unique
from typing import Any, ClassVar


@unique
class Retry(StrEnum):
    """Whether trying again can help."""

    NEVER = "never"
    AGAIN = "again"
    REPLUG = "after-replug"
    OTHER_DEVICE = "other-device"


class TokenbridgeError(Exception):
    """Root of the tree. Subclasses set the four class attributes; instances may be more exact."""

    code: ClassVar[str] = "internal"
    retry: Retry = Retry.NEVER
    summary: ClassVar[str] = "Something went wrong inside tokenbridge."
    next_step: ClassVar[str] = "See the log (`tokenbridge daemon logs`) and report it with the request id."

    def __init__(self, message: str | None = None, *, next_step: str | None = None, detail: str = "") -> None:
        self.message = message or self.summary
        self.hint = next_step or self.next_step
        self.detail = detail
        super().__init__(self.message)

    def fields(self) -> dict[str, Any]:
        """Data of this class that a program may want (tries left, status word ...); JSON types only."""
        return {}

    def as_dict(self) -> dict[str, Any]:
        """What outsiders get: code, safe message, next step, retry hint and `fields()`; never `detail`."""
        return {
            "code": self.code,
            "message": self.message,
            "next_step": self.hint,
            "retry": str(self.retry),
            **self.fields(),
        }


# --- devices ---------------------------------------------------------------------------------------------------


class DeviceError(TokenbridgeError):
    code = "device"
    retry = Retry.REPLUG
    summary = "The card or key could not be used."
    next_step = "Take it out, insert it again and retry."


class NoDevice(DeviceError):
    code = "no-device"
    retry = Retry.AGAIN
    summary = "No card was found."
    next_step = "Insert your card into the reader."


class DeviceRemoved(DeviceError):
    code = "device-removed"
    retry = Retry.AGAIN
    summary = "The card was taken out before it had finished. Taking it out costs no PIN try."
    next_step = "Insert the card again and retry."


class DeviceBusy(DeviceError):
    code = "device-busy"
    retry = Retry.AGAIN
    summary = "The card is held by another program."
    next_step = "Close the other program, or wait until it has finished, and retry."

    def __init__(self, message: str | None = None, *, by: str = "", detail: str = "") -> None:
        self.by = by
        super().__init__(message or (f"The card is held by {by}." if by else None), detail=detail)

    def fields(self) -> dict[str, Any]:
        return {"by": self.by}


class AccessDenied(DeviceError):
    code = "access-denied"
    retry = Retry.NEVER
    summary = "You are not allowed to use the smartcard service."
    next_step = "Ask IT to allow your account to reach pcscd (polkit rule), or sign in at the machine itself."


class LinkFailed(DeviceError):
    code = "link-failed"
    summary = "The card does not answer."


class ServiceGone(LinkFailed):
    code = "pcsc-service-gone"
    retry = Retry.AGAIN
    summary = "The smartcard service (pcscd) is not running."
    next_step = "Start it: `sudo systemctl start pcscd.socket`. tokenbridge carries on by itself when it is back."


class CardReset(DeviceError):
    code = "card-reset"
    retry = Retry.AGAIN
    summary = "Another program reset the card."
    next_step = "Start again."


class TimedOut(DeviceError):
    code = "timed-out"
    retry = Retry.AGAIN
    summary = "Time ran out."
    next_step = "Start again."


# --- cards -----------------------------------------------------------------------------------------------------


class CardError(TokenbridgeError):
    code = "card"
    retry = Retry.OTHER_DEVICE
    summary = "The card refused."
    next_step = "Try again; if it stays so, ask the people who issue cards."


class StatusError(CardError):
    """The card answered with a status word other than success (ISO 7816-4 section 5.6)."""

    code = "card-status"

    def __init__(self, message: str | None = None, *, sw: int, next_step: str | None = None, detail: str = "") -> None:
        self.sw = sw
        super().__init__(message, next_step=next_step, detail=detail or f"SW={sw:04X}")

    def fields(self) -> dict[str, Any]:
        return {"sw": f"{self.sw:04X}"}


class PinWrong(StatusError):
    code = "pin-wrong"
    retry = Retry.AGAIN
    summary = "The PIN is wrong."
    next_step = "Type it again with care."

    def __init__(self, *, tries_left: int, sw: int, what: str = "PIN") -> None:
        """`what` was wrong: the PIN or the PUK."""
        self.tries_left = tries_left
        tries = "1 try is" if tries_left == 1 else f"{tries_left} tries are"
        super().__init__(f"The {what} is wrong; {tries} left.", sw=sw)

    def fields(self) -> dict[str, Any]:
        return {**super().fields(), "tries_left": self.tries_left}


class PinBlocked(StatusError):
    code = "pin-blocked"
    retry = Retry.NEVER
    summary = "The card's PIN is blocked."
    next_step = "Unblock it with `tokenbridge card pin unblock` and the PUK, or ask the people who issue cards."


class AppletMissing(StatusError):
    code = "applet-missing"
    retry = Retry.OTHER_DEVICE
    summary = "This card has no PIV applet, so it can't be used to sign in here."
    next_step = "Insert a PIV card (NHS series 9 or later)."


class ObjectMissing(StatusError):
    code = "object-missing"
    retry = Retry.OTHER_DEVICE
    summary = "The card does not hold what was asked for."


class NotPermitted(StatusError):
    code = "not-permitted"
    summary = "The card does not permit this now."


class PinUnfit(CardError):
    code = "pin-unfit"
    retry = Retry.AGAIN
    summary = "That can't be a PIN of this card: it has 6 to 8 digits. It was not sent, so no try was spent."
    next_step = "Type 6 to 8 digits."


class CardUnsupported(CardError):
    code = "card-unsupported"
    summary = "This card is of a kind that tokenbridge can't use."

    def __init__(
        self, message: str | None = None, *, next_step: str | None = None, atr: str = "", detail: str = ""
    ) -> None:
        self.atr = atr
        super().__init__(message, next_step=next_step, detail=detail)

    def fields(self) -> dict[str, Any]:
        return {"atr": self.atr}


class BadCardData(CardError):
    code = "card-data"
    summary = "The card holds data that can't be right."
    next_step = "Ask the people who issue cards to check it."


class WrongKey(BadCardData):
    code = "card-key-mismatch"
    summary = "The key on the card does not belong to its certificate."


class NoUsableCertificate(CardError):
    code = "no-usable-certificate"
    summary = "The card has no certificate that can be used to sign in here."
    next_step = "See `tokenbridge card certs` for what is on the card and why each one does not fit."


# --- security keys ---------------------------------------------------------------------------------------------


class SecurityKeyError(TokenbridgeError):
    code = "key"
    retry = Retry.OTHER_DEVICE
    summary = "The security key refused."
    next_step = "Take it out, plug it in again and retry."


class KeyStatus(SecurityKeyError):
    """The key answered with a status other than success (CTAP 2.1 section 8.2)."""

    code = "key-status"

    def __init__(self, message: str | None = None, *, status: int, detail: str = "") -> None:
        self.status = status
        super().__init__(message, detail=detail or f"CTAP status {status:02X}")

    def fields(self) -> dict[str, Any]:
        return {"status": f"{self.status:02X}"}


class KeyPinWrong(SecurityKeyError):
    code = "key-pin-wrong"
    retry = Retry.AGAIN
    summary = "The security key's PIN is wrong."
    next_step = "Type it again with care."

    def __init__(self, *, tries_left: int | None = None, detail: str = "") -> None:
        self.tries_left = tries_left
        left = "" if tries_left is None else f"; {tries_left} {'try is' if tries_left == 1 else 'tries are'} left"
        super().__init__(f"The security key's PIN is wrong{left}.", detail=detail)

    def fields(self) -> dict[str, Any]:
        return {"tries_left": self.tries_left}


class KeyPinBlocked(SecurityKeyError):
    code = "key-pin-blocked"
    summary = "The security key's PIN is blocked: it was wrong too often."
    next_step = "Use another way to sign in. `tokenbridge key reset` makes the key usable again and erases it."


class KeyPinPaused(SecurityKeyError):
    code = "key-pin-paused"
    retry = Retry.REPLUG
    summary = "The PIN was wrong three times in a row. The security key takes no more until it is plugged in again."
    next_step = "Take the key out, plug it in again, and type the PIN with care."


class KeyPinMissing(SecurityKeyError):
    code = "key-pin-missing"
    retry = Retry.AGAIN
    summary = "The security key has no PIN yet, and this needs one."
    next_step = "Set one with `tokenbridge key pin set`."


class KeyPinMustChange(SecurityKeyError):
    code = "key-pin-must-change"
    retry = Retry.AGAIN
    summary = "The security key wants a new PIN before it goes on."
    next_step = "Change it with `tokenbridge key pin change`."


class KeyPinUnfit(SecurityKeyError):
    """Refused before it was sent, or by the key's own rules: no try is spent."""

    code = "key-pin-unfit"
    retry = Retry.AGAIN
    summary = "That can't be a PIN of this security key. No try was spent."
    next_step = "Type at least 4 characters, 63 bytes at most."


class KeyUvFailed(SecurityKeyError):
    code = "key-verification-failed"
    retry = Retry.AGAIN
    summary = "The security key did not recognise you."
    next_step = "Try your finger again, or use the key's PIN."


class KeyUvBlocked(KeyUvFailed):
    code = "key-verification-blocked"
    summary = "The security key takes no more fingers for now."
    next_step = "Use the key's PIN."


class KeyVerificationWanted(SecurityKeyError):
    code = "key-verification-wanted"
    retry = Retry.AGAIN
    summary = "The security key wants its PIN or your finger first."
    next_step = "Start again."


class KeyNotTouched(SecurityKeyError):
    code = "key-not-touched"
    retry = Retry.AGAIN
    summary = "The security key was not touched in time."
    next_step = "Start again, and touch the key when it blinks."


class KeyRefused(SecurityKeyError):
    code = "key-declined"
    retry = Retry.AGAIN
    summary = "It was declined on the security key."
    next_step = "Start again when you want to."


class CredentialExists(SecurityKeyError):
    code = "key-registered-already"
    summary = "This security key is registered for your account already."
    next_step = "Sign in with it, or plug in another key."


class NoCredential(SecurityKeyError):
    code = "key-not-registered"
    summary = "This security key is not registered at this site."
    next_step = "Plug in the key that you registered, or register this one: `tokenbridge key register URL`."


class KeyFull(SecurityKeyError):
    code = "key-full"
    summary = "The security key has no room for another credential."
    next_step = "Delete one you no longer need: `tokenbridge key credentials list`."


class KeyUnsupported(SecurityKeyError):
    code = "key-unsupported"
    summary = "This security key can't do that."
    next_step = "Use another key."


class BadKeyData(SecurityKeyError):
    code = "key-data"
    summary = "The security key answered with data that can't be right."
    next_step = "Take it out, plug it in again and retry; if it stays so, use another key."


class KeyResetTooLate(SecurityKeyError):
    code = "key-reset-too-late"
    retry = Retry.REPLUG
    summary = "A security key can only be reset in the first ten seconds after it was plugged in. Nothing was erased."
    next_step = "Take the key out, plug it in again and start the reset at once."


# --- people and callers ----------------------------------------------------------------------------------------


class Cancelled(TokenbridgeError):
    """A person, the caller or a shutdown ended it: not a failure, and never logged as one."""

    code = "cancelled"
    retry = Retry.AGAIN
    summary = "Cancelled."
    next_step = "Start again when you want to."

    def __init__(self, by: str = "user") -> None:
        self.by = by
        super().__init__()

    def fields(self) -> dict[str, Any]:
        return {"by": self.by}


class RequestRefused(TokenbridgeError):
    code = "refused"
    summary = "The request was refused."
    next_step = "Check what was asked for."


class BadRequest(RequestRefused):
    code = "bad-request"
    summary = "The request can't be understood."


class FileFaulty(BadRequest):
    """`faults` says for each bad line of a file what is wrong there."""

    code = "file-faulty"
    summary = "The file can't be used."
    next_step = "Mend these lines and try again."
    most_told: ClassVar[int] = 20

    def __init__(self, faults: Sequence[str]) -> None:
        told = list(faults[: self.most_told])
        more = f" ... and {len(faults) - len(told)} more" if len(faults) > len(told) else ""
        super().__init__(f"Nothing was imported: {'; '.join(told)}{more}")
        self.faults = tuple(faults)

    def fields(self) -> dict[str, Any]:
        return {"faults": list(self.faults[: self.most_told])}


class OriginRefused(RequestRefused):
    code = "origin-refused"
    summary = "The site says it is another one than the one that was asked. Nothing was signed."
    next_step = "Check the address. If it is right, tell IT: somebody may be in between."


class NotAllowedNow(RequestRefused):
    code = "not-allowed-now"
    summary = "That is not possible at this point."
    next_step = "Start the sign-in again."


class Outdated(NotAllowedNow):
    code = "outdated"
    retry = Retry.AGAIN
    summary = "Somebody has changed this since you opened it, so nothing was done."
    next_step = "Open it again, look at what is there now, and repeat your change."


class LastFactor(NotAllowedNow):
    code = "last-factor"
    summary = "This is the last thing that the account signs in with beside its password."
    next_step = "Register another key first, or confirm that it shall be removed all the same."


class CardOfAnother(NotAllowedNow):
    code = "card-of-another"
    summary = "This card belongs to somebody else, so it was not added."
    next_step = "Use your own card. If this is your own card, ask your IT service desk whose account it is in."


class MethodNotOffered(NotAllowedNow):
    code = "method-not-offered"
    retry = Retry.AGAIN
    summary = "That method does not complete this sign-in."
    next_step = "Use one of the methods that were offered."


class PhoneUnknown(RequestRefused):
    code = "phone-unknown"
    summary = "This phone is not set up here, or was removed."
    next_step = "Set it up again: sign in on a computer and open Self-Service, Phone app."


class NonceStale(RequestRefused):
    code = "nonce-stale"
    retry = Retry.AGAIN
    summary = "The request is too old, or was sent before."
    next_step = "Sign the request again, with a new nonce."


class NotAnswered(NotAllowedNow):
    code = "not-answered"
    retry = Retry.AGAIN
    summary = "The request on the telephone has not been answered yet."
    next_step = "Answer it on the telephone, then go on."


@unique
class NumberFault(StrEnum):
    """Why a telephone number can't be used."""

    NOT_A_NUMBER = "not-a-number"
    COUNTRY = "country"
    KIND = "kind"
    OFFICE = "office"
    NO_TEXT = "no-text"


class NumberUnfit(RequestRefused):
    code = "number-unfit"
    retry = Retry.AGAIN
    summary = "This telephone number can't be used."
    next_step = "Give the number of a mobile phone of your own."

    def __init__(self, reason: NumberFault, message: str | None = None, *, next_step: str | None = None) -> None:
        self.reason = reason
        super().__init__(message, next_step=next_step, detail=str(reason))

    def fields(self) -> dict[str, Any]:
        return {"reason": str(self.reason)}


@unique
class SendFault(StrEnum):
    """Why a message or a call did not get out."""

    NOT_SET_UP = "not-set-up"
    UNREACHABLE = "unreachable"
    LIMITED = "limited"
    RECIPIENT = "recipient"
    REFUSED = "refused"
    DAMAGED = "damaged"


_SEND_FAULTS: Mapping[SendFault, str] = {
    SendFault.NOT_SET_UP: "This server does not send messages of that kind.",
    SendFault.LIMITED: "The service that sends messages takes no more at the moment.",
    SendFault.RECIPIENT: "This number or address can't be reached that way.",
}


class SendFailed(RequestRefused):
    code = "send-failed"
    retry = Retry.AGAIN
    summary = "The message could not be sent."
    next_step = "Try again in a minute, or use another method."

    def __init__(self, reason: SendFault, *, detail: str = "") -> None:
        self.reason = reason
        super().__init__(_SEND_FAULTS.get(reason), detail=detail or str(reason))

    def fields(self) -> dict[str, Any]:
        return {"reason": str(self.reason)}


class StepUp(RequestRefused):
    code = "step-up"
    retry = Retry.AGAIN
    summary = "For this the session is too weak or too old."
    next_step = "Sign in with your card or key first, then try again within ten minutes."


class ClientUnknown(RequestRefused):
    code = "client-unknown"
    summary = "This program is not known here, or its password is wrong."
    next_step = "Give it the name and password that `tokenbridge server app-client add` printed."


class PolicyRefuses(RequestRefused):
    code = "policy-refuses"
    summary = "The policy does not let this in."
    next_step = "Ask your IT service desk."


class NoSession(RequestRefused):
    code = "no-session"
    summary = "You are not signed in, or the session has ended."
    next_step = "Sign in again."


class NotFound(RequestRefused):
    code = "not-found"
    summary = "There is nothing at this address."
    next_step = "Check the address against the API's description."


class FormStale(RequestRefused):
    code = "form-stale"
    retry = Retry.AGAIN
    summary = "This page is out of date: you have signed in or out since it was opened, or it was open for too long."
    next_step = "Go back, load the page again and repeat what you did."


class BodyTooLarge(RequestRefused):
    code = "too-large"
    summary = "The request is too large."
    next_step = "Send at most 16 kilobytes."


class TooMany(RequestRefused):
    """`seconds`: how long until it is let through again; None: waiting does not help, and `next_step` says what does.
    `instead` is another way than waiting, as the beginning of a sentence."""

    code = "too-many"
    retry = Retry.AGAIN
    summary = "Too many attempts."
    next_step = "Wait as long as `retry_after` says, or begin again where it is not there."

    def __init__(
        self,
        message: str | None = None,
        *,
        seconds: int | None = None,
        instead: str = "",
        next_step: str | None = None,
        detail: str = "",
    ) -> None:
        if seconds is not None:
            span = _span(seconds)
            next_step = f"{instead}, or try again in {span}." if instead else f"Wait {span}, then try again."
        super().__init__(message, next_step=next_step, detail=detail)
        self.retry_after = seconds

    def fields(self) -> dict[str, Any]:
        return {} if self.retry_after is None else {"retry_after": self.retry_after}


def _span(seconds: int) -> str:
    """In words, rounded up: who waits for so long has waited long enough."""
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{math.ceil(seconds / size)} {name}s"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


# --- evidence --------------------------------------------------------------------------------------------------


@unique
class RejectReason(StrEnum):
    """Why evidence was refused."""

    MALFORMED = "malformed"
    FORMAT_UNSUPPORTED = "format-unsupported"
    ALGORITHM_UNSUPPORTED = "algorithm-unsupported"
    ALGORITHM_WEAK = "algorithm-weak"
    KEY_MISMATCH = "key-mismatch"
    SIGNATURE_INVALID = "signature-invalid"
    CHALLENGE_UNKNOWN = "challenge-unknown"
    CHALLENGE_EXPIRED = "challenge-expired"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_YET_VALID = "certificate-not-yet-valid"
    CERTIFICATE_REVOKED = "certificate-revoked"
    CERTIFICATE_USAGE = "certificate-usage"
    CERTIFICATE_POLICY = "certificate-policy"
    ISSUER_UNKNOWN = "issuer-unknown"
    PATH_INVALID = "path-invalid"
    SUBJECT_UNKNOWN = "subject-unknown"
    SUSPENDED = "suspended"
    CREDENTIALS_WRONG = "credentials-wrong"
    CODE_WRONG = "code-wrong"
    ENROLMENT_CODE_WRONG = "enrolment-code-wrong"
    DECLINED = "declined"
    APPROVAL_FAILED = "approval-failed"
    CLIENT_DATA_TYPE = "client-data-type"
    CHALLENGE_MISMATCH = "challenge-mismatch"
    ORIGIN_MISMATCH = "origin-mismatch"
    CROSS_ORIGIN = "cross-origin"
    RP_ID_MISMATCH = "rp-id-mismatch"
    USER_NOT_PRESENT = "user-not-present"
    USER_NOT_VERIFIED = "user-not-verified"
    BACKUP_STATE = "backup-state"
    CREDENTIAL_UNKNOWN = "credential-unknown"
    CREDENTIAL_EXISTS = "credential-exists"
    ATTESTATION_INVALID = "attestation-invalid"
    ATTESTATION_UNTRUSTED = "attestation-untrusted"
    MODEL_REFUSED = "model-refused"
    MODEL_REVOKED = "model-revoked"
    MODEL_LEVEL = "model-level"


class Rejected(TokenbridgeError):
    """Evidence is bad."""

    code = "rejected"
    retry = Retry.NEVER
    summary = "The evidence was refused."
    next_step = "Try again; if it stays so, ask your IT service desk."

    def __init__(self, reason: RejectReason, message: str | None = None, *, detail: str = "") -> None:
        self.reason = reason
        super().__init__(message, detail=detail or str(reason))

    def fields(self) -> dict[str, Any]:
        return {"reason": str(self.reason)}


@unique
class UndecidedReason(StrEnum):
    """Why evidence could be neither accepted nor refused."""

    REVOCATION_UNREACHABLE = "revocation-unreachable"
    REVOCATION_STALE = "revocation-stale"
    REVOCATION_UNKNOWN = "revocation-unknown"
    NO_REVOCATION_SOURCE = "no-revocation-source"
    KEY_MAYBE_COPIED = "key-maybe-copied"
    METADATA_STALE = "metadata-stale"


_DOUBTS: Mapping[UndecidedReason, str] = {
    UndecidedReason.KEY_MAYBE_COPIED: "The key's counter did not grow: there may be a copy of this key.",
    UndecidedReason.METADATA_STALE: "It could not be checked whether this model of key is still good: "
    "the metadata is out of date.",
}


class Undecided(TokenbridgeError):
    """Evidence could not be judged. Policy must answer for it; the default answer is: no suppression."""

    code = "undecided"
    retry = Retry.AGAIN
    summary = "It could not be checked whether the certificate is still valid."
    next_step = "Use your other sign-in method, or try again later."

    def __init__(self, reason: UndecidedReason, message: str | None = None, *, detail: str = "") -> None:
        self.reason = reason
        super().__init__(message or _DOUBTS.get(reason), detail=detail or str(reason))

    def fields(self) -> dict[str, Any]:
        return {"reason": str(self.reason)}


# --- set-up ----------------------------------------------------------------------------------------------------


class SetupError(TokenbridgeError):
    code = "setup"
    summary = "tokenbridge is not set up for this."
    next_step = "See the message for what to do."


class PolicyInvalid(SetupError):
    """`faults` says for each place in the file what is wrong there."""

    code = "policy-invalid"
    summary = "The policy file can't be used."
    next_step = "Mend the file and run `tokenbridge policy check`. A running server keeps the policy that it has."
    most_told: ClassVar[int] = 20

    def __init__(self, faults: Sequence[str], *, file: str = "The policy") -> None:
        told = list(faults[: self.most_told])
        if len(faults) > len(told):
            told.append(f"and {len(faults) - len(told)} more")
        super().__init__(f"{file} can't be used: {'; '.join(told)}.")
        self.faults = tuple(faults)

    def fields(self) -> dict[str, Any]:
        return {"faults": list(self.faults[: self.most_told])}


class AlreadyRunning(SetupError):
    code = "already-running"
    summary = "The bridge is running already."
    next_step = "See `tokenbridge status`; stop it with `tokenbridge daemon stop`."


class DaemonUnavailable(SetupError):
    code = "daemon-unavailable"
    retry = Retry.AGAIN
    summary = "The bridge daemon does not answer."
    next_step = "Start it with `tokenbridge daemon run` and look at what it prints."


class DemoFailed(SetupError):
    code = "demo-failed"
    summary = "The demo did not go as it should."
    next_step = "Report this with the output above."


class RelyingPartyUnavailable(SetupError):
    code = "rp-unavailable"
    retry = Retry.AGAIN
    summary = "The site does not answer."
    next_step = "Check the address and your network, then retry."


# --- the tree as data ------------------------------------------------------------------------------------------


def tree(root: type[TokenbridgeError] = TokenbridgeError) -> Iterator[type[TokenbridgeError]]:
    """`root` and every class below it, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


class RemoteError(TokenbridgeError):
    """An error that another process reported; it keeps that process's code, message and fields."""

    code = "remote"

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)
        super().__init__(str(data.get("message", "")) or None, next_step=str(data.get("next_step", "")) or None)

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), **self.data}

    @property
    def remote_code(self) -> str:
        return str(self.data.get("code", self.code))
