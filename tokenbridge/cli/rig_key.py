"""`tokenbridge rig key`: virtual security keys. It parses, calls `tokenbridge.rig.key_bench` and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tokenbridge.authenticator.profile import Profile
    from tokenbridge.rig.key_bench import KeyBench, KeyEntry

MODES = ("always", "never", "deny", "command", "late")
ATTESTATIONS = ("none", "packed-self", "packed-batch")

home_option = click.option(
    "--home", type=click.Path(path_type=Path), help="Where keys are kept. [$XDG_DATA_HOME/tokenbridge/rig]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def key() -> None:
    """Make, insert, touch, pull and list virtual security keys. Never put them to real use.

    \b
    Examples:
      tokenbridge rig key new blue
      sudo tokenbridge rig key insert blue             a HID device of the kernel's, for every program
      tokenbridge rig key insert blue --sockets DIR    for the bridge alone, without root
      tokenbridge rig key touch blue
    """


@key.command()
@click.argument("name")
@click.option("--serial", default="", help="Serial number that hosts see. [random]")
@click.option("--fingerprints", is_flag=True, help="With a fingerprint sensor.")
@click.option("--no-pin", is_flag=True, help="A model that can't have a PIN.")
@click.option("--no-u2f", is_flag=True, help="A model without CTAP1.")
@click.option("--preview", is_flag=True, help="Also with the commands of the days before CTAP 2.1.")
@click.option("--attestation", type=click.Choice(ATTESTATIONS), default="packed-batch", show_default=True)
@click.option("--algorithm", "algorithms", multiple=True, metavar="NAME", help="Repeatable. [all four]")
@click.option("--rooms", type=click.IntRange(0, 1000), default=50, show_default=True, help="Discoverable credentials.")
@click.option("--aaguid", default="", help="Of the model, as a UUID. [that of the virtual key]")
@home_option
@json_option
def new(name: str, serial: str, home: Path | None, as_json: bool, **options: Any) -> None:
    """Make the security key NAME, without PIN. Its attestation is certified by the bench's test root.

    \b
    Examples:
      tokenbridge rig key new blue
      tokenbridge rig key new red --fingerprints --serial R0001
      tokenbridge rig key new old --no-pin --algorithm es256 --attestation packed-self
    """
    bench = _bench(home)
    made = bench.new(name, _profile(options), serial)
    root = str(bench.pki_directory / "key-root.pem")
    _print({"key": made.as_dict(), "root": root}, f"Made {_line(made)}\nIts makers' root: {root}", as_json)


@key.command()
@click.argument("name")
@click.option("--touch", type=click.Choice(MODES), default="command", help="What the person does. [command]")
@click.option("--seconds", type=click.FloatRange(0, 600), default=1.0, help="How late, with --touch late.")
@click.option("--finger", default="", help="Which finger is put on the sensor. [right index]")
@click.option(
    "--sockets",
    type=click.Path(path_type=Path, file_okay=False),
    help="Serve it on a packet socket in this folder, even if the kernel has uhid.",
)
@home_option
@json_option
def insert(name: str, home: Path | None, as_json: bool, sockets: Path | None, **options: Any) -> None:
    """Plug the key NAME in, where a background process serves it. Does nothing if it is in.

    With uhid in the kernel it is a HID device that every program sees; that takes root. Else it is a socket in the
    folder that TOKENBRIDGE_KEY_SOCKETS or the bridge's setting key_sockets names, which the bridge alone sees.

    \b
    Examples:
      sudo tokenbridge rig key insert blue --touch always
      tokenbridge rig key insert blue --sockets /tmp/keys
    """
    from tokenbridge.rig.key_bench import place_for
    from tokenbridge.transport.uhid import UHID

    bench = _bench(home)
    entry = bench.entry(name)
    place = entry.place or place_for(entry, sockets or _configured_sockets(), kernel=None if sockets else UHID)
    finger = {"finger": options["finger"]} if options["finger"] else {}
    found = bench.insert(name, place, {"mode": options["touch"], "seconds": str(options["seconds"]), **finger})
    _print({"key": found.as_dict()}, f"{_line(found)}\n{_where(found)}", as_json)


@key.command()
@click.argument("name")
@home_option
@json_option
def remove(name: str, home: Path | None, as_json: bool) -> None:
    """Pull the key NAME. Does nothing if it is out.

    \b
    Examples:
      tokenbridge rig key remove blue
    """
    found = _bench(home).remove(name)
    _print({"key": found.as_dict()}, _line(found), as_json)


@key.command()
@click.argument("name")
@click.option("--deny", is_flag=True, help="Refuse what the key asks for instead.")
@home_option
@json_option
def touch(name: str, deny: bool, home: Path | None, as_json: bool) -> None:
    """Touch the key NAME once: for what it asks for now, or for what it asks for next.

    \b
    Examples:
      tokenbridge rig key touch blue
      tokenbridge rig key touch blue --deny
    """
    found = _bench(home).touch(name, deny=deny)
    _print({"key": found.as_dict()}, f"{'Denied' if deny else 'Touched'} {name}.", as_json)


@key.command("list")
@home_option
@json_option
def list_keys(home: Path | None, as_json: bool) -> None:
    """Show all virtual keys and where they are.

    \b
    Examples:
      tokenbridge rig key list --json
    """
    found = _bench(home).entries()
    lines = "\n".join(_line(entry) for entry in found) or "No keys: make one with `tokenbridge rig key new NAME`."
    _print({"keys": [entry.as_dict() for entry in found]}, lines, as_json)


@key.command()
@click.argument("name")
@home_option
@json_option
def info(name: str, home: Path | None, as_json: bool) -> None:
    """Show the key NAME and the credentials on it, as they are stored.

    \b
    Examples:
      tokenbridge rig key info blue --json
    """
    bench = _bench(home)
    entry = bench.entry(name)
    credentials = bench.credentials(name)
    lines = [_line(entry), *(f"  {one['rp_id']}  {one['user']}  {one['id'][:16]}" for one in credentials)]
    _print({"key": entry.as_dict(), "credentials": credentials}, "\n".join(lines), as_json)


def _bench(home: Path | None) -> KeyBench:
    from tokenbridge.rig.bench import default_home
    from tokenbridge.rig.key_bench import KeyBench

    return KeyBench(home or default_home())


def _configured_sockets() -> Path | None:
    """The bridge's setting, or the environment, which wins there."""
    from tokenbridge.daemon import settings

    return settings.load().key_sockets


