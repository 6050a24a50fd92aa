"""Rules for udev: made of sorted data, installed and removed without touching what is not ours."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tokenbridge.daemon import udev_rules, udev_setup
from tokenbridge.errors import SetupError

SHIPPED = Path(__file__).parents[2] / "udev" / udev_rules.FILE_NAME
SOME_GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def no_udev(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own udev is left alone: what it does with the rules is seen in hw-tests/keys."""
    monkeypatch.setattr(udev_setup, "_apply", lambda: False)


@pytest.fixture
def systemd(tmp_path: Path) -> Path:
    made = tmp_path / "systemd"
    made.mkdir()
    return made


def test_the_file_of_the_repository_is_what_the_list_makes() -> None:
    assert SHIPPED.read_text() == udev_rules.rules(udev_rules.known_keys())


def test_the_name_sorts_between_the_rules_that_mark_and_those_that_give_access() -> None:
    assert "60-fido-id.rules" < udev_rules.FILE_NAME < "73-seat-late.rules"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1050:0407  B\n1050:0402  A\n", "1050:0402 comes after 1050:0407"),
        ("1050:0402  A\n1050:0402  A again\n", "1050:0402 comes after 1050:0402"),
        ("1050:04  short\n", "is no key"),
        ("1050:040A  capitals\n", "is no key"),
        ('1050:0402  Q", RUN+="/bin/sh\n', "is no key"),
        ("1050:0402  ends in a backslash\\\n", "is no key"),
    ],
)
def test_a_bad_list_is_refused(text: str, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        udev_rules.known_keys(text)


def test_each_key_is_named_as_the_kernel_names_its_hid_device() -> None:
    text = udev_rules.rules(udev_rules.known_keys("# heading\n\n20a0:42b1  Nitrokey FIDO2\n"))
    assert '# Nitrokey FIDO2\nKERNELS=="0003:20A0:42B1.*", GOTO="tokenbridge_key"\n' in text


def test_every_goto_has_its_label() -> None:
    text = SHIPPED.read_text()
    jumps = {part.split('"')[1] for part in text.split("GOTO=")[1:]}
    labels = {part.split('"')[1] for part in text.split("LABEL=")[1:]}
    assert jumps == labels


@pytest.mark.parametrize("group", ['plugdev", RUN+="/bin/sh', "", "-x", "a b", "a\nb"])
def test_a_group_that_would_be_a_rule_is_refused(group: str) -> None:
    with pytest.raises(SetupError, match="can't be a group"):
        udev_rules.rules([], group=group)


def test_installing_twice_changes_nothing_the_second_time(tmp_path: Path, systemd: Path) -> None:
    first = udev_setup.install(SOME_GROUP, directory=tmp_path, systemd=systemd)
    second = udev_setup.install(SOME_GROUP, directory=tmp_path, systemd=systemd)
    assert (first.changed, second.changed) == (True, False)
    assert first.path.read_text() == first.text == second.text
    assert first.path.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir() if path != systemd] == [udev_rules.FILE_NAME]


def test_rules_of_an_older_version_are_replaced_and_removed(tmp_path: Path, systemd: Path) -> None:
    path = tmp_path / udev_rules.FILE_NAME
    path.write_text(f"{udev_rules.MARK}\n# old\n")
    assert udev_setup.install(SOME_GROUP, directory=tmp_path, systemd=systemd).changed
    assert udev_setup.uninstall(directory=tmp_path).changed
    assert not path.exists()
    assert not udev_setup.uninstall(directory=tmp_path).changed


def test_a_file_that_is_not_ours_is_neither_replaced_nor_removed(tmp_path: Path, systemd: Path) -> None:
    path = tmp_path / udev_rules.FILE_NAME
    path.write_text("# by hand\n")
    with pytest.raises(SetupError, match="not written by tokenbridge"):
        udev_setup.install(SOME_GROUP, directory=tmp_path, systemd=systemd)
    with pytest.raises(SetupError, match="not written by tokenbridge"):
        udev_setup.uninstall(directory=tmp_path)
    assert path.read_text() == "# by hand\n"


def test_a_dry_run_touches_nothing(tmp_path: Path, systemd: Path) -> None:
    done = udev_setup.install(SOME_GROUP, directory=tmp_path / "rules.d", systemd=systemd, dry_run=True)
    assert done.changed
    assert f'GROUP="{SOME_GROUP}"' in done.text
    assert not (tmp_path / "rules.d").exists()


def test_a_group_that_was_asked_for_gets_access_on_systemd_too(tmp_path: Path, systemd: Path) -> None:
    text = udev_setup.install(SOME_GROUP, directory=tmp_path, systemd=systemd, dry_run=True).text
    assert f'\nGROUP="{SOME_GROUP}", MODE="0660"\n' in text


def test_a_missing_group_is_told_before_anything_is_written(tmp_path: Path, systemd: Path) -> None:
    with pytest.raises(SetupError, match="no group no-such-group") as caught:
        udev_setup.install("no-such-group", directory=tmp_path, systemd=systemd)
    assert "groupadd" in caught.value.hint
    assert not (tmp_path / udev_rules.FILE_NAME).exists()


def test_systemd_needs_no_group(tmp_path: Path, systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev_rules, "GROUP", "no-such-group")
    text = udev_setup.install(directory=tmp_path, systemd=systemd, dry_run=True).text
    assert 'TAG+="uaccess"' in text
    assert "GROUP=" not in text
    with pytest.raises(SetupError, match="no group no-such-group"):
        udev_setup.install(directory=tmp_path, systemd=tmp_path / "absent", dry_run=True)


@pytest.mark.skipif(os.getuid() != 0, reason="acts as somebody else, which only root can")
@pytest.mark.parametrize("uninstall", [False, True])
def test_who_is_not_root_is_told_so(tmp_path: Path, uninstall: bool) -> None:
    (tmp_path / udev_rules.FILE_NAME).write_text(f"{udev_rules.MARK}\n# old\n")
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)

    call = "uninstall(directory=place)" if uninstall else "install('root', directory=place)"
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY.format(call=call), str(tmp_path)], capture_output=True, text=True, check=True
    )
    message, hint = done.stdout.splitlines()
    assert message.startswith("Only root may change")
    assert "sudo" in hint
    assert (tmp_path / udev_rules.FILE_NAME).exists()


AS_NOBODY = """
import os, sys
from pathlib import Path
from tokenbridge.daemon.udev_setup import install, uninstall
from tokenbridge.errors import SetupError
place = Path(sys.argv[1])
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    {call}
except SetupError as err:
    print(err.message, err.hint, sep="\\n")
"""


@pytest.mark.skipif(
    shutil.which("udevadm") is None
    or subprocess.run(["udevadm", "verify", "--help"], capture_output=True, check=False).returncode != 0,
    reason="needs `udevadm verify` of systemd 254",
)
def test_udev_finds_no_fault_with_them() -> None:
    done = subprocess.run(["udevadm", "verify", str(SHIPPED)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
