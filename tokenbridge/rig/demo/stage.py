"""The demo's stage: a PC/SC daemon, a card, a security key, a relying party and a bridge, in a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final
from uuid import UUID

from tokenbridge.authenticator.profile import Profile
from tokenbridge.errors import SetupError
from tokenbridge.rig.bench import Bench
from tokenbridge.rig.card_state import DEFAULT_PIN, DEFAULT_PUK, CardProfile
from tokenbridge.rig.demo import workstation
from tokenbridge.rig.key_bench import KeyBench, place_for
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_serve import UHID_PLACE
from tokenbridge.rig.machine_pcscd import Pcscd, start_any
from tokenbridge.rig.provision import Staff
from tokenbridge.rig.socket_room import make_directory
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.virtual_key import AAGUID
from tokenbridge.rig.vpcd import VpcdConnection
from tokenbridge.rig.workplace import PASSWORD, Workplace

USER: Final = "ada"
NAME: Final = "Ada Lovelace"
UID: Final = "000123456789"
PIN: Final = "123456"
WRONG_PIN: Final = "654321"
KEY: Final = "blue"
KEY_PIN: Final = "4711"
NEWCOMER: Final = "newcomer"
NEWCOMER_NAME: Final = "New Comer"
NEWCOMER_UID: Final = "000987654321"
ADMINISTRATOR: Final = "admin"
MAIL_PROGRAM: Final = "mail"
MESSAGES: Final = "1000"
"""Whoever tries everything sends more in an hour than somebody who signs in."""
KEPT: Final = "kept.json"
POLICY: Final = """# Two factors for everybody. Who has nothing set up yet may come to the portal with a password.
# From a browser that the account was not used from before, a card or key alone is not enough.
[[rule]]
name = "self-enrol"
clients = ["portal"]
groups = ["@unenrolled"]
aal = 1

[[rule]]
name = "mail programs"
clients = ["mail"]
aal = 1

