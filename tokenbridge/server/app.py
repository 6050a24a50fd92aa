"""The server's composition root: everything is put together here and in `composition`. It decides nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from tokenbridge.rp.key_options import Site
from tokenbridge.rp.proof import DEVICES, Method
from tokenbridge.rp.risk import Limits
from tokenbridge.server import key_rules, passwords, revocation
from tokenbridge.server.approval_sign_in import ApprovalSignIn
from tokenbridge.server.approvals import Approvals
from tokenbridge.server.card_sign_in import CardSignIn
from tokenbridge.server.changes import Changes
from tokenbridge.server.client_address import ClientAddresses
from tokenbridge.server.composition.members import add_members, front_of
from tokenbridge.server.composition.methods import fallback_methods, pushes_of
from tokenbridge.server.composition.routes import add_routes
from tokenbridge.server.countries import Countries
from tokenbridge.server.hand_over import HandOverDesk
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.key_desk import KeyDesk
from tokenbridge.server.key_enrolment import KeyEnrolment
from tokenbridge.server.key_sign_in import KeySignIn, KeySite
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock, Ledger
from tokenbridge.server.notices import Notices
from tokenbridge.server.password_sign_in import PasswordSignIn
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.policy_log import PolicyLog
from tokenbridge.server.reach import Reach
from tokenbridge.server.revocation import RevocationFetcher
from tokenbridge.server.risk import RiskDesk
from tokenbridge.server.second_step import SecondStep
from tokenbridge.server.senders import choice
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.senders.port import Senders
from tokenbridge.server.sessions import SessionDesk
from tokenbridge.server.settings import Settings
from tokenbridge.server.sign_in import Parts, SignInDesk
from tokenbridge.server.step_up import StepUpRule
from tokenbridge.server.store.database import Database
from tokenbridge.server.trust import TrustBook

HASHING_THREADS: Final = 2
"""argon2id takes 64 MiB each: this bounds the memory that a flood of passwords can claim."""
SENDING_THREADS: Final = 4
PUSHING_THREADS: Final = 2


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
    app.state.pushes = pushes = pushes_of(settings, database, book, app.state.pushing)
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
    add_members(app, changes, policy, pushes)
    app.state.keys = None if at is None else _key_desk(app.state.parts, changes, models, at)
    app.state.portal = front_of(settings, app, changes, risk)
    add_routes(app, settings)
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


def _key_desk(parts: Parts, changes: Changes, models: KeyModelBook, at: KeySite) -> KeyDesk:
    enrolment = KeyEnrolment(
        changes=changes,
        models=models,
        ledger=parts.ledger,
        origin=parts.settings.site,
        at=at,
    )
    return KeyDesk(enrolment, parts.notices)


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
