"""`tokenbridge server trust`: authorities whose cards are trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from tokenbridge.cli.server_output import as_json, columns, emit, read_file
from tokenbridge.errors import BadRequest
from tokenbridge.server.certificate_files import certificates
from tokenbridge.server.operator import authorities
from tokenbridge.server.operator.office import opened
from tokenbridge.server.store.anchors import Anchor

LISTS: Final = ("crl", "ocsp", "policy")


@click.group()
def trust() -> None:
    """Authorities whose cards are trusted.

    \b
    Examples:
      tokenbridge server trust add hospital --pem ca.pem --hardware --pin-enforced --crl ca.crl
      tokenbridge server trust change hospital --crl http://pki.example/ca.crl --dry-run
      tokenbridge server trust list
    """


@trust.command()
@click.argument("name")
@click.option("--pem", required=True, help="Certificate of the authority, PEM or DER; - is standard input.")
@click.option("--intermediate", multiple=True, help="Certificates between it and the cards.")
@click.option("--hardware", is_flag=True, help="Its keys live in hardware and can't be copied.")
@click.option("--pin-enforced", is_flag=True, help="Its cards sign only after the PIN.")
@click.option("--crl", multiple=True, help="Revocation list: http(s) address, or a file that you keep up to date.")
@click.option("--ocsp", multiple=True, help="Address of an OCSP responder.")
@click.option("--policy", multiple=True, help="Accept only certificates with this policy OID (any of several).")
@click.option("--map-nhs-uid", is_flag=True, help="A CN of 12 digits is the NHS user id of an account.")
@click.option("--map-upn", is_flag=True, help="A user principal name in its certificates names an account.")
@click.option("--map-email", is_flag=True, help="An e-mail address in its certificates names an account.")
@click.option("--no-revocation", is_flag=True, help="It publishes no revocation data: do not check.")
@click.option("--legacy-weak", is_flag=True, help="Accept SHA-1 and RSA from 1024 bits. Not safe.")
@as_json
@click.pass_obj
def add(data: Path | None, /, *, as_json: bool, **options: object) -> None:
    """Trust an authority. What it vouches for decides how strong its cards are.

    \b
    Examples:
      tokenbridge server trust add hospital --pem ca.pem --hardware --pin-enforced --crl http://pki.example/ca.crl
      tokenbridge server trust add nhs --pem root.pem --intermediate sub.pem --map-nhs-uid --crl /var/lib/crl/sub.crl
    """
    anchor = _anchor(options)
    with opened(data) as office:
        authorities.add(office, anchor)
    if as_json:
        emit({"name": anchor.name, **anchor.rule()})
        return
    click.echo(f"Trusting {anchor.name}: {_vouched(anchor)}.")
    if not anchor.check_revocation:
        click.echo("Revocation is not checked: a lost card stays good until it expires or you remove it.")


@trust.command("list")
@as_json
@click.pass_obj
def list_(data: Path | None, as_json: bool) -> None:
    """Show the trusted authorities and their rules.

    \b
    Examples:
      tokenbridge server trust list
      tokenbridge server trust list --json
    """
    with opened(data) as office:
        found = authorities.listed(office)
    if as_json:
        emit([{"name": anchor.name, **anchor.rule()} for anchor in found])
        return
    rows = [(anchor.name, _vouched(anchor), len(anchor.intermediates)) for anchor in found]
    columns(("NAME", "VOUCHES FOR", "INTERMEDIATES"), rows)


@trust.command()
@click.argument("name")
@click.option("--hardware/--no-hardware", default=None, help="Its keys live in hardware and can't be copied.")
@click.option("--pin-enforced/--no-pin-enforced", default=None, help="Its cards sign only after the PIN.")
@click.option("--map-nhs-uid/--no-map-nhs-uid", default=None, help="A CN of 12 digits is an account's NHS user id.")
@click.option("--map-upn/--no-map-upn", default=None, help="A user principal name names an account.")
@click.option("--map-email/--no-map-email", default=None, help="An e-mail address names an account.")
@click.option("--revocation/--no-revocation", "check_revocation", default=None, help="Check whether cards are revoked.")
@click.option("--legacy-weak/--no-legacy-weak", default=None, help="Accept SHA-1 and RSA from 1024 bits. Not safe.")
@click.option("--crl", multiple=True, help="Revocation lists instead of those so far; '' for none.")
@click.option("--ocsp", multiple=True, help="OCSP responders instead of those so far; '' for none.")
@click.option("--policy", multiple=True, help="Policy OIDs instead of those so far; '' for any.")
@click.option("--dry-run", is_flag=True, help="Say what it would mean, and change nothing.")
@click.option("--yes", "sure", is_flag=True, help="Even if somebody could not sign in any more.")
@as_json
@click.pass_obj
def change(data: Path | None, /, *, name: str, dry_run: bool, sure: bool, as_json: bool, **options: Any) -> None:
    """Give an authority another rule; what is not said stays. Certificates stay: add another authority for those.

    It says how many accounts could not sign in to the portal any more, and does it then only with --yes.

    \b
    Examples:
      tokenbridge server trust change hospital --pin-enforced --dry-run
      tokenbridge server trust change hospital --crl http://pki.example/a.crl --crl http://pki.example/b.crl
      tokenbridge server trust change nhs --no-map-email --policy ''
    """
    rule = _changes(options)
    if not rule:
        raise click.UsageError("Say what shall be different, for example --pin-enforced.")
    with opened(data) as office:
        planned = authorities.plan(office, name, rule)
        if not dry_run:
            authorities.change(office, planned, sure=sure)
    if as_json:
        emit(_told(planned, changed=not dry_run))
        return
    effect = planned.effect
    click.echo(f"{'Nothing is changed yet. ' if dry_run else ''}{name}: {_vouched(planned.after)}.")
    click.echo(f"Accounts with a card of it: {effect.believed}. Locked out of the portal: {effect.stranded_count}.")
    if effect.stranded:
        click.echo("  " + ", ".join(effect.stranded) + (" ..." if effect.stranded_count > len(effect.stranded) else ""))
    if effect.compared < effect.accounts:
        click.echo(f"There was time for {effect.compared} of {effect.accounts} accounts.")


@trust.command()
@click.argument("name")
@as_json
@click.pass_obj
def remove(data: Path | None, name: str, as_json: bool) -> None:
    """Stop trusting an authority. Its cards can't sign in any more; sessions go on, see `revoke-sessions`.

    \b
    Examples:
      tokenbridge server trust remove hospital
    """
    with opened(data) as office:
        authorities.remove(office, name)
    if as_json:
        emit({"removed": name})
    else:
        click.echo(f"No longer trusting {name}.")


def _anchor(options: dict[str, object]) -> Anchor:
    def texts(name: str) -> tuple[str, ...]:
        value = options[name]
        return tuple(str(item) for item in value) if isinstance(value, tuple) else ()

    def flag(name: str) -> bool:
        return bool(options[name])

    found = certificates(read_file(str(options["pem"])))
    if len(found) != 1:
        raise BadRequest("--pem holds several certificates.", next_step="Give the others with --intermediate.")
    return Anchor(
        name=str(options["name"]),
        certificate=found[0],
        intermediates=tuple(der for name in texts("intermediate") for der in certificates(read_file(name))),
        hardware=flag("hardware"),
        pin_enforced=flag("pin_enforced"),
        legacy_weak=flag("legacy_weak"),
        check_revocation=not flag("no_revocation"),
        policy_oids=texts("policy"),
        **_places(texts("crl")),
        ocsp_urls=texts("ocsp"),
        map_nhs_uid=flag("map_nhs_uid"),
        map_upn=flag("map_upn"),
        map_email=flag("map_email"),
    )


def _changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a rule that were named. An empty word clears a list."""
    lists = {name: tuple(word for word in options[name] if word) for name in LISTS if options[name]}
    rule = {name: value for name, value in options.items() if name not in LISTS and value is not None}
    if "crl" in lists:
        rule |= _places(lists["crl"])
    return rule | {
        field: lists[name] for name, field in (("ocsp", "ocsp_urls"), ("policy", "policy_oids")) if name in lists
    }


def _places(crl: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Revocation lists by address and by file; files are found from any directory."""
    return {
        "crl_urls": tuple(place for place in crl if _is_url(place)),
        "crl_files": tuple(str(Path(place).absolute()) for place in crl if not _is_url(place)),
    }


def _told(planned: authorities.Change, *, changed: bool) -> dict[str, Any]:
    effect = planned.effect
    return {
        "name": planned.before.name,
        "changed": changed,
        "before": planned.before.rule(),
        "after": planned.after.rule(),
        "cards_of": effect.believed,
        "locked_out": effect.stranded_count,
        "who": effect.stranded,
        "compared": effect.compared,
        "accounts": effect.accounts,
    }


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _vouched(anchor: Anchor) -> str:
    words = {
        "hardware": anchor.hardware,
        "PIN enforced": anchor.pin_enforced,
        "weak algorithms accepted": anchor.legacy_weak,
        "revocation not checked": not anchor.check_revocation,
        "names NHS users": anchor.map_nhs_uid,
        "names users by UPN": anchor.map_upn,
        "names users by e-mail": anchor.map_email,
    }
    return ", ".join(word for word, true in words.items() if true) or "possession only"
