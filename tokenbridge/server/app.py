"""The server's composition root: everything is put together here and nowhere else. It decides nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tokenbridge.errors import TokenbridgeError
from tokenbridge.rp.key_options import Site
from tokenbridge.rp.proof import Method
from tokenbridge.server import (
    api,
    app_password_api,
    key_api,
    key_rules,
    method_api,
    outbox_api,
    passwords,
    problems,
    revocation,
)
from tokenbridge.server.app_passwords import AppPasswordDesk, AppPasswords
from tokenbridge.server.card_sign_in import CardSignIn
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.key_desk import KeyDesk
from tokenbridge.server.key_enrolment import KeyEnrolment
from tokenbridge.server.key_sign_in import KeySignIn, KeySite
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock, Ledger
from tokenbridge.server.method_setup import MethodDesk, MethodSetup
from tokenbridge.server.methods.base import FallbackMethod
from tokenbridge.server.methods.message import MessageMethod
from tokenbridge.server.methods.recovery import RecoveryMethod
from tokenbridge.server.methods.totp import TotpMethod
from tokenbridge.server.middleware import Envelope
from tokenbridge.server.notices import Notices
from tokenbridge.server.password_sign_in import PasswordSignIn
from tokenbridge.server.permit import Permit
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.policy_log import PolicyLog
from tokenbridge.server.revocation import RevocationFetcher
from tokenbridge.server.second_step import SecondStep
from tokenbridge.server.senders import choice
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.senders.port import Channel, Senders
from tokenbridge.server.sessions import SessionDesk
from tokenbridge.server.settings import Settings
from tokenbridge.server.sign_in import Parts, SignInDesk
from tokenbridge.server.step_up import StepUpRule
from tokenbridge.server.store.database import Database
from tokenbridge.server.trust import TrustBook

HASHING_THREADS: Final = 2
"""argon2id takes 64 MiB each: this bounds the memory that a flood of passwords can claim."""


SENDING_THREADS: Final = 4
_TELEPHONE: Final = (Channel.SMS, Channel.WHATSAPP)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def build(settings: Settings, clock: Clock = utc_now) -> FastAPI:
    """The application. Raises `SetupError` when the data directory is not set up."""
    app = FastAPI(
        title="tokenbridge server", docs_url=None, redoc_url=None, openapi_url="/openapi.json", lifespan=_lifespan
    )
    database = Database(settings.database_url)
    trust, book = TrustBook(database), KeyBook(settings.key_file)
    ledger = Ledger(database, book, clock)
    app.state.recorder = recorder = ThreadPoolExecutor(1, thread_name_prefix="recorder")
    policy = PolicyBook(
        settings.policy_file, PolicyLog(database=database, keys=book, clock=clock, worker=recorder).changed
    )
    models, at = KeyModelBook(database, settings), _key_site(settings)
    app.state.outbox = outbox = Outbox(database=database, keys=book, clock=clock)
    senders = choice.senders_of(settings, outbox)
    methods = fallback_methods(settings, book, senders)
    second = SecondStep(database=database, ledger=ledger, methods=methods, senders=senders)
    app.state.origin = settings.site
    app.state.database = database
    app.state.sessions = SessionDesk(database, book, clock)
    app.state.parts = Parts(
        settings=settings,
        ledger=ledger,
        trust=trust,
        revocation=RevocationFetcher(revocation.client(), clock),
        cards=CardSignIn(database=database, ledger=ledger, trust=trust, policy=policy, clock=clock),
        security_keys=None
        if at is None
        else KeySignIn(database=database, ledger=ledger, keys=book, models=models, policy=policy, clock=clock, at=at),
        passwords=PasswordSignIn(database=database, ledger=ledger, policy=policy, methods=methods),
        second=second,
        sending=ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="sending"),
        hashing=ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2"),
    )
    app.state.sign_ins = SignInDesk(app.state.parts)
    rule = StepUpRule(trust=trust, models=models, max_age=dt.timedelta(seconds=settings.step_up_seconds))
    app.state.app_passwords = AppPasswordDesk(
        AppPasswords(database=database, keys=book, policy=policy, rule=rule, clock=clock)
    )
    permit = Permit(database=database, keys=book, rule=rule, clock=clock)
    app.state.methods = _method_desk(app.state.parts, permit, senders)
    app.state.keys = None
    if at is not None:
        app.state.keys = KeyDesk(
            KeyEnrolment(
                database=database,
                keys=book,
                models=models,
                rule=rule,
                ledger=ledger,
                clock=clock,
                origin=settings.site,
                at=at,
            )
        )
    _routes(app, settings)
    # Browsers remember this for a whole host name: on localhost it would lock out other programs' plain HTTP.
    app.add_middleware(Envelope, strict_transport=settings.tls_cert is not None)
    return app


def _method_desk(parts: Parts, permit: Permit, senders: Senders) -> MethodDesk:
    settings, pool = parts.settings, parts.sending
    notices = Notices(senders=senders, worker=pool, name=settings.name, site=settings.site)
    setup = MethodSetup(permit=permit, methods=parts.passwords.methods, second=parts.second, notices=notices)
    return MethodDesk(setup, pool)


def _routes(app: FastAPI, settings: Settings) -> None:
    app.include_router(api.router)
    app.include_router(key_api.router)
    app.include_router(method_api.router)
    app.include_router(app_password_api.router)
    app.add_exception_handler(TokenbridgeError, problems.on_tokenbridge_error)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_body)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    if settings.outbox:
        app.include_router(outbox_api.router)


def fallback_methods(settings: Settings, book: KeyBook, senders: Senders) -> dict[Method, FallbackMethod]:
    """The methods of this server: messages only where something can send them. Raises `SetupError`."""
    rules = choice.rules_of(settings)
    found: dict[Method, FallbackMethod] = {
        Method.TOTP: TotpMethod(keys=book, issuer=settings.name),
        Method.RECOVERY: RecoveryMethod(),
    }
    ways = frozenset(Method(str(channel)) for channel in _TELEPHONE if senders.has(channel))
    for method in ways:
        found[method] = MessageMethod(
            method=method, keys=book, rules=rules, name=settings.name, site=settings.site, also=ways - {method}
        )
    return found


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
        app.state.recorder.shutdown()
        app.state.database.close()
