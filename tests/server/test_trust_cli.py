"""`tokenbridge server trust change`: another rule for an authority, with the checks and the record of the pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.server.conftest import PASSWORD, Bench
from tests.server.test_cli import Cli
from tokenbridge.errors import BadRequest, NotAllowedNow, Outdated
from tokenbridge.server.operator import authorities
from tokenbridge.server.operator.office import opened


@pytest.fixture
def staff(fresh: Bench) -> Iterator[Cli]:
    """An authority "staff" that names NHS users, with its revocation lists."""
    cli = Cli(fresh.data)
    for name in ("root", "issuing"):
        certificate = getattr(fresh.pki, name).certificate
        (fresh.data / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    cli("trust", "add", "staff", "--pem", str(fresh.data / "root.pem"), "--hardware", "--map-nhs-uid",
        "--intermediate", str(fresh.data / "issuing.pem"), "--crl", str(fresh.data / "issuing.crl"),
        "--policy", "1.2.3", "--policy", "1.2.4")  # fmt: skip
    return cli


def rule(cli: Cli) -> dict[str, object]:
    (row,) = [row for row in cli.json("trust", "list") if row["name"] == "staff"]
    return row


def changes(cli: Cli) -> list[dict[str, Any]]:
    """What is on record of changed authorities, the oldest first."""
    return [json.loads(line)["detail"] for line in cli("audit", "--event", "trust-changed", "--json").splitlines()]


def test_what_is_not_said_stays(staff: Cli, fresh: Bench) -> None:
    before = rule(staff)
    told = staff.json("trust", "change", "staff", "--pin-enforced", "--no-map-nhs-uid", "--yes")
    assert rule(staff) == {**before, "pin_enforced": True, "map_nhs_uid": False}
    assert (told["changed"], told["before"]["pin_enforced"], told["after"]["pin_enforced"]) == (True, False, True)
    (detail,) = changes(staff)
    assert detail["before"] == {"pin_enforced": False, "map_nhs_uid": True}
    assert detail["after"] == {"pin_enforced": True, "map_nhs_uid": False}
    assert "operator_uid" in detail


def test_lists_are_replaced_and_an_empty_word_clears_them(staff: Cli, fresh: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(fresh.data)
    staff("trust", "change", "staff", "--crl", "http://pki.example/a.crl", "--crl", "root.crl", "--policy", "")
    found = rule(staff)
    assert (found["crl_urls"], found["crl_files"]) == (["http://pki.example/a.crl"], [str(fresh.data / "root.crl")])
    assert found["policy_oids"] == []
    staff("trust", "change", "staff", "--crl", "")
    assert (rule(staff)["crl_urls"], rule(staff)["crl_files"]) == ([], [])


def test_a_dry_run_changes_nothing(staff: Cli) -> None:
    before = rule(staff)
    assert "Nothing is changed yet. staff: hardware, PIN enforced" in staff(
        "trust", "change", "staff", "--pin-enforced", "--dry-run"
    )
    assert rule(staff) == before
    assert changes(staff) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ocsp", "ocsp.example"), "not an address"),
        (("--crl", "/nowhere/x.crl"), "can't be read"),
        (("--policy", "gold"), "not a policy OID"),
    ],
)
def test_what_could_never_work_is_refused(staff: Cli, options: tuple[str, str], words: str) -> None:
    before = rule(staff)
    with pytest.raises(BadRequest, match=words):
        staff("trust", "change", "staff", *options)
    assert rule(staff) == before


def test_nobody_of_that_name_and_nothing_to_change(staff: Cli) -> None:
    with pytest.raises(BadRequest, match="no trust anchor 'nobody'"):
        staff("trust", "change", "nobody", "--hardware")
    with pytest.raises(AssertionError, match="Say what shall be different"):
        staff("trust", "change", "staff")


def test_who_would_be_locked_out_is_said_before(staff: Cli) -> None:
    """Carol has a card and nothing else. With the PIN not vouched for it proves too little."""
    staff("trust", "change", "staff", "--pin-enforced", "--policy", "")
    staff("user", "add", "carol", "--nhs-uid", "000000000042", "--no-password")
    staff("user", "add", "dora", password=PASSWORD)
    told = staff.json("trust", "change", "staff", "--no-map-nhs-uid", "--dry-run")
    assert (told["locked_out"], told["who"], told["cards_of"]) == (1, ["carol"], 1)
    before = rule(staff)
    with pytest.raises(NotAllowedNow, match=r"could not sign in to the portal any more: 1 \(carol\)"):
        staff("trust", "change", "staff", "--no-map-nhs-uid")
    assert rule(staff) == before
    assert "Locked out of the portal: 1." in staff("trust", "change", "staff", "--no-map-nhs-uid", "--yes")
    assert rule(staff)["map_nhs_uid"] is False
    assert changes(staff)[-1]["locked_out"] == 1


def test_of_two_who_change_it_the_second_is_told(staff: Cli, fresh: Bench) -> None:
    with opened(fresh.data) as office:
        planned = authorities.plan(office, "staff", {"hardware": False})
        staff("trust", "change", "staff", "--pin-enforced")
        with pytest.raises(Outdated):
            authorities.change(office, planned, sure=True)
    assert rule(staff)["hardware"] is True
