"""Recovery codes as a fallback method: for those who have lost the rest."""

from __future__ import annotations

from tokenbridge.server import codes
from tokenbridge.server.methods.base import Case, Setup
from tokenbridge.server.store import recovery


class RecoveryMethod:
    def enrol(self, case: Case, _given: str) -> Setup:
        """A new set, which counts at once; older codes are void."""
        made = codes.new_set()
        hashes = (codes.hash_code(code, account=case.account) for code in made)
        recovery.replace(case.tx, case.account, hashes, case.now)
        return Setup(shown={"recovery_codes": list(made)})

    def check(self, case: Case, code: str) -> str:
        good = recovery.spend(case.tx, case.account, codes.hash_code(code, account=case.account), case.now)
        return "" if good else "wrong code, or used before"
