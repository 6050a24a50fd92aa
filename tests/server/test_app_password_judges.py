"""Apache and Dovecot check app passwords here, by the scripts and the configuration of docs/app-passwords.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.foreign_programs import block, wait_for
from tests.patience import SECONDS, until
from tests.server.app_bench import MAIL, Desk, app_desk
from tests.server.conftest import make_bench
from tests.server.test_policy_cli import put
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port

PAGE = "app-passwords.md"
INSTALLED = "/usr/local/lib/tokenbridge"
MODULES = Path("/usr/lib/apache2/modules")
ODD = "a\"b\\c$(touch x)`'{}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, pki: RigPki) -> Iterator[Desk]:
    data = make_bench(tmp_path_factory.mktemp("apps") / "data", pki).data
    with app_desk(data, pki) as made:
        yield made


@pytest.fixture(scope="module")
def place(desk: Desk) -> Iterator[Path]:
    """The scripts as an operator installs them. Sockets live here too: their paths must be short."""
    with tempfile.TemporaryDirectory(prefix="apps") as name:
        place = Path(name)
        place.chmod(0o755)
        site, secret = desk.server.url, place / "secret"
        authority = shutil.copy(desk.bench.data / "tls" / "ca.pem", place / "ca.pem")
        secret.write_text(f'user = "mail:{desk.secret}"\ncacert = "{authority}"\n', "utf-8")
        told = f"#!/bin/sh\nexport TOKENBRIDGE_SITE={site} TOKENBRIDGE_SECRET={secret}\n"
        for file, number in (("check", 0), ("checkpassword", 1)):
            text = block(PAGE, "sh", number).replace("#!/bin/sh\n", told, 1).replace(INSTALLED, str(place))
            (place / file).write_text(text, "utf-8")
            (place / file).chmod(0o755)
        yield place


def test_the_script(desk: Desk, place: Path, tmp_path: Path) -> None:
    made = desk.made()

    def run(given: str) -> int:
        return subprocess.run(
            [place / "check"], input=given, text=True, cwd=tmp_path, timeout=30, check=False
        ).returncode

    good = f"{desk.person.username}\n{made['password']}\n"
    assert run(good) == 0
    for bad in (good.replace(made["password"], "0" * 24), f"{ODD}\n{ODD}\n", "\n\n", "", "x" * 5000, good.rstrip("\n")):
        assert run(bad) != 0
    assert list(tmp_path.iterdir()) == []


@contextmanager
def apache(place: Path, port: int) -> Iterator[str]:
    wanted = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_basic", "authnz_external")
    pages = place / "pages" / "wiki"
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "index.html").write_text("the wiki", "utf-8")
    config = [
        *(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in wanted),
        f"ServerRoot {place}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {place}/apache.pid",
        f"ErrorLog {place}/apache.log\nDocumentRoot {place}/pages",
        block(PAGE, "apache").replace(INSTALLED, str(place)),
    ]
    (place / "apache.conf").write_text("\n".join(config), "utf-8")
    process = subprocess.Popen(["apache2", "-f", str(place / "apache.conf"), "-DFOREGROUND"])
    try:
        wait_for(("127.0.0.1", port), process)
        yield f"http://127.0.0.1:{port}/wiki/index.html"
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextmanager
def dovecot(place: Path) -> Iterator[None]:
    """IMAP's own login is not installed: authentication is asked by Dovecot's `doveadm auth test`."""
    config = f"""
protocols =
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/dovecot.log
ssl = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
auth_mechanisms = plain
passdb {{
  driver = checkpassword
  args = {place}/checkpassword
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/tmp
}}
service anvil {{
  chroot =
}}
"""
    (place / "dovecot.conf").write_text(config, "utf-8")
    process = subprocess.Popen(["dovecot", "-F", "-c", str(place / "dovecot.conf")])
    try:
        until(lambda: process.poll() is not None or (place / "run" / "auth-client").exists(), "Dovecot")
        assert process.poll() is None, (place / "dovecot.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture
def strict(desk: Desk) -> Iterator[None]:
    """A policy that wants two factors of everybody."""
    put(desk.bench.data, '[[rule]]\nname = "two factors"\n')
    yield
    put(desk.bench.data, MAIL)


REFUSED = "policy-refuses: The app password is right, but the policy does not let it in"


def test_the_script_says_why_not(desk: Desk, place: Path, strict: None) -> None:
    given = f"{desk.person.username}\n{desk.made()['password']}\n"
    run = subprocess.run([place / "check"], input=given, text=True, capture_output=True, timeout=SECONDS, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert REFUSED in run.stderr
    assert "Use this service in a browser" in run.stderr


def test_the_script_says_that_the_server_is_away(place: Path, tmp_path: Path) -> None:
    script, away = (place / "check").read_text("utf-8"), tmp_path / "check"
    away.write_text(re.sub(r"SITE=https://\S+", f"SITE=https://localhost:{free_port()}", script), "utf-8")
    away.chmod(0o755)
    run = subprocess.run([away], input="a\nb\n", text=True, capture_output=True, timeout=SECONDS, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert "connect" in run.stderr


@pytest.mark.foreign
def test_apache_lets_in_who_has_an_app_password(desk: Desk, place: Path) -> None:
    made = desk.made()
    (place / "secret").chmod(0o644)  # for the user that Apache runs as, whoever that is here
    with apache(place, free_port()) as page:
        good = httpx.get(page, auth=(desk.person.username, made["password"]))
        assert (good.status_code, good.text) == (200, "the wiki")
        for name, password in ((desk.person.username, "0" * 24), ("nobody", made["password"]), (ODD, ODD)):
            assert httpx.get(page, auth=(name, password)).status_code == 401
        assert httpx.get(page).status_code == 401


@pytest.mark.foreign
def test_apaches_log_says_why_policy_refuses(desk: Desk, place: Path, strict: None) -> None:
    made = desk.made()
    (place / "secret").chmod(0o644)
    with apache(place, free_port()) as page:
        assert httpx.get(page, auth=(desk.person.username, made["password"])).status_code == 401
        until(lambda: REFUSED in (place / "apache.log").read_text(), "Apache's log")


@pytest.mark.foreign
def test_dovecot_lets_in_who_has_an_app_password(desk: Desk, place: Path) -> None:
    made = desk.made()

    def asked(name: str, password: str) -> int:
        command = ["doveadm", "-c", str(place / "dovecot.conf"), "auth", "test", name, password]
        return subprocess.run(command, timeout=30, check=False).returncode

    with dovecot(place):
        assert asked(desk.person.username, made["password"]) == 0
        for name, password in ((desk.person.username, "0" * 24), ("nobody", made["password"])):
            assert asked(name, password) != 0


@pytest.mark.foreign
def test_dovecots_log_says_why_policy_refuses(desk: Desk, place: Path, strict: None) -> None:
    made, log = desk.made(), place / "dovecot.log"
    command = ["doveadm", "-c", str(place / "dovecot.conf"), "auth", "test", desk.person.username, made["password"]]
    with dovecot(place):
        assert subprocess.run(command, timeout=SECONDS, check=False).returncode != 0
        until(lambda: REFUSED in log.read_text(), "Dovecot's log")
