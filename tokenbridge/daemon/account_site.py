"""The relying party's API for a person's own account, as the bridge uses it: keys, recovery codes, signing out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenbridge.daemon.site import MAX_TEXT, Site, path_part, text_of
from tokenbridge.errors import RelyingPartyUnavailable, TokenbridgeError
from tokenbridge.interaction import Secret

REGISTRATION: Final = "/api/keys/registration"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*", re.ASCII)
"""b64token of RFC 6750 section 2.1: nothing else may stand in the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One that the site began. `options` is `PublicKeyCredentialCreationOptionsJSON`, unchecked."""

    id: str
    rp_name: str
    account: str
    options: Mapping[str, Any]


class AccountSite:
    """What goes to and from the account's part of `site`. Raises `RemoteError`, `RelyingPartyUnavailable`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.origin = site.origin

    async def begin_registration(self, session: Secret) -> Registration:
        return _registration(await self._site.call("POST", REGISTRATION, {}, session=session))

    async def begin_registration_by_code(self, username: str, code: Secret) -> Registration:
        body = {"username": username, "enrolment_code": text_of(code).strip()}
        return _registration(await self._site.call("POST", REGISTRATION, body))

    async def complete_registration(self, begun: str, response: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        body = {"credential": dict(response), **({"name": name} if name else {})}
        return _object(await self._site.call("POST", f"{REGISTRATION}/{begun}", body))

    async def cancel_registration(self, begun: str) -> None:
        await self._site.call("DELETE", f"{REGISTRATION}/{begun}", None)

    async def keys(self, session: Secret) -> Mapping[str, Any]:
        return _object(await self._site.call("GET", "/api/keys", None, session=session))

    async def rename_key(self, session: Secret, key: int, name: str) -> Mapping[str, Any]:
        return _object(await self._site.call("PATCH", f"/api/keys/{key}", {"name": name}, session=session))

    async def remove_key(self, session: Secret, key: int, *, confirm_last: bool) -> None:
        query = "?confirm_last=true" if confirm_last else ""
        await self._site.call("DELETE", f"/api/keys/{key}{query}", None, session=session)

    async def new_recovery_codes(self, session: Secret) -> Mapping[str, Any]:
        return _object(await self._site.call("POST", "/api/recovery-codes", {}, session=session))

    async def sign_out(self, session: Secret) -> None:
        """Best effort: the session ends by itself before long."""
        with contextlib.suppress(TokenbridgeError):
            await self._site.call("DELETE", "/api/session", None, session=session)


def session_token(answer: Mapping[str, Any]) -> Secret:
    """What stands for the person from now on. Raises `RelyingPartyUnavailable` for what is no bearer token."""
    try:
        token = answer["session"]["token"]
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ValueError("session token")
    except (KeyError, TypeError, ValueError) as err:
        raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=repr(err)) from err
    return Secret.from_text(token)


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=type(data).__name__)
    return data


def _registration(data: Any) -> Registration:
    try:
        return Registration(
            id=path_part(data["registration"]),
            rp_name=str(data["rp"]["name"])[:MAX_TEXT],
            account=str(data["account"]["username"])[:MAX_TEXT],
            options=_object(data["options"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise RelyingPartyUnavailable("The site's answer can't be understood.", detail=repr(err)) from err
