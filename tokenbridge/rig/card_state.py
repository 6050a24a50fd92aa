"""Everything a virtual card remembers, as data and as a JSON file that is always whole. It decides nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from tokenbridge.errors import SetupError
from tokenbridge.rig import piv_crypto, state_file
from tokenbridge.rig.piv_crypto import Algorithm, PrivateKey
from tokenbridge.rig.piv_objects import Discovery, PinPolicy, PinRef
from tokenbridge.rig.state_file import b64, raw

FORMAT: Final = "tokenbridge-virtual-card:1"
DEFAULT_PIN: Final = b"123456"
DEFAULT_PUK: Final = b"12345678"
DEFAULT_SECOND_PIN: Final = b"87654321"
"""PIN of the reference that is not the primary one: different, so that asking the wrong one shows."""
DEFAULT_MANAGEMENT_KEY: Final = bytes.fromhex("010203040506070801020304050607080102030405060708")


@unique
class TriesWord(StrEnum):
    """How a wrong PIN is answered: by the standard's 63Cx, or 630x as some cards do."""

    STANDARD = "63Cx"
    SHORT = "630x"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardProfile:
    """What kind of card it is; fixed at personalisation.

    The capability container is off because of the benchmarks: OpenSC reads one twice for nothing, and the comparison
    shall not be in our favour by that.
    """

    extended_length: bool = False
    tries_word: TriesWord = TriesWord.STANDARD
    discovery: Discovery = Discovery.APPLICATION
    gzip_certificates: bool = False
    pin_tries: int = 3
    puk_tries: int = 3
    vendor_instructions: bool = True
    capability_container: bool = False


@dataclass(slots=True, kw_only=True)
class PinState:
    """One PIN or PUK: its value (without padding), tries left and at most."""

    value: bytes
    tries: int
    limit: int


@dataclass(slots=True, kw_only=True)
class SlotKey:
    """One private key with its rule."""

    private: PrivateKey
    policy: PinPolicy
    touch: int = 1
    generated: bool = False

    @property
    def algorithm(self) -> Algorithm:
        return piv_crypto.algorithm_of(self.private)


@dataclass(slots=True, kw_only=True)
class CardState:
    """The card's non-volatile memory. `objects` maps tags to contents (without 53)."""

    profile: CardProfile
    guid: bytes
    pins: dict[int, PinState]
    management_algorithm: Algorithm = Algorithm.TDES
    management_key: bytes = DEFAULT_MANAGEMENT_KEY
    keys: dict[int, SlotKey] = field(default_factory=dict)
    objects: dict[int, bytes] = field(default_factory=dict)

    @property
    def serial(self) -> int:
        """A serial number as vendors' instructions give it, from the GUID; 31 bits: some print it signed."""
        return int.from_bytes(self.guid[:4], "big") >> 1

    def encode(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "format": FORMAT,
            "profile": asdict(self.profile),
            "guid": self.guid.hex(),
            "pins": {f"{ref:02X}": [b64(pin.value), pin.tries, pin.limit] for ref, pin in self.pins.items()},
            "management": [int(self.management_algorithm), b64(self.management_key)],
            "keys": {f"{ref:02X}": _encode_key(key) for ref, key in self.keys.items()},
            "objects": {f"{tag:X}": b64(value) for tag, value in self.objects.items()},
        }

    @classmethod
    def decode(cls, data: dict[str, Any]) -> CardState:
        """Inverse of `encode`; raises KeyError, TypeError or ValueError on anything else."""
        if data["format"] != FORMAT:
            raise ValueError("another format")
        algorithm, management_key = data["management"]
        return cls(
            profile=_decode_profile(data["profile"]),
            guid=bytes.fromhex(data["guid"]),
            pins={int(ref, 16): PinState(value=raw(v), tries=t, limit=m) for ref, (v, t, m) in data["pins"].items()},
            management_algorithm=Algorithm(algorithm),
            management_key=raw(management_key),
            keys={int(ref, 16): _decode_key(key) for ref, key in data["keys"].items()},
            objects={int(tag, 16): raw(value) for tag, value in data["objects"].items()},
        )


def fresh_pins(profile: CardProfile, *, pin: bytes, puk: bytes, second_pin: bytes) -> dict[int, PinState]:
    """The PINs of a new card: `pin` is the primary one, `second_pin` that of the other reference if there is one."""
    global_primary = profile.discovery is Discovery.BOTH_GLOBAL_PRIMARY
    primary, second = (PinRef.GLOBAL, PinRef.APPLICATION) if global_primary else (PinRef.APPLICATION, PinRef.GLOBAL)
    pins = {
        int(primary): PinState(value=pin, tries=profile.pin_tries, limit=profile.pin_tries),
        int(PinRef.PUK): PinState(value=puk, tries=profile.puk_tries, limit=profile.puk_tries),
    }
    if profile.discovery in (Discovery.BOTH_APPLICATION_PRIMARY, Discovery.BOTH_GLOBAL_PRIMARY):
        pins[int(second)] = PinState(value=second_pin, tries=profile.pin_tries, limit=profile.pin_tries)
    return pins


def write(path: Path, state: CardState) -> None:
    """Replace `path` by the state: the old or the new content is there, whatever happens meanwhile."""
    state_file.write(path, state.encode())


def read(path: Path) -> CardState:
    """The state in `path`; raises `SetupError` if it is absent or not a card."""
    try:
        return CardState.decode(state_file.read(path))
    except OSError as err:
        raise SetupError(f"There is no virtual card in {path}.", detail=str(err)) from err
    except (KeyError, TypeError, ValueError) as err:
        raise SetupError(f"{path} is not a virtual card.", detail=repr(err)) from err


def _encode_key(key: SlotKey) -> dict[str, Any]:
    der = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {"pkcs8": b64(der), "policy": int(key.policy), "touch": key.touch, "generated": key.generated}


def _decode_key(data: dict[str, Any]) -> SlotKey:
    private = load_der_private_key(raw(data["pkcs8"]), password=None)
    if not isinstance(private, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise ValueError("a key of a kind that PIV does not have")
    policy = PinPolicy(data["policy"])
    return SlotKey(private=private, policy=policy, touch=int(data["touch"]), generated=bool(data["generated"]))


def _decode_profile(data: dict[str, Any]) -> CardProfile:
    words = {"tries_word": TriesWord(data["tries_word"]), "discovery": Discovery(data["discovery"])}
    return CardProfile(**{**data, **words})
