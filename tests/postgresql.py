"""A PostgreSQL of the tests' own: one cluster in a temporary folder, on loopback and a Unix socket, without fsync."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tokenbridge.rig.ports import free_port

PASSWORD = "only for tests"
NOT_THERE = "PostgreSQL is missing, and the server is tested on it: run `scripts/setup test` (Debian: postgresql)"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
    "lc_messages": "C",
}


def binaries() -> Path:
    """Where initdb and pg_ctl are: Debian keeps them out of the path. Raises `RuntimeError`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    other = shutil.which("initdb")
    if found or other:
        return (found[-1] if found else Path(str(other))).parent
    raise RuntimeError(NOT_THERE)


@dataclass(kw_only=True)
class Cluster:
    """A running cluster. Through the socket everybody of this machine's tests is let in; by TCP it wants a password."""

    folder: Path
    port: int
    owner: str | None
    durable: bool = False
    _counter: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, password: str = PASSWORD, user: str = "postgres") -> str:
        return f"postgresql+psycopg://{user}:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template0") -> str:
        """A new database, empty or a copy; returns its name."""
        name = f"bench{next(self._counter)}"
        parts = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
        self.execute(sql.SQL("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE {template}").format(**parts))
        return name

    def drop(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: Any, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            connection.execute(statement)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True)

    def start(self) -> None:
        settings = SETTINGS if not self.durable else {**SETTINGS, "fsync": "on", "synchronous_commit": "on"}
        told = " ".join(f"-c {name}={value}" for name, value in settings.items())
        options = f"-p {self.port} -k {self.folder} {told}"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", mode)

    def make(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self.owner is not None:
            shutil.chown(password, self.owner)
        access = ("-A", "trust", "--auth-host=scram-sha-256", f"--pwfile={password}")
        self._run("initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", *access)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *args: str) -> None:
        command = [str(binaries() / program), *args]
        with (self.folder / "commands").open("a") as output:  # a pipe would stay open as long as the server runs
            done = subprocess.run(
                command, user=self.owner, cwd="/", stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False
            )
        said = (self.folder / "commands").read_text()[-2000:]
        assert done.returncode == 0, f"{' '.join(command)}: {said}"


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A new cluster, gone afterwards. PostgreSQL does not run as root: then it gets its package's user, or nobody."""
    binaries()
    owner = _unprivileged() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="tb-pg-"))
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        made = Cluster(folder=folder, port=free_port(), owner=owner, durable=durable)
        made.make()
        made.start()
        try:
            yield made
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                made.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user on this machine")