def _profile(options: dict[str, Any]) -> Profile:
    import uuid

    from tokenbridge.authenticator.profile import ALL_ALGORITHMS, AttestationFormat, Profile
    from tokenbridge.errors import BadRequest
    from tokenbridge.rig.virtual_key import AAGUID

    try:
        aaguid = uuid.UUID(options["aaguid"]).bytes if options["aaguid"] else AAGUID
    except ValueError as err:
        raise BadRequest(f"{options['aaguid']!r} is no AAGUID.", next_step="It is written as a UUID.") from err
    return Profile(
        aaguid=aaguid,
        algorithms=tuple(_algorithm(text) for text in options["algorithms"]) or ALL_ALGORITHMS,
        attestation=AttestationFormat(options["attestation"]),
        client_pin=not options["no_pin"],
        fingerprints=options["fingerprints"],
        u2f=not options["no_u2f"],
        preview=options["preview"],
        max_credentials=options["rooms"],
    )


def _algorithm(text: str) -> Any:
    from tokenbridge.authenticator.profile import Algorithm
    from tokenbridge.errors import BadRequest

    names = {one.name: one for one in Algorithm}
    if text.upper() not in names:
        choice = ", ".join(name.lower() for name in names)
        raise BadRequest(f"{text!r} is no algorithm of security keys.", next_step=f"Say one of {choice}.")
    return names[text.upper()]


def _line(entry: KeyEntry) -> str:
    pin = f"PIN set, {entry.pin_tries} tries left" if entry.pin else "no PIN"
    fingers = f", {entry.fingerprints} fingerprints" if entry.fingerprints else ""
    where = "out" if entry.place is None else f"inserted ({entry.place})"
    return f"{entry.name}: serial {entry.serial}, {entry.credentials} credentials, {pin}{fingers}, {where}"


def _where(entry: KeyEntry) -> str:
    if entry.place == "uhid":
        return "It is a HID device of the kernel: every program sees it."
    return "This kernel makes no keys here: it is a packet socket, which the bridge alone sees."


def _print(data: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(data) if as_json else text)
