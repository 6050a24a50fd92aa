"""What people do about their own accounts, by API, telephone and pages."""

from __future__ import annotations

from fastapi import FastAPI

from tokenbridge.rp.proof import DEVICES
from tokenbridge.server import hand_over, push_service
from tokenbridge.server.administration.desks import administration
from tokenbridge.server.app_passwords import AppPasswordDesk, AppPasswords
from tokenbridge.server.changes import Changes
from tokenbridge.server.deliveries import Deliveries
from tokenbridge.server.enrolment_gate import EnrolmentGate
from tokenbridge.server.method_setup import MethodDesk, MethodSetup
from tokenbridge.server.methods.totp import TotpMethod
from tokenbridge.server.phone_desk import PhoneDesk, PhoneParts
from tokenbridge.server.phone_requests import PhoneRequests
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.policy_place import PolicyPlace
from tokenbridge.server.portal.front import Front, environment
from tokenbridge.server.portal.statics import StaticFiles
from tokenbridge.server.push_service import LocalPushService
from tokenbridge.server.pushes import Pushes
from tokenbridge.server.risk import RiskDesk
from tokenbridge.server.self_service.activity import Activity
from tokenbridge.server.self_service.first_app import FirstApp
from tokenbridge.server.self_service.lost import LostThings
from tokenbridge.server.self_service.own_cards import OwnCards
from tokenbridge.server.self_service.own_sessions import OwnSessions
from tokenbridge.server.self_service.password_reset import PasswordResets
from tokenbridge.server.self_service.passwords import PasswordChange
from tokenbridge.server.self_service.phone_apps import PhoneAppEnrolment
from tokenbridge.server.self_service.preferences import Preferences
from tokenbridge.server.self_service.profile import Profiles
from tokenbridge.server.self_service.reset_proofs import PasswordResetDesk, ResetProofs
from tokenbridge.server.self_service.suspensions import Suspensions
from tokenbridge.server.senders import choice
from tokenbridge.server.settings import Settings
from tokenbridge.server.sign_in import Parts
from tokenbridge.server.text_instead import TextInstead
from tokenbridge.server.voice_calls import VoiceCalls


def add_members(app: FastAPI, changes: Changes, policy: PolicyBook, pushes: Pushes) -> None:
    """What people do about their own accounts."""
    parts: Parts = app.state.parts
    app.state.app_passwords = AppPasswordDesk(
        AppPasswords(changes=changes, policy=policy, ledger=parts.ledger, notices=parts.notices)
    )
    methods = parts.passwords.methods
    app.state.reports = choice.reports_of(parts.settings)
    instead = TextInstead(
        changes=changes, ledger=parts.ledger, methods=methods, second=parts.second, worker=parts.sending
    )
    app.state.deliveries = Deliveries(changes=changes, instead=instead, on=app.state.reports.any)
    app.state.app = authenticator = TotpMethod(keys=changes.keys, issuer=parts.settings.name)
    setup = MethodSetup(changes=changes, methods=methods, app=authenticator, second=parts.second, notices=parts.notices)
    app.state.methods = MethodDesk(setup, parts.sending)
    _phones(app, changes, pushes)


def _phones(app: FastAPI, changes: Changes, pushes: Pushes) -> None:
    """What telephones are asked and may answer."""
    parts: Parts = app.state.parts
    settings = parts.settings
    app.state.voice_calls = VoiceCalls(sign_ins=parts.approvals, notices=parts.notices)
    app.state.phone_apps = PhoneAppEnrolment(changes=changes, notices=parts.notices)
    app.state.push_service = LocalPushService(
        keys=changes.keys, push_keys=pushes.sender.keys, outbox=app.state.outbox, site=settings.site
    )
    app.state.phones = PhoneDesk(
        PhoneParts(
            requests=PhoneRequests(
                database=changes.database, keys=changes.keys, clock=changes.clock, site=settings.site
            ),
            enrolment=app.state.phone_apps,
            sign_ins=parts.approvals,
            notices=parts.notices,
            countries=app.state.countries,
            push_keys=pushes.sender.keys,
            services=pushes.sender.services,
            local_push=push_service.PATH if settings.outbox else "",
        )
    )


def front_of(settings: Settings, app: FastAPI, changes: Changes, risk: RiskDesk) -> Front:
    """The portal's desks, around the parts that the API has already."""
    parts: Parts = app.state.parts
    gate = EnrolmentGate(changes=changes, ledger=parts.ledger)
    return Front(
        name=settings.name,
        site=settings.site,
        sign_in_seconds=settings.sign_in_seconds,
        door=hand_over.door(settings.bridge_door),
        keys=changes.keys,
        statics=StaticFiles(),
        zone=lambda: parts.passwords.policy.current().policy.zone,
        sign_ins=app.state.sign_ins,
        hand_overs=app.state.hand_overs,
        sessions=app.state.sessions,
        key_desk=app.state.keys,
        methods=app.state.methods,
        phone_apps=app.state.phone_apps,
        app_passwords=app.state.app_passwords,
        profiles=Profiles(changes=changes, notices=parts.notices),
        first_app=FirstApp(gate=gate, app=app.state.app, notices=parts.notices),
        passwords=PasswordChange(changes=changes, hashing=parts.hashing, notices=parts.notices),
        preferences=Preferences(
            changes=changes, notices=parts.notices, offered=frozenset(parts.passwords.methods) | DEVICES
        ),
        resets=_resets(parts, changes, risk) if settings.password_reset else None,
        own_cards=OwnCards(changes=changes, trust=parts.trust, notices=parts.notices),
        own_sessions=OwnSessions(changes=changes),
        deliveries=app.state.deliveries,
        lost=LostThings(changes=changes, notices=parts.notices),
        suspensions=Suspensions(changes=changes, notices=parts.notices),
        activity=Activity(changes=changes),
        administration=administration(
            changes, parts.passwords.policy, PolicyPlace(path=settings.policy_file), parts.notices
        ),
        templates=environment(),
    )


def _resets(parts: Parts, changes: Changes, risk: RiskDesk) -> PasswordResetDesk:
    methods = parts.passwords.methods
    resets = PasswordResets(
        changes=changes, policy=parts.passwords.policy, risk=risk, offered=frozenset(methods), notices=parts.notices
    )
    proofs = ResetProofs(
        resets=resets,
        methods=methods,
        questions=parts.approvals.questions,
        second=parts.second,
        ledger=parts.ledger,
    )
    return PasswordResetDesk(proofs, parts.hashing, parts.sending)