[[rule]]
name = "everybody"
withdraw_on = ["new-device"]
"""


class Stage:
    """Use as a context manager; `keep` leaves everything running at the end."""

    pcscd: Pcscd

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.directory = make_directory("tokenbridge-demo-")
        self.totp_secret = ""
        self.administrators_codes: tuple[str, ...] = ()
        self.administrators_app = ""
        self.mail_secret = ""
        self.workstation: workstation.Workstation | None = None
        self._started = False

    def __enter__(self) -> Stage:
        try:
            self._set_up()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        left = False
        try:
            if self.keep and kind is None:
                self._leave()
                left = True
        finally:
            if not left:
                self._take_down()

    def _set_up(self) -> None:
        self.pcscd = start_any(self.directory / "pcscd")
        self.workplace = Workplace(self.directory, self.pcscd)
        self.workplace.environ["FORCE_COLOR"] = "1"
        self.bench = bench = Bench(self.directory / "rig")
        entry = bench.new(USER, Staff(uid=UID, holder=NAME), CardProfile(), (DEFAULT_PIN, DEFAULT_PUK))
        self.slot = VpcdConnection(VirtualCard.load(entry.path), self.pcscd.ports[0])
        self.key_bench = KeyBench(self.directory / "rig")
        self.key = self.key_bench.new(KEY, Profile(aaguid=AAGUID))
        self.key_place = place_for(self.key, self.workplace.key_sockets)
        if self.keep:
            self._open_door()
        self._started = True
        self.workplace.init_server()
        self.workplace.trust("demo-authority", bench.pki_directory)
        self.workplace.trust_keys(self.key_bench.pki_directory / "key-root.pem", str(UUID(self.key.aaguid)))
        self.totp_secret = self.workplace.add_user(USER, NAME, "--email", f"{USER}@example.org")
        if self.keep:
            self._prepare_portal()
        self.workplace.start_server()

    def _open_door(self) -> None:
        """So that the card page finds the bridge by itself; or, if that is not ours to decide, can be made to."""
        place = self.workplace
        self.workstation = workstation.furnish(self.directory, place.origin, place.ca_file)
        place.environ["XDG_CONFIG_HOME"] = str(self.workstation.config_home)
        place.environ["TOKENBRIDGE_SERVER_BRIDGE_DOOR"] = str(self.workstation.door_port)

    def _prepare_portal(self) -> None:
        """For those who try the pages by hand: a policy, a newcomer with a card of nobody's yet, a telephone, a program
        for app passwords, an administrator."""
        (self.directory / "server" / "policy.toml").write_text(POLICY, "utf-8")
        self.workplace.environ["TOKENBRIDGE_SERVER_OUTBOX"] = "true"
        for of in ("ACCOUNT", "NUMBER"):
            self.workplace.environ[f"TOKENBRIDGE_SERVER_MESSAGES_PER_{of}"] = MESSAGES
        self.workplace.must(
            "server", "user", "add", NEWCOMER, "--display-name", NEWCOMER_NAME, "--email", f"{NEWCOMER}@example.org",
            secrets={"--password-fd": PASSWORD},
        )  # fmt: skip
        staff = Staff(uid=NEWCOMER_UID, holder=NEWCOMER_NAME)
        self.bench.new(NEWCOMER, staff, CardProfile(), (DEFAULT_PIN, DEFAULT_PUK))
        mail = f"{ADMINISTRATOR}@example.org"
        self.administrators_app = self.workplace.add_user(ADMINISTRATOR, "Head of IT", "--email", mail)
        codes = self.workplace.must_json("server", "user", "recovery-codes", ADMINISTRATOR)["recovery_codes"]
        self.administrators_codes = tuple(map(str, codes))
        self.workplace.must("server", "admin", "grant", ADMINISTRATOR, "--role", "administrator")
        self.mail_secret = str(self.workplace.must_json("server", "app-client", "add", MAIL_PROGRAM)["secret"])

    def _take_down(self) -> None:
        if self._started:
            self.slot.stop()
            self.key_bench.remove(KEY)
            self.workplace.stop()
        if hasattr(self, "pcscd"):
            self.pcscd.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def plug_key_in(self) -> None:
        """The key, and a person who touches it when it blinks."""
        self.key_bench.insert(KEY, self.key_place, {"mode": Touch.ALWAYS})

    @property
    def kernel_knows_key(self) -> bool:
        return self.key_place == UHID_PLACE

    def _leave(self) -> None:
        """Hand the reader over to a card in a process of its own, and write down what runs. It is the newcomer's: with
        two cards in two readers the door could not know which is meant."""
        self.slot.stop()
        self.bench.insert(NEWCOMER, self.pcscd.ports[0])
        self._take_all_keys()
        pids = [pid for pid in (self.workplace.server_pid, self.pcscd.pid) if pid is not None]
        (self.directory / KEPT).write_text(json.dumps({"pids": pids}))

    def _take_all_keys(self) -> None:
        """People try the pages with keys of their own, which nobody here vouches for: they sign in at AAL2."""
        self.workplace.environ.pop("TOKENBRIDGE_SERVER_KEY_ALLOWED", None)
        self.workplace.stop_server()
        self.workplace.start_server()


def stop_kept(directory: Path) -> None:
    """End what `keep` left running in `directory`, and remove it. Raises `SetupError` if that is not a kept demo."""
    try:
        pids = json.loads((directory / KEPT).read_text())["pids"]
    except (OSError, ValueError, KeyError) as err:
        raise SetupError(f"{directory} holds no demo that was kept.", detail=repr(err)) from err
    environ = os.environ | {
        "TOKENBRIDGE_RUNTIME_DIR": str(directory / "run"),
        "TOKENBRIDGE_STATE_DIR": str(directory / "state"),
    }
    home = ("--home", str(directory / "rig"))
    for arguments in (
        ("rig", "card", "remove", USER, *home),
        ("rig", "card", "remove", NEWCOMER, *home),
        ("rig", "key", "remove", KEY, *home),
        ("daemon", "stop"),
    ):
        subprocess.run([sys.executable, "-m", "tokenbridge", *arguments], env=environ, check=False, capture_output=True)
    for pid in pids:
        if str(directory) in _environment(pid):
            os.kill(pid, signal.SIGTERM)
    shutil.rmtree(directory, ignore_errors=True)


def _environment(pid: int) -> str:
    """Command line and environment of a process: a number alone may by now be somebody else's process."""
    try:
        return "".join(
            Path(f"/proc/{pid}/{part}").read_bytes().decode("utf-8", "replace") for part in ("cmdline", "environ")
        )
    except OSError:
        return ""
