"""Number matching as a fallback method: the page shows two digits, and the person types them on the telephone."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.errors import NotAllowedNow
from tokenbridge.rp.proof import Method
from tokenbridge.server.approvals import Approvals
from tokenbridge.server.methods.base import Case, Question
from tokenbridge.server.pushes import Pushes, Target
from tokenbridge.server.store import phone_apps


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberMatchMethod:
    """Telephones are set up by a page of their own, since it takes a telephone to do so."""

    questions: Approvals
    pushes: Pushes

    def start(self, case: Case) -> Question:
        apps = phone_apps.of(case.tx, case.account)
        if not apps:
            raise NotAllowedNow("There is no phone app for that.", next_step="Use another method.")
        sent_to = ", ".join(app.name for app in apps)
        targets = [
            Target(phone_app=app.id, account=case.account, subscription=app.subscription)
            for app in apps
            if app.subscription is not None
        ]
        return self.questions.ask(case, Method.NUMBER_MATCH, lambda _: self.pushes.tell(targets), sent_to=sent_to)
