"""Every event that the server can put on record has words, for those whom it concerns and those who administer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tokenbridge.server
from tokenbridge.rp.proof import DEVICES
from tokenbridge.server import login
from tokenbridge.server.self_service.activity import WHAT

SERVER = Path(tokenbridge.server.__file__).parent
RECORDERS = frozenset({"record", "_record", "record_all", "Event"})
"""What is given an event's name, after the transaction or by the name `event`."""
EARLIER = {"totp-set", "totp-removed"}
"""What earlier versions wrote."""


class Module:
    """One module's source, in which an event's name is followed to where it is written."""

    def __init__(self, path: Path) -> None:
        self.tree = ast.parse(path.read_text("utf-8"))

    def events(self) -> Iterator[str]:
        functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for function in functions:
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and _name(call.func) in RECORDERS:
                    for argument in _arguments(call):
                        yield from self._texts(argument, function)

    def _texts(self, value: ast.expr, function: ast.AST) -> Iterator[str]:
        """What an expression can be. What a recorder was handed itself is followed where it is called."""
        match value:
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp(body=yes, orelse=no):
                yield from (*self._texts(yes, function), *self._texts(no, function))
            case ast.Tuple(elts=[first, *_]):
                yield from self._texts(first, function)
            case ast.ListComp(elt=inner) | ast.Starred(value=inner):
                yield from self._texts(inner, function)
            case ast.Dict(values=values) | ast.List(elts=values):
                for one in values:
                    yield from self._texts(one, function)
            case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(tail))]):
                yield from (f"{method}{tail}" for method in DEVICES)
            case ast.Attribute(value=ast.Attribute(attr="Recorded")) | ast.Attribute(attr="what"):
                yield from map(str, login.Recorded)
            case ast.Subscript(value=ast.Name(id=name)):
                yield from self._assigned(name, self.tree)
            case ast.Name(id=name):
                yield from self._assigned(name, function)
            case ast.Call(func=ast.Name(id=name)):
                yield from self._returned(name)
            case _:
                raise AssertionError(f"an event's name that can't be followed: {ast.unparse(value)}")

    def _assigned(self, name: str, where: ast.AST) -> Iterator[str]:
        for node in ast.walk(where):
            match node:
                case (
                    ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value)
                ):
                    values = [value]
                case (
                    ast.For(target=target, iter=ast.Tuple(elts=values))
                    | ast.comprehension(target=target, iter=ast.Tuple(elts=values))
                ):
                    pass
                case _:
                    continue
            first = target.elts[0] if isinstance(target, ast.Tuple) else target
            if isinstance(first, ast.Name) and first.id == name:
                for value in values:
                    yield from self._texts(value, where)

    def _returned(self, name: str) -> Iterator[str]:
        for function in self.tree.body:
            if isinstance(function, ast.FunctionDef) and function.name == name:
                for node in ast.walk(function):
                    if isinstance(node, ast.Return) and node.value is not None:
                        yield from self._texts(node.value, function)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    """Those that may be an event's name."""
    yield from (word.value for word in call.keywords if word.arg == "event")
    for argument in call.args[1:]:
        match argument:
            case (
                ast.Constant(value=str())
                | ast.JoinedStr()
                | ast.List()
                | ast.Call(func=ast.Name())
                | ast.Name(id="event")
            ):
                yield argument


def test_every_event_has_words() -> None:
    found = {event for path in SERVER.rglob("*.py") for event in Module(path).events()}
    assert {"signed-in", "key-suspended", "approval-given", "user-changed", "policy-refused"} <= found, "they are found"
    assert found - set(WHAT) == set()
    assert set(WHAT) - found == EARLIER
