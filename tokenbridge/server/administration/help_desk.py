"""What the help desk does for those who have lost something: the reset, after which a one-time code begins anew, and
suspending, lifting or removing one card or key. It blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tokenbridge.errors import NotFound
from tokenbridge.server import suspending
from tokenbridge.server.administration import acts
from tokenbridge.server.administration.account_changes import CODE_HOURS
from tokenbridge.server.administration.acts import Held, NewCode
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import sessions
from tokenbridge.server.store.suspensions import Kind, Ref
from tokenbridge.server.suspending import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpDesk:
    gate: Gate
    notices: Notices

    def reset(self, session_token: str, account_id: int, kinds: Collection[Held], request: str) -> NewCode:
        """Take away everything of `kinds`, end all sessions and make an enrolment code, to be shown once.

        The helper has shown a second factor in this session, and lately. Whoever is helped and the helper are on
        record. Raises `NoSession`, `NotFound`, `StepUp`, `NotAllowedNow`, and `BadRequest` for a disabled account.
        """
        now, trust = self.gate.changes.clock(), self.gate.changes.rule.trust.current()
        with self.gate.changing_one(session_token, Task.RESET, account_id, request) as (tx, by, account):
            if Held.CARDS in kinds:
                suspending.keep_out(tx, account, trust, now, tuple(suspending.cards_of(tx, account, trust)))
            removed = {str(kind): acts.remove(tx, account, kind, now) for kind in Held if kind in kinds}
            ended = sessions.end_all(tx, account.id, now)
            made = acts.new_code(tx, account, now, CODE_HOURS)
            expires = made.expires_at.isoformat()
            self.gate.record(
                tx, "account-reset", by, account, request, removed=removed, sessions_ended=ended, expires_at=expires
            )
        self.notices.reset(account)
        return made

    def device(self, session_token: str, account_id: int, ref: Ref, request: str) -> tuple[str, Device]:
        """One card or key of an account, and the account's name: asked before something is done about it. Raises as
        `reset`."""
        trust = self.gate.changes.rule.trust.current()
        with self.gate.changing_one(session_token, Task.RESET, account_id, request) as (tx, _, account):
            return account.username, _known(suspending.find(tx, account, trust, ref))

    def suspend(self, session_token: str, account_id: int, ref: Ref, request: str) -> None:
        """For somebody who has lost it; nothing happens when it is suspended already. Raises as `reset`."""
        now, trust = self.gate.changes.clock(), self.gate.changes.rule.trust.current()
        with self.gate.changing_one(session_token, Task.RESET, account_id, request) as (tx, by, account):
            device = _known(suspending.find(tx, account, trust, ref))
            if device.since is not None:
                return
            ended = suspending.suspend(tx, account, [device], now)
            event = f"{device.method}-suspended"
            self.gate.record(tx, event, by, account, request, name=device.name, sessions_ended=ended)
        self.notices.suspended(account, device.name)

    def lift(self, session_token: str, account_id: int, ref: Ref, request: str) -> None:
        """It signs in again. Raises as `reset`."""
        trust = self.gate.changes.rule.trust.current()
        with self.gate.changing_one(session_token, Task.RESET, account_id, request) as (tx, by, account):
            device = _known(suspending.find(tx, account, trust, ref))
            if not suspending.lift(tx, account, device):
                return
            self.gate.record(tx, "suspension-lifted", by, account, request, name=device.name)
        self.notices.lifted(account, device.name)

    def remove(self, session_token: str, account_id: int, ref: Ref, request: str) -> None:
        """Forget one key or enrolled card; the account's sessions end. Raises as `reset`, and `NotFound` for cards that
        are known by their issuer's word: there is nothing to forget."""
        now, trust = self.gate.changes.clock(), self.gate.changes.rule.trust.current()
        with self.gate.changing_one(session_token, Task.RESET, account_id, request) as (tx, by, account):
            device = _known(suspending.find(tx, account, trust, ref) if ref.kind is not Kind.ISSUER else None)
            suspending.remove(tx, account, device, trust, now)
            ended = sessions.end_all(tx, account.id, now)
            event = f"{device.method}-removed"
            self.gate.record(tx, event, by, account, request, name=device.name, sessions_ended=ended)
        self.notices.removed(account, device.method)


def _known(device: Device | None) -> Device:
    if device is None:
        raise NotFound("There is no such card or key in this account.", next_step="Look at the account again.")
    return device
