"""Signing in with a key: what it is asked for, then its evidence, for which the challenge is spent first. It blocks."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenbridge.errors import NotAllowedNow, Rejected, RejectReason, UndecidedReason
from tokenbridge.rp.challenge import Challenge
from tokenbridge.rp.key_assertion import Assertion, Signed, check_request, verify_nothing, verify_signature
from tokenbridge.rp.key_models import Need, Standing
from tokenbridge.rp.key_options import Credential, Site, request_options
from tokenbridge.rp.key_proof import proof_of
from tokenbridge.rp.proof import Method, Proof
from tokenbridge.rp.refusals import refusal
from tokenbridge.rp.webauthn import AuthenticatorData, Expectation, to_base64url
from tokenbridge.server import login
from tokenbridge.server.judge import Shown, judge
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Done, Ledger, Moment
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.store import accounts, audit, security_keys
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.security_keys import Owned, Use
from tokenbridge.server.store.sign_ins import Pending

MAX_DETAIL: Final = 500

_FAKE_LENGTHS: Final = (64, 48, 64, 96)
_FAKE_TRANSPORTS: Final = (("usb",), ("nfc", "usb"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySite:
    """This server as keys know it; `seconds` is how long a request may take."""

    site: Site
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a sign-in begins with. `expected` as in `login.Started`."""

    expected: int | None = None
    credentials: tuple[Credential, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A key whose signature is good."""

    key: Owned
    signed: Signed
    standing: Standing
    judging: login.Judging


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySignIn:
    """Options before, verification after."""

    database: Database
    ledger: Ledger
    keys: KeyBook
    models: KeyModelBook
    policy: PolicyBook
    at: KeySite

    def offer(self, username: str | None) -> Offer:
        """The credentials to name. A name that has none gets made-up ones, by the same steps in the same time."""
        if username is None:
            return Offer()
        with self.database.read() as tx:
            account = accounts.find(tx, username)
            number = account.id if account is not None else login.NOBODY
            real = security_keys.offered(tx, number)
        made_up = self._made_up(accounts.normal(username))
        return Offer(expected=number, credentials=real or made_up)

    def options(self, challenge: Challenge, credentials: tuple[Credential, ...]) -> dict[str, Any]:
        """Request options for the first step of a sign-in."""
        return self._options(_first(challenge), credentials)

    def options_after(self, done: Done) -> dict[str, Any] | None:
        """Request options for a key as the second step, when it is one of the ways on."""
        state = done.state
        if not isinstance(state, login.AwaitingCode) or Method.KEY not in state.methods:
            return None
        with self.database.read() as tx:
            credentials = security_keys.offered(tx, state.account)
        return self._options(_second(done.pending.challenge), credentials)

    def present(self, token: str, raw: Mapping[str, Any], request: str) -> Done:
        """Spend the challenge and judge the assertion. Bad evidence ends the transaction: `Rejected`.

        Both in one transaction of the database: the challenge is spent for everybody else as soon as this one holds the
        sign-in, and a refusal is written down as well.
        """

        def judged(moment: Moment) -> login.Event:
            key: Owned | None = None
            try:
                assertion = Assertion.parse(raw)
                data = check_request(assertion, self._expectation(moment.pending))
                key = security_keys.find(moment.tx, assertion.unverified_credential_id)
                found = self._verify(moment, assertion, data, key)
            except Rejected as err:
                return _refused(err, key)
            return self._judged(moment, found)

        return self.ledger.advance(token, request, login.KeyPresented(), judged)

    def _options(self, challenge: bytes, credentials: tuple[Credential, ...]) -> dict[str, Any]:
        at = self.at
        return request_options(at.site, challenge, credentials, self.models.policy, seconds=at.seconds)

    def _verify(self, moment: Moment, assertion: Assertion, data: AuthenticatorData, key: Owned | None) -> _Found:
        """Until a signature is good every refusal is the same and takes as long: nobody learns which credentials exist.

        The audit trail keeps what was wrong.
        """
        if key is None:
            verify_nothing(assertion, data)
            raise _unknown(f"no such credential: {assertion.unverified_credential_id.hex()[:64]}")
        try:
            signed = verify_signature(assertion, data, key.registered)
        except Rejected as err:
            if err.reason is RejectReason.SIGNATURE_INVALID:
                raise _unknown(f"key {key.id}: {err.reason}") from err
            raise
        judging = _judging(moment)
        _check_owner(assertion, key, judging)
        standing = self.models.at(moment.tx, key.metadata).judge(key.make, moment.now)
        return _Found(key=key, signed=signed, standing=standing, judging=judging)

    def _expectation(self, pending: Pending) -> Expectation:
        second = isinstance(pending.state, login.AwaitingCode)
        challenge = _second(pending.challenge) if second else _first(pending.challenge)
        return Expectation(
            challenge=to_base64url(challenge),
            origin=pending.challenge.origin,
            rp_id=self.at.site.rp_id,
            user_verification=self.models.policy.user_verification is Need.REQUIRED,
        )

    def _judged(self, moment: Moment, found: _Found) -> login.Event:
        """Note the use, in the transaction of the verdict: of two with one counter, one is in doubt."""
        key, signed, judging = found.key, found.signed, found.judging
        who = moment.who(key.account_id)
        if who is None:
            return login.Refused(by=Method.KEY, reason=RejectReason.CREDENTIAL_UNKNOWN, detail="account removed")
        use = Use(key=key.id, counter=signed.counter, backed_up=signed.backed_up, user_verified=signed.user_verified)
        doubts = found.standing.doubts
        if not security_keys.used(moment.tx, use, moment.now):
            row = security_keys.get(moment.tx, key.id, key.account_id)
            if row is None:
                return login.Refused(by=Method.KEY, reason=RejectReason.CREDENTIAL_UNKNOWN, detail="key removed")
            if row.suspended_at is not None:
                # Whoever reads this has the key: its signature was good.
                detail = f"key {key.id} is suspended"
                return login.Refused(by=Method.KEY, reason=RejectReason.SUSPENDED, detail=detail, account=who.id)
            doubts = (*doubts, UndecidedReason.KEY_MAYBE_COPIED)
            self._warn(moment, who.username, found)
        proofs = () if doubts else (self._proof(moment, found),)
        shown = Shown(by=Method.KEY, proofs=(*judging.proofs, *proofs), doubts=(*judging.doubts, *doubts))
        return judge(self.policy.current(), shown, who, moment.circumstances(who.id), moment.now)

    def _proof(self, moment: Moment, found: _Found) -> Proof:
        key = found.key
        return proof_of(
            found.signed,
            found.standing,
            credential=f"key:{key.id}",
            aaguid=key.make.aaguid,
            synced=key.registered.backup_eligible,
            at=moment.now,
        )

    def _warn(self, moment: Moment, username: str, found: _Found) -> None:
        detail = {
            "key": found.key.id,
            "name": found.key.name,
            "detail": f"counter {found.signed.counter} after {found.key.sign_count}",
        }
        event = audit.Event(
            event="key-copied", account=username, sign_in=moment.pending.ref, request=moment.request, detail=detail
        )
        moment.record(event)

    def _made_up(self, name: str) -> tuple[Credential, ...]:
        """Credentials of nobody that look like others and stay the same for one name."""
        seed = bytes.fromhex(self.keys.ring().seal(b"made-up credentials:" + name.encode("utf-8", "replace")))
        count = 2 if seed[0] < 64 else 1
        return tuple(
            Credential(
                id=hashlib.shake_256(seed + bytes([number])).digest(_FAKE_LENGTHS[seed[1] % len(_FAKE_LENGTHS)]),
                transports=_FAKE_TRANSPORTS[seed[2] % len(_FAKE_TRANSPORTS)],
            )
            for number in range(count)
        )


def _refused(err: Rejected, key: Owned | None) -> login.Refused:
    """Bad evidence, for the machine and the audit trail."""
    return login.Refused(
        by=Method.KEY,
        reason=err.reason,
        message=err.message,
        next_step=err.hint,
        detail=err.detail[:MAX_DETAIL],
        account=key.account_id if key is not None else None,
    )


def _judging(moment: Moment) -> login.Judging:
    """The state that a presented key has led to."""
    if not isinstance(moment.state, login.Judging):
        raise NotAllowedNow
    return moment.state


def _unknown(detail: str) -> Rejected:
    return refusal(RejectReason.CREDENTIAL_UNKNOWN, detail)


def _check_owner(assertion: Assertion, key: Owned, judging: login.Judging) -> None:
    """Section 7.2 step 6: whose key it may be, and whose the key says it is when no credential was named."""
    if judging.account not in (None, key.account_id):
        raise _unknown(f"key {key.id} of another account than the one that was named")
    handle = assertion.unverified_user_handle
    if handle != key.handle and not (handle is None and judging.account is not None):
        raise _unknown(f"key {key.id}: the user handle is another account's")


def _first(challenge: Challenge) -> bytes:
    """The transaction's one nonce: a card and a key sign different things over it, and either spends it."""
    return b64decode(challenge.nonce)


def _second(challenge: Challenge) -> bytes:
    """A challenge of its own for a key after the password: the first may have been spent by then."""
    return hashlib.sha256(b"tokenbridge second step\0" + _first(challenge)).digest()
