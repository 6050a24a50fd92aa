"""The server's composition root: everything is put together here and nowhere else. It decides nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tokenbridge.errors import TokenbridgeError
from tokenbridge.rp.key_options import Site
from tokenbridge.rp.proof import DEVICES, Method
from tokenbridge.rp.risk import Limits
from tokenbridge.server import (
    api,
    app_password_api,
    hand_over,
    hand_over_api,
    key_api,
    key_rules,
    message_limits,
    method_api,
    notify_api,
    outbox_api,
    passwords,
    phone_api,
    push_service,
    push_service_api,
    revocation,
    twilio_api,
)
from tokenbridge.server.administration.desks import administration
from tokenbridge.server.app_passwords import AppPasswordDesk, AppPasswords
from tokenbridge.server.approval_sign_in import ApprovalSignIn
from tokenbridge.server.approvals import Approvals
from tokenbridge.server.card_sign_in import CardSignIn
from tokenbridge.server.changes import Changes
from tokenbridge.server.client_address import ClientAddresses
from tokenbridge.server.countries import Countries
from tokenbridge.server.deliveries import Deliveries
from tokenbridge.server.enrolment_gate import EnrolmentGate
from tokenbridge.server.hand_over import HandOverDesk
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.key_desk import KeyDesk
from tokenbridge.server.key_enrolment import KeyEnrolment
from tokenbridge.server.key_sign_in import KeySignIn, KeySite
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock, Ledger
from tokenbridge.server.method_setup import MethodDesk, MethodSetup
from tokenbridge.server.methods.base import FallbackMethod
from tokenbridge.server.methods.message import MessageMethod
from tokenbridge.server.methods.number_match import NumberMatchMethod
from tokenbridge.server.methods.recovery import RecoveryMethod
from tokenbridge.server.methods.totp import TotpMethod
from tokenbridge.server.methods.voice import VoiceMethod
from tokenbridge.server.middleware import Envelope
from tokenbridge.server.notices import Notices
from tokenbridge.server.password_sign_in import PasswordSignIn
from tokenbridge.server.phone_desk import PhoneDesk, PhoneParts
from tokenbridge.server.phone_requests import PhoneRequests
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.policy_log import PolicyLog
from tokenbridge.server.policy_place import PolicyPlace
from tokenbridge.server.portal import (
    activity_pages,
    admin_account_pages,
    admin_device_pages,
    admin_import_pages,
    admin_model_pages,
    admin_pages,
    admin_policy_pages,
    admin_trust_pages,
    app_pages,
    app_password_pages,
    card_pages,
    default_pages,
    first_day_pages,
    key_pages,
    lost_pages,
    outbox_pages,
    own_card_pages,
    phone_app_pages,
    phone_pages,
    phone_web_pages,
    profile_pages,
    recovery_pages,
    reset_pages,
    sign_in_pages,
    static_pages,
    suspension_pages,
)
from tokenbridge.server.portal import problems as portal_problems
from tokenbridge.server.portal.front import Front, environment
from tokenbridge.server.portal.statics import StaticFiles
from tokenbridge.server.portal.upload import SIZES
from tokenbridge.server.push_keys import PushKeys, services_of
from tokenbridge.server.push_service import LocalPushService
from tokenbridge.server.pushes import Pushes
from tokenbridge.server.reach import Reach
from tokenbridge.server.revocation import RevocationFetcher
from tokenbridge.server.risk import RiskDesk
from tokenbridge.server.second_step import SecondStep
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
from tokenbridge.server.senders import choice, http
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.senders.port import Channel, Senders
from tokenbridge.server.senders.web_push import WebPush
from tokenbridge.server.sessions import SessionDesk
from tokenbridge.server.settings import Settings
from tokenbridge.server.sign_in import Parts, SignInDesk
from tokenbridge.server.step_up import StepUpRule
from tokenbridge.server.store.database import Database
from tokenbridge.server.trust import TrustBook
from tokenbridge.server.voice_calls import VoiceCalls

PAGES: Final = tuple(
    pages.router
    for pages in (
        activity_pages,
        admin_account_pages,
        admin_device_pages,
        admin_import_pages,
        admin_model_pages,
        admin_pages,
        admin_policy_pages,
        admin_trust_pages,
        app_pages,
        app_password_pages,
        card_pages,
        default_pages,
        first_day_pages,
        key_pages,
        lost_pages,
        suspension_pages,
        own_card_pages,
        phone_app_pages,
        phone_pages,
        phone_web_pages,
        profile_pages,
        recovery_pages,
        reset_pages,
        sign_in_pages,
        static_pages,
    )
)

HASHING_THREADS: Final = 2
"""argon2id takes 64 MiB each: this bounds the memory that a flood of passwords can claim."""


SENDING_THREADS: Final = 4
PUSHING_THREADS: Final = 2
_TELEPHONE: Final = (Channel.SMS, Channel.WHATSAPP)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def build(settings: Settings, clock: Clock = utc_now) -> FastAPI:
    """The application. Raises `SetupError` when the data directory is not set up."""
    app = FastAPI(
        title="tokenbridge server", docs_url=None, redoc_url=None, openapi_url="/openapi.json", lifespan=_lifespan
    )
    database = Database(settings.database_url, connections=settings.database_connections)
    trust, book = TrustBook(database), KeyBook(settings.key_file)
    _workers(app)
    app.state.countries = Countries(settings.countries)
    app.state.outbox = Outbox(database=database, keys=book, clock=clock)
    senders = choice.senders_of(settings, app.state.outbox)
    app.state.pushes = pushes = _pushes(settings, database, book, app.state.pushing)
    methods = fallback_methods(settings, book, senders, pushes)
    offered = frozenset(methods) | DEVICES
    risk = _risk(settings, book, app.state.countries, offered)
    models = KeyModelBook(database, settings)
    ledger = Ledger(database, book, clock, risk, Reach(trust=trust, models=models))
    policy = PolicyBook(
        settings.policy_file, PolicyLog(database=database, keys=book, clock=clock, worker=app.state.recorder).changed
    )
    at = _key_site(settings)
    second = SecondStep(database=database, ledger=ledger, methods=methods, senders=senders)
    app.state.origin = settings.site
    app.state.client_addresses = ClientAddresses(settings.trusted_proxies)
    app.state.database = database
    app.state.sessions = SessionDesk(database, book, clock)
    app.state.parts = Parts(
        settings=settings,
        ledger=ledger,
        trust=trust,
        revocation=RevocationFetcher(revocation.client(), clock),
        cards=CardSignIn(ledger=ledger, trust=trust, policy=policy, clock=clock),
        security_keys=None
        if at is None
        else KeySignIn(database=database, ledger=ledger, keys=book, models=models, policy=policy, at=at),
        passwords=PasswordSignIn(database=database, ledger=ledger, policy=policy, methods=methods),
        approvals=ApprovalSignIn(
            database=database, ledger=ledger, policy=policy, questions=Approvals(keys=book), clock=clock
        ),
        second=second,
        sending=ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="sending"),
        hashing=ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2"),
        clock=clock,
        notices=_notices(settings, senders, app.state.notifying),
    )
    app.state.sign_ins = SignInDesk(app.state.parts)
    app.state.hand_overs = HandOverDesk(database, book, clock, trust, app.state.sign_ins)
    rule = StepUpRule(trust=trust, models=models, max_age=dt.timedelta(seconds=settings.step_up_seconds))
    changes = Changes(database=database, keys=book, rule=rule, clock=clock)
    _members(app, changes, policy, pushes)
    app.state.keys = None if at is None else _key_desk(settings, changes, models, ledger, at)
    app.state.portal = _front(settings, app, changes, risk)
    _routes(app, settings)
    return app


def _workers(app: FastAPI) -> None:
    """Pools for what nobody waits for."""
    app.state.recorder = ThreadPoolExecutor(1, thread_name_prefix="recorder")
    app.state.notifying = ThreadPoolExecutor(1, thread_name_prefix="notices")
    app.state.pushing = ThreadPoolExecutor(PUSHING_THREADS, thread_name_prefix="pushes")


def _notices(settings: Settings, senders: Senders, worker: ThreadPoolExecutor) -> Notices:
    return Notices(senders=senders, worker=worker, name=settings.name, site=settings.site)


def _risk(settings: Settings, book: KeyBook, countries: Countries, offered: frozenset[Method]) -> RiskDesk:
    limits = Limits(travel=dt.timedelta(minutes=settings.risk_travel_minutes), failures=settings.risk_failures)
    return RiskDesk(keys=book, countries=countries, limits=limits, offered=offered)


def _members(app: FastAPI, changes: Changes, policy: PolicyBook, pushes: Pushes) -> None:
    """What people do about their own accounts."""
    app.state.app_passwords = AppPasswordDesk(AppPasswords(changes=changes, policy=policy))
    parts: Parts = app.state.parts
    methods = parts.passwords.methods
    app.state.reports = choice.reports_of(parts.settings)
    app.state.deliveries = Deliveries(changes=changes, on=app.state.reports.any)
    app.state.app = authenticator = TotpMethod(keys=changes.keys, issuer=parts.settings.name)
    setup = MethodSetup(changes=changes, methods=methods, app=authenticator, second=parts.second, notices=parts.notices)
    app.state.methods = MethodDesk(setup, parts.sending)
    _phones(app, changes, pushes)


def _pushes(settings: Settings, database: Database, book: KeyBook, worker: ThreadPoolExecutor) -> Pushes:
    sender = WebPush(
        http=http.client(settings.tls_dir / "ca.pem" if settings.outbox else None),
        keys=PushKeys(database=database, keys=book),
        services=services_of(settings),
        contact=settings.push_contact or settings.site,
    )
    return Pushes(database=database, keys=book, sender=sender, worker=worker)


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


def _key_desk(settings: Settings, changes: Changes, models: KeyModelBook, ledger: Ledger, at: KeySite) -> KeyDesk:
    return KeyDesk(
        KeyEnrolment(
            database=changes.database,
            keys=changes.keys,
            models=models,
            rule=changes.rule,
            ledger=ledger,
            clock=changes.clock,
            origin=settings.site,
            at=at,
        )
    )


def _routes(app: FastAPI, settings: Settings) -> None:
    extra: list[APIRouter] = []
    if settings.outbox:
        extra += (outbox_api.router, outbox_pages.router, push_service_api.router)
    app.state.twilio = choice.lines_of(settings)
    if app.state.twilio is not None:
        extra.append(twilio_api.router)
    if app.state.reports.twilio is not None:
        extra.append(twilio_api.reports)
    if app.state.reports.notify:
        extra.append(notify_api.router)
    programs = (api, key_api, method_api, phone_api, app_password_api, hand_over_api)
    for router in (*(program.router for program in programs), *extra, *PAGES):
        app.include_router(router)
    # Browsers remember this for a whole host name: on localhost it would lock out other programs' plain HTTP.
    strict, fault = settings.tls_cert is not None, partial(portal_problems.fault, app.state.portal)
    app.add_middleware(Envelope, strict_transport=strict, fault=fault, rooms=SIZES)
    app.add_exception_handler(TokenbridgeError, portal_problems.on_error)
    app.add_exception_handler(RequestValidationError, portal_problems.on_invalid)
    app.add_exception_handler(HTTPException, portal_problems.on_http_error)


def fallback_methods(
    settings: Settings, book: KeyBook, senders: Senders, pushes: Pushes
) -> dict[Method, FallbackMethod]:
    """The methods of this server: messages only where something can send them. Raises `SetupError`."""
    rules, limits = choice.rules_of(settings), message_limits.limits_of(settings)
    found: dict[Method, FallbackMethod] = {
        Method.TOTP: TotpMethod(keys=book, issuer=settings.name),
        Method.RECOVERY: RecoveryMethod(),
        Method.NUMBER_MATCH: NumberMatchMethod(questions=Approvals(keys=book), pushes=pushes),
    }
    ways = frozenset(Method(str(channel)) for channel in _TELEPHONE if senders.has(channel))
    for method in ways:
        found[method] = MessageMethod(
            method=method,
            keys=book,
            rules=rules,
            limits=limits,
            name=settings.name,
            site=settings.site,
            also=ways - {method},
        )
    if ways and senders.has(Channel.VOICE):
        found[Method.VOICE] = VoiceMethod(
            questions=Approvals(keys=book), keys=book, senders=senders, limits=limits, name=settings.name
        )
    return found


def _front(settings: Settings, app: FastAPI, changes: Changes, risk: RiskDesk) -> Front:
    """The portal's desks, around the parts that the API has already."""
    parts: Parts = app.state.parts
    gate = EnrolmentGate(database=changes.database, keys=changes.keys, ledger=parts.ledger, clock=changes.clock)
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
        profiles=Profiles(changes=changes),
        first_app=FirstApp(gate=gate, app=app.state.app, notices=parts.notices),
        passwords=PasswordChange(changes=changes, hashing=parts.hashing),
        preferences=Preferences(changes=changes, offered=frozenset(parts.passwords.methods) | DEVICES),
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


def _key_site(settings: Settings) -> KeySite | None:
    rp_id = key_rules.rp_id_of(settings)
    return (
        None if rp_id is None else KeySite(site=Site(name=settings.name, rp_id=rp_id), seconds=settings.sign_in_seconds)
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    await asyncio.to_thread(passwords.prepare)
    # What is loaded now stays for good: the collector need not look at it again in the middle of a sign-in.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        await parts.revocation.close()
        parts.hashing.shutdown(wait=False, cancel_futures=True)
        parts.sending.shutdown(wait=True)
        app.state.notifying.shutdown(cancel_futures=True)
        app.state.pushing.shutdown(cancel_futures=True)
        app.state.pushes.sender.http.close()
        app.state.recorder.shutdown()
        app.state.countries.close()
        app.state.database.close()
