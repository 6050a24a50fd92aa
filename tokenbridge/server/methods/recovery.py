"""Recovery codes as a fallback method: for those who have lost the rest."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.orm import Session

from tokenbridge.server import codes
from tokenbridge.server.methods.base import Case, Setup
from tokenbridge.server.store import recovery


def new_set(tx: Session, account_id: int, now: dt.datetime) -> tuple[str, ...]:
    """Ten new codes, to be shown once; older ones are void."""
    made = codes.new_set()
    recovery.replace(tx, account_id, (codes.hash_code(code, account=account_id) for code in made), now)
    return made


def first_set(tx: Session, account_id: int, now: dt.datetime) -> tuple[str, ...]:
    """As `new_set` for an account that has no codes left; nothing for others."""
    return () if recovery.left(tx, account_id) else new_set(tx, account_id, now)


class RecoveryMethod:
    def enrol(self, case: Case, _given: str) -> Setup:
        """A new set, which counts at once; older codes are void."""
        return Setup(shown={"recovery_codes": list(new_set(case.tx, case.account, case.now))})

    def check(self, case: Case, code: str) -> str:
        good = recovery.spend(case.tx, case.account, codes.hash_code(code, account=case.account), case.now)
        return "" if good else "wrong code, or used before"
