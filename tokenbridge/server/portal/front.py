"""What the pages work with, put together in the composition root, and how a page is made of a template."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, FileSystemLoader, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse

from tokenbridge.rp.proof import Method
from tokenbridge.rp.wording import listing
from tokenbridge.server import keys, problems
from tokenbridge.server.administration.desks import Administration
from tokenbridge.server.app_passwords import AppPasswordDesk
from tokenbridge.server.deliveries import Deliveries
from tokenbridge.server.hand_over import HandOverDesk
from tokenbridge.server.key_desk import KeyDesk
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.method_setup import MethodDesk
from tokenbridge.server.portal import cookies
from tokenbridge.server.portal.statics import StaticFiles
from tokenbridge.server.self_service.activity import Activity, gist, in_words
from tokenbridge.server.self_service.first_app import FirstApp
from tokenbridge.server.self_service.lost import LostThings
from tokenbridge.server.self_service.own_cards import OwnCards
from tokenbridge.server.self_service.own_sessions import OwnSessions
from tokenbridge.server.self_service.passwords import PasswordChange
from tokenbridge.server.self_service.phone_apps import PhoneAppEnrolment
from tokenbridge.server.self_service.preferences import Preferences
from tokenbridge.server.self_service.profile import Profiles
from tokenbridge.server.self_service.reset_proofs import PasswordResetDesk
from tokenbridge.server.self_service.suspensions import Suspensions
from tokenbridge.server.sessions import SessionDesk
from tokenbridge.server.sign_in import SignInDesk

if TYPE_CHECKING:
    from tokenbridge.server.portal.visit import Visit

TEMPLATES: Final = Path(__file__).parent.parent / "templates"

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'nonce-{nonce}'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'{reach}",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), "
    "microphone=(), geolocation=()",
    # Not "no-referrer" as the API has it: browsers would then send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """`key_desk` None: the server's address is no name, so it takes no security keys. `door`: the bridge's on people's
    own computers, an address; empty: pages don't look for it. `resets` None: password resets are switched off."""

    name: str
    site: str
    sign_in_seconds: int
    door: str
    keys: KeyBook
    statics: StaticFiles
    zone: Callable[[], dt.tzinfo]
    sign_ins: SignInDesk
    hand_overs: HandOverDesk
    sessions: SessionDesk
    key_desk: KeyDesk | None
    methods: MethodDesk
    phone_apps: PhoneAppEnrolment
    app_passwords: AppPasswordDesk
    profiles: Profiles
    first_app: FirstApp
    passwords: PasswordChange
    preferences: Preferences
    resets: PasswordResetDesk | None
    own_cards: OwnCards
    own_sessions: OwnSessions
    deliveries: Deliveries
    lost: LostThings
    suspensions: Suspensions
    activity: Activity
    administration: Administration
    templates: Environment

    @property
    def sends_messages(self) -> bool:
        """Whether something can be sent to telephones here."""
        return not {Method.SMS, Method.WHATSAPP}.isdisjoint(self.methods.setup.methods)

    def page(self, visit: Visit, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """The page of a template; sets the cookie that its forms are bound to, where there is none yet."""
        response = self.bare_page(template, status, form_token=visit.form_token, **values)
        if visit.fresh:
            cookies.put(response, cookies.VISIT, visit.bound)
            if not cookies.get(visit.request, cookies.DEVICE):
                cookies.put(response, cookies.DEVICE, keys.new_token(), cookies.DEVICE_SECONDS)
        return response

    def bare_page(
        self, template: str, status: int = 200, *, policy: str = POLICY, reach: str = "", **values: Any
    ) -> HTMLResponse:
        """A page without forms of its own, for whoever asks. `policy` is its Content-Security-Policy, `reach` an
        address that its script may ask too."""
        nonce = secrets.token_urlsafe(16)
        local = dt.datetime.now(self.zone()).tzname()
        found = self.templates.get_template(template)
        html = found.render(front=self, nonce=nonce, zone_name=local, when=self.when, **values)
        headers = {**HEADERS, "content-security-policy": policy.format(nonce=nonce, reach=reach and f" {reach}")}
        headers |= problems.waiting(values.get("error"))
        return HTMLResponse(html, status, headers)

    def when(self, at: dt.datetime) -> str:
        """`24 November 2026, 14:05` in the policy's time zone."""
        local = at.astimezone(self.zone())
        return f"{local.day} {local:%B %Y, %H:%M}"


def see_other(path: str) -> RedirectResponse:
    """To another page after a POST, so that going back or loading anew sends nothing twice (RFC 9110 section 15.4.4).

    `path` is one of ours: what comes from a request goes through `visit.local_path` first.
    """
    return RedirectResponse(path, 303)


def environment() -> Environment:
    """Templates of ours, and the NHS.UK design system's macros. Everything that is filled in is escaped."""
    loader = ChoiceLoader([FileSystemLoader(TEMPLATES), PackageLoader("nhsuk_frontend_jinja")])
    made = Environment(loader=loader, autoescape=True, undefined=ChainableUndefined, trim_blocks=True)
    made.lstrip_blocks = True
    made.filters["compact_json"] = lambda value: json.dumps(value, separators=(",", ":"))
    made.filters["minutes"] = _span
    made.filters["methods"] = _methods
    made.filters["in_words"] = in_words
    made.filters["gist"] = lambda entry: gist(entry.detail)
    made.filters["used_at"] = lambda entry: dt.datetime.fromisoformat(entry["used_at"])
    made.filters["moment"] = lambda entry: dt.datetime.fromisoformat(entry.at)
    return made


def _methods(methods: frozenset[Method]) -> str:
    text = listing([method for method in Method if method in methods], "and")
    return text[:1].upper() + text[1:]


def _span(span: dt.timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    hours, rest = divmod(minutes, 60)
    if rest or not hours:
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{hours} hour{'' if hours == 1 else 's'}"
