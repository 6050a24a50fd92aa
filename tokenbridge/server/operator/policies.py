"""The policy, as an operator asks about it: what it says of one case, and what a new file would change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tokenbridge.rp.assurance import assess
from tokenbridge.rp.explain import Explanation
from tokenbridge.rp.explain import explain as explained
from tokenbridge.rp.rules import Policy
from tokenbridge.server import policy_book, supposed
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.operator.office import Office
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.policy_effects import Case, Comparison, Difference, Situation, context_of
from tokenbridge.server.reach import Reach
from tokenbridge.server.store import accounts
from tokenbridge.server.trust import TrustBook


def edition(office: Office, file: Path | None) -> Edition:
    """The policy of `file`, or the one in force. Raises `PolicyInvalid`, and `SetupError` for a missing file."""
    return policy_book.read(file or office.settings.policy_file)


def explain(office: Office, policy: Policy, case: Case, evidence: Sequence[str]) -> Explanation:
    """Raises `BadRequest` for an unknown user or word of evidence."""
    assurance = assess(supposed.evidence(word, case.at) for word in evidence)
    reach = Reach(trust=TrustBook(office.database), models=KeyModelBook(office.database, office.settings))
    with office.database.read() as tx:
        context = context_of(tx, case)
        if case.user:
            levels = reach.levels(tx, accounts.get(tx, case.user).id, case.at)
            # What is only supposed to be enrolled may be as good as any.
            known = {method: level for method, level in levels.items() if level or method not in case.enrolled}
            context = replace(context, levels=known)
    return explained(policy, assurance, context)


def differences(office: Office, new: Policy, now: dt.datetime, *, user: str = "") -> Iterator[Difference]:
    """Every account in every situation that either policy tells apart, as `Comparison.differences`."""
    old = edition(office, None).policy
    trust, models = TrustBook(office.database).current(), KeyModelBook(office.database, office.settings).current()
    before, after = (Situation(policy=policy, trust=trust, models=models) for policy in (old, new))
    with office.database.read() as tx:
        comparison = Comparison(tx=tx, before=before, after=after, now=now)
        for account in [accounts.get(tx, user)] if user else accounts.everybody(tx):
            yield from comparison.differences(account)
