"""Which pages and endpoints there are, in which order, and what stands around them."""

from __future__ import annotations

from functools import partial
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
    push_service_api,
    twilio_api,
)
from tokenbridge.server.middleware import Envelope
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
from tokenbridge.server.portal.upload import SIZES
from tokenbridge.server.senders import choice
from tokenbridge.server.settings import Settings

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


def add_routes(app: FastAPI, settings: Settings) -> None:
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
