"""Everything a virtual security key remembers, as data and as a JSON file that is always whole. It decides nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from tokenbridge.authenticator.memory import Credential, Memory, Pin, Protection
from tokenbridge.authenticator.parameters import User
from tokenbridge.authenticator.profile import Algorithm, AttestationFormat, PinProtocol, Profile
from tokenbridge.errors import SetupError
from tokenbridge.rig import state_file
from tokenbridge.rig.key_pki import BatchKey
from tokenbridge.rig.state_file import b64, raw

FORMAT: Final = "tokenbridge-virtual-key:1"


@dataclass(slots=True, kw_only=True)
class KeyState:
    """The key's non-volatile memory. `kept` holds private keys that don't fit into a credential id."""

    profile: Profile
    serial: str
    device_key: bytes
    batch: BatchKey | None = None
    memory: Memory | None = None
    kept: dict[bytes, bytes] = field(default_factory=dict)
    fingers: dict[bytes, str] = field(default_factory=dict)
    """Which finger a template is of."""

    def encode(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "format": FORMAT,
            "profile": _profile_out(self.profile),
            "serial": self.serial,
            "device_key": b64(self.device_key),
            "batch": None if self.batch is None else [b64(self.batch.encode()), *map(b64, self.batch.certificates)],
            "memory": None if self.memory is None else _memory_out(self.memory),
            "kept": {handle.hex(): b64(packed) for handle, packed in self.kept.items()},
            "fingers": {template.hex(): finger for template, finger in self.fingers.items()},
        }

    @classmethod
    def decode(cls, data: dict[str, Any]) -> KeyState:
        """Inverse of `encode`; raises KeyError, TypeError, ValueError or AttributeError on anything else."""
        if data["format"] != FORMAT:
            raise ValueError("another format")
        batch = None if data["batch"] is None else [raw(text) for text in data["batch"]]
        return cls(
            profile=_profile_in(data["profile"]),
            serial=str(data["serial"]),
            device_key=raw(data["device_key"]),
            batch=None if batch is None else BatchKey.decode(batch[0], tuple(batch[1:])),
            memory=None if data["memory"] is None else _memory_in(data["memory"]),
            kept={bytes.fromhex(handle): raw(packed) for handle, packed in data["kept"].items()},
            fingers={bytes.fromhex(template): str(finger) for template, finger in data["fingers"].items()},
        )


def write(path: Path, state: KeyState) -> None:
    """Replace `path` by the state: the old or the new content is there, whatever happens meanwhile."""
    state_file.write(path, state.encode())


def read(path: Path) -> KeyState:
    """The state in `path`; raises `SetupError` if it is absent or not a key."""
    try:
        return KeyState.decode(state_file.read(path))
    except OSError as err:
        raise SetupError(f"There is no virtual key in {path}.", detail=str(err)) from err
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise SetupError(f"{path} is not a virtual key.", detail=repr(err)) from err


def _profile_out(profile: Profile) -> dict[str, Any]:
    data = asdict(profile)
    return {**data, "aaguid": profile.aaguid.hex(), "enterprise_rp_ids": sorted(profile.enterprise_rp_ids)}


def _profile_in(data: dict[str, Any]) -> Profile:
    major, minor, build = data["device_version"]
    return Profile(
        **{
            **data,
            "aaguid": bytes.fromhex(data["aaguid"]),
            "device_version": (major, minor, build),
            "algorithms": tuple(Algorithm(number) for number in data["algorithms"]),
            "attestation": AttestationFormat(data["attestation"]),
            "transports": tuple(data["transports"]),
            "pin_protocols": tuple(PinProtocol(number) for number in data["pin_protocols"]),
            "enterprise_rp_ids": frozenset(data["enterprise_rp_ids"]),
        }
    )


def _memory_out(memory: Memory) -> dict[str, Any]:
    plain = {one.name: getattr(memory, one.name) for one in fields(memory)}
    return {
        **plain,
        "pin": None if memory.pin is None else [memory.pin.digest.hex(), memory.pin.length],
        "credentials": [_credential_out(one) for one in memory.credentials],
        "large_blobs": b64(memory.large_blobs),
        "fingerprints": {template.hex(): name for template, name in memory.fingerprints.items()},
    }


def _memory_in(data: dict[str, Any]) -> Memory:
    pin = data["pin"]
    return Memory(
        **{
            **data,
            "pin": None if pin is None else Pin(digest=bytes.fromhex(pin[0]), length=int(pin[1])),
            "credentials": [_credential_in(one) for one in data["credentials"]],
            "large_blobs": raw(data["large_blobs"]),
            "fingerprints": {bytes.fromhex(template): name for template, name in data["fingerprints"].items()},
        }
    )


_BINARY: Final = ("id", "rp_id_hash", "handle", "public_key", "blob")


def _credential_out(credential: Credential) -> dict[str, Any]:
    plain = {one.name: getattr(credential, one.name) for one in fields(credential)}
    user = credential.user
    binary = {name: b64(plain[name]) for name in _BINARY}
    named = None if user is None else [b64(user.id), user.name, user.display_name]
    return {**plain, **binary, "user": named}


def _credential_in(data: dict[str, Any]) -> Credential:
    user = data["user"]
    return Credential(
        **{
            **data,
            **{name: raw(data[name]) for name in _BINARY},
            "algorithm": Algorithm(data["algorithm"]),
            "protection": Protection(data["protection"]),
            "user": None if user is None else User(id=raw(user[0]), name=user[1], display_name=user[2]),
        }
    )
