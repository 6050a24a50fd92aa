"""The tree of errors as others rely on it: codes, hints, what outsiders get and what they never get."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re

import pytest

import tokenbridge
from tokenbridge import errors
from tokenbridge.errors import Rejected, RejectReason, RemoteError, Retry, TokenbridgeError, Undecided, UndecidedReason

NOT_TO_IMPORT = ("tokenbridge.__main__", "tokenbridge.server.migrations", "tokenbridge.rig.plugin")


def every_class() -> list[type[TokenbridgeError]]:
    """All classes, those of modules included that define their own."""
    for module in pkgutil.walk_packages(tokenbridge.__path__, "tokenbridge."):
        if not module.name.startswith(NOT_TO_IMPORT):
            importlib.import_module(module.name)
    return list(errors.tree())


EVERY = every_class()


def make(kind: type[TokenbridgeError], detail: str) -> TokenbridgeError:
    """An error of `kind` as its raisers make it, `detail` set where it takes one."""
    special = {
        "PinWrong": lambda: errors.PinWrong(tries_left=2, sw=0x63C2),
        "Cancelled": lambda: errors.Cancelled("user"),
        "RemoteError": lambda: RemoteError({"code": "pin-wrong", "message": "wrong", "tries_left": 2}),
    }
    special |= {
        "NumberUnfit": lambda: errors.NumberUnfit(errors.NumberFault.OFFICE),
        "SendFailed": lambda: errors.SendFailed(errors.SendFault.REFUSED, detail=detail),
        "FileFaulty": lambda: errors.FileFaulty(["line 2: username is missing"]),
        "PolicyInvalid": lambda: errors.PolicyInvalid(["rule 1: name is missing"]),
    }
    if kind.__name__ in special:
        return special[kind.__name__]()
    if issubclass(kind, errors.StatusError):
        return kind(sw=0x6A82, detail=detail)
    if issubclass(kind, errors.KeyStatus):
        return kind(status=0x2B, detail=detail)
    if issubclass(kind, Rejected):
        return kind(RejectReason.MALFORMED, detail=detail)
    if issubclass(kind, Undecided):
        return kind(UndecidedReason.REVOCATION_STALE, detail=detail)
    return kind(detail=detail)


def test_codes_are_unique_and_words() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", EVERY)
def test_every_class_says_what_happened_and_what_to_do(kind: type[TokenbridgeError]) -> None:
    assert "code" in vars(kind), "inherited: two kinds could not be told apart"
    assert kind.summary.endswith(".")
    assert len(kind.next_step) > 10
    assert kind.retry in Retry


@pytest.mark.parametrize("kind", EVERY)
def test_outsiders_get_json_without_the_detail(kind: type[TokenbridgeError]) -> None:
    error = make(kind, "10.0.0.7 at /secret/place")
    shown = error.as_dict()
    assert {"code", "message", "next_step", "retry"} <= set(shown)
    text = json.dumps(shown)
    assert "secret" not in text
    assert "detail" not in shown
    assert "secret" not in str(error)
    assert str(error) == error.message


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind is not RemoteError])
def test_every_class_is_in_the_drawing(kind: type[TokenbridgeError]) -> None:
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or "")


def test_fields() -> None:
    assert errors.PinWrong(tries_left=1, sw=0x63C1).as_dict()["message"] == "The PIN is wrong; 1 try is left."
    assert errors.PinWrong(tries_left=2, sw=0x6302).fields() == {"sw": "6302", "tries_left": 2}
    assert errors.DeviceBusy(by="scdaemon (812)").as_dict()["by"] == "scdaemon (812)"
    assert errors.DeviceBusy().message == errors.DeviceBusy.summary
    assert Rejected(RejectReason.CERTIFICATE_REVOKED).fields() == {"reason": "certificate-revoked"}
    assert Undecided(UndecidedReason.REVOCATION_UNREACHABLE).fields() == {"reason": "revocation-unreachable"}
    assert errors.CardUnsupported(atr="3B00").fields() == {"atr": "3B00"}


def test_raw_codes_are_kept_for_the_log() -> None:
    assert errors.StatusError(sw=0x6F00).detail == "SW=6F00"
    assert Rejected(RejectReason.MALFORMED).detail == "malformed"


def test_a_remote_error_keeps_what_the_other_process_said() -> None:
    data = {"code": "pin-wrong", "message": "m", "next_step": "n", "retry": "again", "tries_left": 2}
    error = RemoteError(data)
    assert (error.remote_code, error.message, error.hint) == ("pin-wrong", "m", "n")
    assert error.as_dict() == data
    assert RemoteError({}).as_dict()["code"] == "remote"
    assert RemoteError({}).message == RemoteError.summary


def test_the_tree_starts_at_its_root_with_parents_first() -> None:
    seen: set[type] = {Exception}
    for kind in errors.tree():
        assert kind.__mro__[1] in seen
        seen.add(kind)
