"""`tokenbridge rig`: virtual cards and a private PC/SC daemon. It parses, calls `tokenbridge.rig.bench` and prints.

Virtual security keys are in `rig_key`.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenbridge.cli.rig_key import key

if TYPE_CHECKING:
    from tokenbridge.rig.bench import Bench, Entry
    from tokenbridge.rig.piv_crypto import Algorithm

DEFAULT_PIN = "123456"
DEFAULT_PUK = "12345678"
KEY = re.compile(r"([0-9A-Fa-f]{2}):([A-Za-z0-9-]+)")
VARIANTS = ("good", "expired", "not-yet-valid", "wrong-usage", "unknown-issuer")
DISCOVERIES = ("application", "both-application-primary", "both-global-primary", "none")

home_option = click.option(
    "--home", type=click.Path(path_type=Path), help="Where cards are kept. [$XDG_DATA_HOME/tokenbridge/rig]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def rig() -> None:
    """Virtual cards, readers and security keys for test benches. Never put them to real use.

    \b
    Examples:
      tokenbridge rig pcscd &                          a PC/SC daemon of your own
      tokenbridge rig card new ada --key 9A:p256       a staff card with a certificate
      tokenbridge rig card insert ada                  put it into the first slot
      tokenbridge rig card remove ada                  pull it out
    """


rig.add_command(key)


@rig.command()
@click.option("--directory", type=click.Path(path_type=Path), help="Its socket and logs. [HOME/pcscd]")
@click.option("--apdu-log", type=click.Path(path_type=Path, dir_okay=False), help="Log all commands, PINs included.")
@home_option
@json_option
def pcscd(directory: Path | None, apdu_log: Path | None, home: Path | None, as_json: bool) -> None:
    """Run a PC/SC daemon with two virtual readers, apart from the machine's, until Ctrl-C.

    \b
    Examples:
      tokenbridge rig pcscd                            prints the line that points programs to it
      tokenbridge rig pcscd --apdu-log apdus.log
    """
    from tokenbridge.errors import SetupError
    from tokenbridge.rig.pcscd import PrivatePcscd

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the daemon must not outlive this program
    place = directory or _bench(home).pcscd_directory
    with PrivatePcscd(place, apdu_log=apdu_log) as daemon:
        if as_json:
            readers = dict(zip(daemon.readers, daemon.ports, strict=True))
            click.echo(json.dumps({"environ": daemon.environ, "readers": readers, "pid": daemon.pid}))
        else:
            for name, value in daemon.environ.items():
                click.echo(f"export {name}={value}")
            for reader, port in zip(daemon.readers, daemon.ports, strict=True):
                click.echo(f"# {reader}: port {port}", err=True)
        daemon.wait()
        raise SetupError("The PC/SC daemon has ended.", next_step=f"See {place / 'pcscd.log'}.")


@rig.command()
@home_option
@json_option
def pki(home: Path | None, as_json: bool) -> None:
    """Where the test PKI's certificates and revocation lists are. The lists are written anew.

    \b
    Examples:
      tokenbridge rig pki --json
    """
    bench = _bench(home)
    bench.pki()
    files = _pki_files(bench)
    _print({"pki": files}, "\n".join(f"{name:12} {path}" for name, path in files.items()), as_json)


@rig.group()
def card() -> None:
    """Make, insert, pull and list virtual cards.

    \b
    Examples:
      tokenbridge rig card new ada
      tokenbridge rig card insert ada
      tokenbridge rig card list
    """


@card.command()
@click.argument("name")
@click.option("--holder", default="", help="Name printed on the card; hosts can read it after the PIN.")
@click.option("--nhs-uid", "uid", default="000123456789", show_default=True, help="Common name of the certificate.")
@click.option("--upn", default="", help="User principal name in the certificate.")
@click.option("--email", default="", help="E-mail address in the certificate.")
@click.option("--key", "keys", multiple=True, metavar="SLOT:ALGORITHM", help="Repeatable. [9A:rsa2048]")
@click.option("--variant", type=click.Choice(VARIANTS), default="good", help="What is wrong with the certificates.")
@click.option("--crl-url", default="", help="CRL distribution point in the certificates.")
@click.option("--ocsp-url", default="", help="OCSP responder in the certificates.")
@click.option("--crl-directory-name", is_flag=True, help="CRL distribution point by directory name, as on NHS cards.")
@click.option("--extended/--short", default=False, help="Whether the card takes extended APDUs. [short]")
@click.option("--gzip", "compressed", is_flag=True, help="Compress the certificates.")
@click.option("--tries", type=click.IntRange(1, 15), default=3, show_default=True, help="Tries of PIN and PUK.")
@click.option("--tries-word", type=click.Choice(("63Cx", "630x")), default="63Cx", help="How a wrong PIN is answered.")
@click.option("--discovery", type=click.Choice(DISCOVERIES), default="application", help="Which PIN the card names.")
@click.option("--ask-pins", is_flag=True, help="Ask for PIN and PUK.")
@click.option("--pin-fd", type=int, help=f"Read the PIN from this descriptor. [{DEFAULT_PIN}]")
@click.option("--puk-fd", type=int, help=f"Read the PUK from this descriptor. [{DEFAULT_PUK}]")
@home_option
@json_option
def new(name: str, home: Path | None, as_json: bool, **options: Any) -> None:
    """Make the card NAME: keys, certificates of the bench's test PKI, PIN 123456 and PUK 12345678.

    \b
    Examples:
      tokenbridge rig card new ada
      tokenbridge rig card new bob --nhs-uid 000987654321 --key 9A:p256 --key 9C:rsa2048 --extended
      tokenbridge rig card new old --variant expired
    """
    from tokenbridge.rig.card_state import CardProfile, TriesWord
    from tokenbridge.rig.piv_objects import Discovery
    from tokenbridge.rig.pki import Variant
    from tokenbridge.rig.provision import DEFAULT_KEYS, Staff

    keys = dict(_key(text) for text in options["keys"]) or DEFAULT_KEYS
    texts = {field: options[field] for field in ("holder", "uid", "upn", "email", "crl_url", "ocsp_url")}
    by_name = options["crl_directory_name"]
    staff = Staff(keys=keys, variant=Variant(options["variant"]), crl_directory_name=by_name, **texts)
    profile = CardProfile(
        extended_length=options["extended"],
        gzip_certificates=options["compressed"],
        tries_word=TriesWord(options["tries_word"]),
        discovery=Discovery(options["discovery"]),
        pin_tries=options["tries"],
        puk_tries=options["tries"],
    )
    bench = _bench(home)
    made = bench.new(name, staff, profile, _pins(options))
    _print({"card": made.as_dict(), "pki": _pki_files(bench)}, f"Made {_line(made)}", as_json)


@card.command()
@click.argument("name")
@click.option("--slot", type=int, default=0, show_default=True, help="Reader slot of the daemon in the environment.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port of the slot, instead of --slot.")
@home_option
@json_option
def insert(name: str, slot: int, port: int | None, home: Path | None, as_json: bool) -> None:
    """Put the card NAME into a reader slot, where a background process holds it. Does nothing if it is there.

    \b
    Examples:
      tokenbridge rig card insert ada
      tokenbridge rig card insert bob --slot 1
    """
    from tokenbridge.rig.bench import slot_port

    found = _bench(home).insert(name, slot_port(slot) if port is None else port)
    _print({"card": found.as_dict()}, _line(found), as_json)


@card.command()
@click.argument("name")
@home_option
@json_option
def remove(name: str, home: Path | None, as_json: bool) -> None:
    """Pull the card NAME out of its slot. Does nothing if it is out.

    \b
    Examples:
      tokenbridge rig card remove ada
    """
    found = _bench(home).remove(name)
    _print({"card": found.as_dict()}, _line(found), as_json)


@card.command()
@click.argument("name")
@home_option
@json_option
def revoke(name: str, home: Path | None, as_json: bool) -> None:
    """Revoke the certificates of the card NAME and write the revocation list anew.

    \b
    Examples:
      tokenbridge rig card revoke ada
    """
    bench = _bench(home)
    serials = bench.revoke(name)
    files = _pki_files(bench)
    _print({"revoked": serials, "pki": files}, f"Revoked {', '.join(serials)} in {files['issuing_crl']}", as_json)


@card.command("list")
@home_option
@json_option
def list_cards(home: Path | None, as_json: bool) -> None:
    """Show all cards and where they are.

    \b
    Examples:
      tokenbridge rig card list --json
    """
    found = _bench(home).entries()
    lines = "\n".join(_line(entry) for entry in found) or "No cards: make one with `tokenbridge rig card new NAME`."
    _print({"cards": [entry.as_dict() for entry in found]}, lines, as_json)


def _bench(home: Path | None) -> Bench:
    from tokenbridge.rig.bench import Bench, default_home

    return Bench(home or default_home())


def _pki_files(bench: Bench) -> dict[str, str]:
    names = {"root": "root.pem", "issuing": "issuing.pem", "root_crl": "root.crl", "issuing_crl": "issuing.crl"}
    return {name: str(bench.pki_directory / file) for name, file in names.items()}


def _key(text: str) -> tuple[int, Algorithm]:
    from tokenbridge.errors import BadRequest
    from tokenbridge.rig.piv_crypto import Algorithm, is_asymmetric
    from tokenbridge.rig.piv_objects import has_certificate

    match = KEY.fullmatch(text)
    names = {known.name: known for known in Algorithm if is_asymmetric(known)}
    algorithm = names.get(match[2].upper().replace("-", "")) if match else None
    if match is None or algorithm is None or not has_certificate(int(match[1], 16)):
        choice = ", ".join(name.lower() for name in names)
        raise BadRequest(f"{text!r} is no key.", next_step=f"Say SLOT:ALGORITHM, e.g. 9A:p256 ({choice}).")
    return int(match[1], 16), algorithm


def _pins(options: dict[str, Any]) -> tuple[bytes, bytes]:
    from tokenbridge.errors import PinUnfit

    pin = _secret("PIN", DEFAULT_PIN, options["pin_fd"], ask=options["ask_pins"])
    puk = _secret("PUK", DEFAULT_PUK, options["puk_fd"], ask=options["ask_pins"])
    if not (pin.isdigit() and 6 <= len(pin) <= 8):
        raise PinUnfit
    if not 6 <= len(puk) <= 8:
        raise PinUnfit("That can't be a PUK: it has 6 to 8 characters.", next_step="Type 6 to 8 characters.")
    return pin, puk


def _secret(what: str, default: str, descriptor: int | None, *, ask: bool) -> bytes:
    from tokenbridge.cli import terminal

    if descriptor is not None:
        return bytes(terminal.read_fd(descriptor))
    if not ask:
        return default.encode()
    return bytes(terminal.ask(f"{what} of the new card: ", hidden=True) or b"")


def _line(entry: Entry) -> str:
    keys = ", ".join(f"{ref} {algorithm}" for ref, algorithm in entry.keys.items())
    where = "out" if entry.port is None else f"inserted, port {entry.port}"
    return f"{entry.name}: {entry.uid}, {keys or 'no keys'}, {entry.pin_tries} PIN tries left, {where}"


def _print(data: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(data) if as_json else text)
