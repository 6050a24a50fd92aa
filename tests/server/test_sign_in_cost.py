"""How often a sign-in asks the database. Whoever adds a statement sees it named here, and can say why it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from tests.server.conftest import Bench, Databases, Server, serving
from tests.server.key_bench import KeyBench, hardware_model
from tests.software_key import Maker

TIMES = 4
"""Now and then one clears away what is old: the cheapest of so many does not."""


@dataclass(kw_only=True)
class Asked:
    """What one sign-in sent to the database."""

    transactions: int = 0
    statements: list[str] = field(default_factory=list)

    def told(self) -> str:
        return "\n".join([f"{len(self.statements)} statements, {self.transactions} transactions:", *self.statements])


@contextmanager
def asked() -> Iterator[Asked]:
    found = Asked()

    def on_begin(_connection: Connection) -> None:
        found.transactions += 1

    def on_statement(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            found.statements.append(" ".join(statement.split())[:160])

    event.listen(Engine, "begin", on_begin)
    event.listen(Engine, "before_cursor_execute", on_statement)
    try:
        yield found
    finally:
        event.remove(Engine, "begin", on_begin)
        event.remove(Engine, "before_cursor_execute", on_statement)


@pytest.fixture
def at(fresh: Bench) -> Iterator[KeyBench]:
    fresh.trust()
    with serving(fresh.data) as server:
        yield KeyBench(bench=fresh, server=server, maker=Maker())


def cheapest(sign_in: Callable[[], None]) -> Asked:
    sign_in()  # the first one reads what is remembered, and learns from where the account is used
    runs = []
    for _ in range(TIMES):
        with asked() as found:
            sign_in()
        runs.append(found)
    return min(runs, key=lambda found: len(found.statements))


def more(databases: Databases) -> int:
    """SQLite adds to the audit trail in two statements, PostgreSQL in one."""
    return 1 if databases.cluster is None else 0


def test_with_a_key(at: KeyBench, databases: Databases):
    at.load(hardware_model(at.maker))
    key = at.register(at.newcomer())

    def sign_in() -> None:
        assert at.sign_in(key).json()["decision"] == "allow"

    found = cheapest(sign_in)
    assert found.statements
    assert len(found.statements) <= 11 + more(databases), found.told()
    assert found.transactions <= 2, found.told()


def test_with_a_card(at: KeyBench, databases: Databases):
    person, server = at.bench.person(), at.server

    def sign_in() -> None:
        assert by_card(server, person).json()["decision"] == "allow"

    found = cheapest(sign_in)
    assert found.statements
    assert len(found.statements) <= 14 + more(databases), found.told()
    assert found.transactions <= 3, found.told()


def by_card(server: Server, person: Any) -> Any:
    ticket = server.begin()
    return server.card(ticket, person.card.token(ticket["nonce"]))
