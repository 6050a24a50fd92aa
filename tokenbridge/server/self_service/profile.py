"""What an account is and can sign in with, as its owner sees it; and turning on multi-factor sign-in. It blocks."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.proof import Method
from tokenbridge.server.changes import Changes
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import accounts, cards, recovery, roles


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    id: int
    name: str
    subject: str
    enrolled_at: dt.datetime
    last_used: dt.datetime | None
    suspended_at: dt.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`address` names the account: its e-mail, else its user name. `mfa_since` None: not turned on yet.
    `default` is what is asked for first; None: by the server's order."""

    username: str
    display_name: str
    email: str | None
    has_password: bool
    mfa_since: dt.datetime | None
    methods: frozenset[Method]
    recovery_left: int
    cards: tuple[CardView, ...]
    level: AAL
    sign_in_ref: str
    idle: dt.timedelta
    administers: bool
    default: Method | None
    expires_at: dt.datetime

    @property
    def address(self) -> str:
        return self.email or self.username

    @property
    def needs_method(self) -> bool:
        """Whether multi-factor sign-in is on and nothing but recovery codes is set up for it."""
        return self.mfa_since is not None and not self.methods - {Method.RECOVERY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """`NoSession` is raised everywhere."""

    changes: Changes
    notices: Notices

    def of(self, session_token: str) -> Profile:
        with self.changes.looking(session_token) as (tx, live):
            account = live.account
            have = accounts.enrolled(tx, account.id)
            return Profile(
                username=account.username,
                display_name=account.display_name,
                email=account.email,
                has_password=account.password_hash is not None,
                mfa_since=account.mfa_since,
                methods=have,
                recovery_left=recovery.left(tx, account.id),
                cards=tuple(
                    CardView(
                        id=row.id,
                        name=row.label or "Smartcard",
                        subject=row.subject,
                        enrolled_at=row.enrolled_at,
                        last_used=row.last_used,
                        suspended_at=row.suspended_at,
                    )
                    for row, _ in cards.listed(tx, account.id)
                ),
                level=AAL(int(live.assurance["aal"])),
                sign_in_ref=live.sign_in_ref,
                idle=live.idle,
                default=next((method for method in have if method == account.default_method), None),
                administers=bool(roles.of(tx, account.id)),
                expires_at=live.expires_at,
            )

    def may_change(self, session_token: str, what: str, request: str) -> None:
        """Whether a change could be made now: asked before somebody begins with it. Raises `StepUp` too."""
        with self.changes.permitted(session_token, what, request):
            pass

    def enable_mfa(self, session_token: str, request: str) -> None:
        """Turn multi-factor sign-in on; it stays as it is where it is on. Raises `StepUp` too."""
        with self.changes.permitted(session_token, "enable MFA", request) as (tx, live):
            if live.account.mfa_since is not None:
                return
            live.account.mfa_since = self.changes.clock()
            self.changes.record(tx, "mfa-enabled", live, request)
        self.notices.mfa_enabled(live.account)
