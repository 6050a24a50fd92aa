"""Everything that the administration pages call, in one piece."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.server.administration.account_changes import AccountChanges
from tokenbridge.server.administration.authority import Gate
from tokenbridge.server.administration.dashboard import Dashboard
from tokenbridge.server.administration.directory import Directory
from tokenbridge.server.administration.help_desk import HelpDesk
from tokenbridge.server.administration.key_models import ModelDesk
from tokenbridge.server.administration.lock_out import Survey
from tokenbridge.server.administration.people_import import PeopleImport
from tokenbridge.server.administration.policy_changes import PolicyChanges
from tokenbridge.server.administration.standing import Standing
from tokenbridge.server.administration.trail import Trail
from tokenbridge.server.administration.trust_changes import TrustChanges
from tokenbridge.server.changes import Changes
from tokenbridge.server.notices import Notices
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.policy_place import PolicyPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    directory: Directory
    accounts: AccountChanges
    people: PeopleImport
    help_desk: HelpDesk
    trail: Trail
    dashboard: Dashboard
    standing: Standing
    trust: TrustChanges
    models: ModelDesk
    policy: PolicyChanges


def administration(changes: Changes, policy: PolicyBook, place: PolicyPlace, notices: Notices) -> Administration:
    gate, survey = Gate(changes=changes), Survey()
    return Administration(
        directory=Directory(gate=gate, models=changes.rule.models),
        accounts=AccountChanges(gate=gate, notices=notices),
        people=PeopleImport(gate=gate),
        help_desk=HelpDesk(gate=gate, notices=notices),
        trail=Trail(gate=gate),
        dashboard=Dashboard(gate),
        standing=Standing(gate=gate, policy=policy.current),
        trust=TrustChanges(gate=gate, policy=policy.current, survey=survey),
        models=ModelDesk(gate=gate),
        policy=PolicyChanges(gate=gate, place=place, current=policy.current, survey=survey),
    )
