"""authenticatorReset and authenticatorSelection (CTAP 2.1 sections 6.6 and 6.9)."""

from __future__ import annotations

from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.status import Status, require
from tokenbridge.authenticator.steps import Steps, touch


def reset(core: Core, _source: Parameters) -> Steps[Answer]:
    """Erase everything, in the first seconds after power-up only, and if the device is touched."""
    require(core.now - core.powered_at <= core.profile.reset_seconds, Status.NOT_ALLOWED)
    yield from touch(core.wait("reset"))
    core.reset()
    return None


def selection(core: Core, _source: Parameters) -> Steps[Answer]:
    """The person chooses this device among several by touching it."""
    yield from touch(core.wait("selection"))
    return None
