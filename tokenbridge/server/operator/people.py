"""Accounts, their passwords, apps and cards, as an operator changes them."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass

from tokenbridge.errors import BadRequest, Rejected, RejectReason, Undecided
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import RevocationData, sources_for
from tokenbridge.rp.proof import Method
from tokenbridge.server import card_evidence, passwords, revocation, suspending, totp, trust
from tokenbridge.server.administration import acts
from tokenbridge.server.operator.office import Office
from tokenbridge.server.operator.telling import telling
from tokenbridge.server.revocation import RevocationFetcher, Source
from tokenbridge.server.store import accounts, anchors, cards, enrolment, sessions
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.schema import Account, EnrolledCertificate
from tokenbridge.server.store.suspensions import Kind, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A new authenticator-app secret, to be shown once."""

    username: str
    secret: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """An enrolled certificate, and what the check against the trust anchors said."""

    card: EnrolledCertificate
    checked: bool
    anchor: str
    remark: str


def add(office: Office, new: NewAccount, password: str | None) -> Account:
    """Raises `BadRequest` for an unfit name, identifier or password."""
    encoded = passwords.hash_password(password) if password is not None else None
    with office.database.write() as tx:
        values = {name: getattr(new, name) for name in new.__slots__}
        account = accounts.add(tx, NewAccount(**{**values, "password_hash": encoded}), office.now())
        office.record(tx, "user-added", account.username)
    return account


def listed(office: Office) -> list[tuple[Account, frozenset[str]]]:
    """Every account with its methods beside the password."""
    with office.database.read() as tx:
        everybody = accounts.everybody(tx)
        return [(account, frozenset(map(str, accounts.enrolled(tx, account.id)))) for account in everybody]


def set_password(office: Office, username: str, password: str) -> None:
    """Change a password; every session of the account ends, and an enrolment code that is out is void."""
    encoded = passwords.hash_password(password)
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        account.password_hash = encoded
        enrolment.void(tx, account.id)
        ended = sessions.end_all(tx, account.id, office.now())
        office.record(tx, "password-set", account.username, sessions_ended=ended)
    with telling(office) as notices:
        notices.password_changed(account)


def set_disabled(office: Office, username: str, *, disabled: bool) -> None:
    """Disable or enable an account; disabling ends its sessions and voids an enrolment code that is out."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        ended = acts.switch(tx, account, office.now(), disabled=disabled)
        event = "user-disabled" if disabled else "user-enabled"
        office.record(tx, event, account.username, sessions_ended=ended)


def new_app(office: Office, username: str) -> App:
    """Make a new authenticator-app secret; one that was there is replaced."""
    secret = totp.new_secret()
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        sealed = office.ring.encrypt(secret.encode(), context=totp.context(account.id))
        accounts.set_totp(tx, account.id, sealed, office.now())
        office.record(tx, "method-added", account.username, method=str(Method.TOTP))
    with telling(office) as notices:
        notices.added(account, Method.TOTP)
    uri = totp.uri(secret, username=account.username, issuer=office.settings.name)
    return App(username=account.username, secret=secret, uri=uri)


def revoke_sessions(office: Office, username: str) -> int:
    """End every session of an account; returns how many."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        ended = sessions.end_all(tx, account.id, office.now())
        office.record(tx, "sessions-revoked", account.username, sessions_ended=ended)
    return ended


# --- cards -----------------------------------------------------------------------------------------------------


def choose(found: list[bytes], fingerprint: str = "") -> Certificate:
    """The one certificate that is meant for signing in. Raises `BadRequest` when it is not clear which."""
    parsed = [Certificate.parse(der) for der in found]
    if fingerprint:
        fit = [cert for cert in parsed if cert.fingerprint.startswith(fingerprint.lower().replace(":", ""))]
    else:
        fit = [cert for cert in parsed if _usable(cert)] if len(parsed) > 1 else parsed
    if len(fit) == 1:
        return fit[0]
    names = "; ".join(f"{cert.fingerprint[:16]} {cert.subject}" for cert in parsed)
    raise BadRequest(
        f"{len(fit)} of {len(parsed)} certificates fit, one is needed: {names}",
        next_step="Name one with --fingerprint.",
    )


def _usable(certificate: Certificate) -> bool:
    try:
        certificate.check_usage()
    except Rejected:
        return False
    return True


def enrol(office: Office, username: str, certificate: Certificate, label: str, *, unchecked: bool = False) -> Enrolled:
    """Bind a certificate to an account, after checking it against the trust anchors.

    Raises `Rejected` when it could not sign in today, unless `unchecked`; doubts about revocation are only remarked.
    """
    checked, anchor, remark = _check(office, certificate, unchecked=unchecked)
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        new = cards.NewCard(
            marks=card_evidence.marks(certificate, None),
            certificate=certificate.der,
            subject=certificate.subject,
            label=label,
        )
        row = cards.add(tx, account.id, new, office.now())
        office.record(
            tx, "card-enrolled", account.username, fingerprint=row.fingerprint, subject=row.subject, checked=checked
        )
    with telling(office) as notices:
        notices.added(account, Method.CARD)
    return Enrolled(card=row, checked=checked, anchor=anchor, remark=remark)


def _check(office: Office, certificate: Certificate, *, unchecked: bool) -> tuple[bool, str, str]:
    with office.database.read() as tx:
        known = trust.build(anchors.listed(tx))
    fetched = asyncio.run(_fetch(certificate, known))
    try:
        return True, card_evidence.check_now(certificate, known, fetched, office.now()), ""
    except Undecided as doubt:
        return False, "", doubt.message
    except Rejected as err:
        if not unchecked:
            if err.reason is RejectReason.ISSUER_UNKNOWN:
                err.hint = "Add its issuer with `tokenbridge server trust add`, then enrol the card."
            raise
        return False, "", err.message


async def _fetch(certificate: Certificate, known: trust.Trust) -> RevocationData:
    found = sources_for(certificate, known.store)
    fetcher = RevocationFetcher(revocation.client(), lambda: dt.datetime.now(dt.UTC))
    try:
        ocsp = [Source(item.url, item.request) for item in found.ocsp]
        return await fetcher.fetch([*map(Source, found.crl_urls), *ocsp])
    finally:
        await fetcher.close()


def cards_of(office: Office, username: str | None) -> list[tuple[EnrolledCertificate, str]]:
    with office.database.read() as tx:
        account = accounts.get(tx, username) if username else None
        return cards.listed(tx, account.id if account else None)


def remove_card(office: Office, card_id: int) -> None:
    """Raises `BadRequest` when there is no such card."""
    with office.database.write() as tx:
        found = next((pair for pair in cards.listed(tx) if pair[0].id == card_id), None)
        if found is None:
            raise BadRequest(f"There is no enrolled card {card_id}.", next_step="See `tokenbridge server card list`.")
        fingerprint, account, known = found[0].fingerprint, accounts.get(tx, found[1]), trust.build(anchors.listed(tx))
        device = suspending.find(tx, account, known, Ref(Kind.CARD, str(card_id)))
        assert device is not None
        suspending.remove(tx, account, device, known, office.now())
        office.record(tx, "card-removed", account.username, fingerprint=fingerprint)
    with telling(office) as notices:
        notices.removed(account, Method.CARD)
