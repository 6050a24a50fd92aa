"""Which pages and endpoints there are, and what stands around them."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tokenbridge.errors import TokenbridgeError
from tokenbridge.server import (
    api,
    app_password_api,
    hand_over_api,
    key_api,
    method_api,
    notify_api,
    outbox_api,
    phone_api,
    portal,
    push_service_api,
    twilio_api,
)
from tokenbridge.server.middleware import Envelope
from tokenbridge.server.portal import problems as portal_problems
from tokenbridge.server.portal.upload import SIZES
from tokenbridge.server.senders import choice
from tokenbridge.server.settings import Settings

PAGES: Final = (
    "activity",
    "admin",
    "admin_account",
    "admin_device",
    "admin_import",
    "admin_model",
    "admin_policy",
    "admin_trust",
    "app",
    "app_password",
    "card",
    "default",
    "first_day",
    "key",
    "lost",
    "own_card",
    "phone",
    "phone_app",
    "phone_web",
    "profile",
    "recovery",
    "reset",
    "sign_in",
    "static",
    "suspension",
)
"""Modules of `portal`, by their names before `_pages`. No address is two modules', so their order says nothing."""


def add_routes(app: FastAPI, settings: Settings) -> None:
    extra: list[APIRouter] = []
    if settings.outbox:
        extra += (outbox_api.router, pages("outbox"), push_service_api.router)
    app.state.twilio = choice.lines_of(settings)
    if app.state.twilio is not None:
        extra.append(twilio_api.router)
    if app.state.reports.twilio is not None:
        extra.append(twilio_api.reports)
    if app.state.reports.notify:
        extra.append(notify_api.router)
    programs = (api, key_api, method_api, phone_api, app_password_api, hand_over_api)
    for router in (*(program.router for program in programs), *extra, *map(pages, PAGES)):
        app.include_router(router)
    # Browsers remember this for a whole host name: on localhost it would lock out other programs' plain HTTP.
    strict, fault = settings.tls_cert is not None, partial(portal_problems.fault, app.state.portal)
    app.add_middleware(Envelope, strict_transport=strict, fault=fault, rooms=SIZES)
    app.add_exception_handler(TokenbridgeError, portal_problems.on_error)
    app.add_exception_handler(RequestValidationError, portal_problems.on_invalid)
    app.add_exception_handler(HTTPException, portal_problems.on_http_error)


def pages(name: str) -> APIRouter:
    """The routes of a module of `PAGES`."""
    router: APIRouter = import_module(f"{portal.__name__}.{name}_pages").router
    return router
