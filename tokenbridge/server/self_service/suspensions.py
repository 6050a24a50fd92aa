"""People suspend a card or key of their own at once, and put it back later. It blocks.

Who is signed in may suspend, however weakly and long ago: it can be undone, and a loss does not wait. Putting it back
asks what removing it would, and counts what is suspended: a session with less gains nothing (SP 800-63B-4, loss of an
authenticator).
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.errors import BadRequest, LastFactor, NotFound
from tokenbridge.server import suspending
from tokenbridge.server.changes import Changes
from tokenbridge.server.method_setup import CORE
from tokenbridge.server.methods.recovery import new_set
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import accounts, recovery
from tokenbridge.server.store.suspensions import Ref
from tokenbridge.server.suspending import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """`codes`: new recovery codes, to be shown once. `bare`: nothing but the password is left, and `recovery_left`
    codes of a set that was there."""

    names: tuple[str, ...]
    issuers: tuple[str, ...]
    sessions_ended: int
    codes: tuple[str, ...]
    bare: bool
    recovery_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspensions:
    """`NoSession` is raised everywhere."""

    changes: Changes
    notices: Notices

    def look(self, session_token: str, ref: Ref) -> Device:
        """Raises `NotFound`."""
        bar = self.changes.rule.current()
        with self.changes.looking(session_token) as (tx, live):
            return _known(suspending.find(tx, live.account, bar.trust, ref))

    def recognised(self, session_token: str) -> tuple[Device, ...]:
        """Cards that sign in by their issuers' word, or would."""
        bar = self.changes.rule.current()
        with self.changes.looking(session_token) as (tx, live):
            return tuple(suspending.recognised(tx, live.account, bar.trust))

    def suspend(
        self,
        session_token: str,
        chosen: frozenset[str],
        request: str,
        *,
        new_codes: bool = False,
        confirmed: bool = False,
    ) -> Suspended:
        """Suspend what is chosen, by `str(ref)`, and end other sessions that were opened with it. Where nothing but the
        password is left, or with `new_codes`, a session that may change the account gets new recovery codes.

        Raises `BadRequest` when nothing is chosen that is in use, and `LastFactor` when nothing at all would be left,
        unless that is `confirmed`."""
        bar, now = self.changes.rule.current(), self.changes.clock()
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            account = live.account
            own = suspending.devices(tx, account, bar.trust)
            found = [device for device in own if str(device.ref) in chosen and device.since is None]
            if not found:
                raise BadRequest("Choose what shall be suspended.", next_step="Choose at least one card or key.")
            issuers = tuple(device.issuer for device in found if device.issuer)
            may_change = bar.refusal(tx, live, now) is None
            ended = suspending.suspend(tx, account, found, now, keep=live.id)
            if account.password_hash is None and not suspending.any_left(tx, account, bar.trust) and not confirmed:
                raise LastFactor(
                    "Nothing would be left that signs you in.",
                    next_step="If it has to be, confirm it: only your IT service desk can then let you in again.",
                )
            for device in found:
                self.changes.record(tx, f"{device.method}-suspended", live, request, name=device.name)
            for issuer in issuers:
                self.changes.record(tx, "reported", live, request, detail=f"lost: a card of {issuer}")
            if ended:
                self.changes.record(tx, "signed-out-elsewhere", live, request, sessions_ended=ended)
            bare = not accounts.enrolled(tx, account.id) & CORE and not suspending.any_left(tx, account, bar.trust)
            useful = may_change and account.password_hash is not None
            codes = new_set(tx, account.id, now) if useful and (new_codes or bare) else ()
            if codes:
                self.changes.record(tx, "recovery-codes-made", live, request)
            left = recovery.left(tx, account.id)
        names = tuple(device.name for device in found)
        self.notices.suspended(account, ", ".join(names))
        return Suspended(names=names, issuers=issuers, sessions_ended=ended, codes=codes, bare=bare, recovery_left=left)

    def may_lift(self, session_token: str, ref: Ref, request: str) -> Device:
        """Whether that could be done now. Raises as `lift`."""
        bar = self.changes.rule.current()
        with self.changes.permitted(session_token, "lift a suspension", request) as (tx, live):
            return _known(suspending.find(tx, live.account, bar.trust, ref))

    def lift(self, session_token: str, ref: Ref, request: str) -> None:
        """It signs in again; nothing happens when it did all the time. Raises `StepUp`, also for a session that was
        opened with what is suspended, and `NotFound`."""
        bar = self.changes.rule.current()
        with self.changes.permitted(session_token, "lift a suspension", request) as (tx, live):
            device = _known(suspending.find(tx, live.account, bar.trust, ref))
            lifted = suspending.lift(tx, live.account, device)
            if lifted:
                self.changes.record(tx, "suspension-lifted", live, request, name=device.name)
        if lifted:
            self.notices.lifted(live.account, device.name)


def _known(device: Device | None) -> Device:
    if device is None:
        raise NotFound("There is no such card or key in this account.", next_step="See the list of them.")
    return device
