"""Everything that the administration pages call, in one piece."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.server.administration.account_changes import AccountChanges
from tokenbridge.server.administration.authority import Gate
from tokenbridge.server.administration.dashboard import Dashboard
from tokenbridge.server.administration.directory import Directory
from tokenbridge.server.administration.help_desk import HelpDesk
from tokenbridge.server.administration.standing import Standing
from tokenbridge.server.administration.trail import Trail
from tokenbridge.server.changes import Changes
from tokenbridge.server.policy_book import PolicyBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    directory: Directory
    accounts: AccountChanges
    help_desk: HelpDesk
    trail: Trail
    dashboard: Dashboard
    standing: Standing


def administration(changes: Changes, policy: PolicyBook) -> Administration:
    gate = Gate(changes=changes)
    return Administration(
        directory=Directory(gate=gate, models=changes.rule.models),
        accounts=AccountChanges(gate=gate),
        help_desk=HelpDesk(gate=gate),
        trail=Trail(gate=gate),
        dashboard=Dashboard(gate),
        standing=Standing(gate=gate, policy=policy.current),
    )
