"""What a person may change in their own account at a site, after signing in: keys and recovery codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tokenbridge.daemon.account_site import AccountSite
from tokenbridge.errors import BadRequest
from tokenbridge.interaction import Secret

SignIn = Callable[[], Awaitable[Secret]]


class Account:
    """One action: "keys", "rename", "remove" (both with `key`) or "recovery-codes"."""

    def __init__(self, site: AccountSite, action: str, *, key: int | None, name: str, sure: bool) -> None:
        """Raises `BadRequest` before anybody signs in for nothing."""
        self._site = site
        self._key = key
        self._name = name
        self._sure = sure
        actions = {
            "keys": self._keys,
            "rename": self._rename,
            "remove": self._remove,
            "recovery-codes": self._recovery_codes,
        }
        if action not in actions:
            raise BadRequest(f"An account has {', '.join(actions)}.")
        if action in ("rename", "remove") and key is None:
            raise BadRequest("Say which key.", next_step="Give its id: see `tokenbridge account keys URL`.")
        self._act = actions[action]

    async def run(self, sign_in: SignIn) -> Mapping[str, Any]:
        """The site's answer; the session ends with it."""
        with await sign_in() as session:
            try:
                return await self._act(session)
            finally:
                await self._site.sign_out(session)

    async def _keys(self, session: Secret) -> Mapping[str, Any]:
        return await self._site.keys(session)

    async def _rename(self, session: Secret) -> Mapping[str, Any]:
        return await self._site.rename_key(session, self._key or 0, self._name)

    async def _remove(self, session: Secret) -> Mapping[str, Any]:
        await self._site.remove_key(session, self._key or 0, confirm_last=self._sure)
        return {"removed": self._key}

    async def _recovery_codes(self, session: Secret) -> Mapping[str, Any]:
        return await self._site.new_recovery_codes(session)
