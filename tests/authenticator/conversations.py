"""Inputs for fuzzing: packets, and CTAP2 requests that are almost right; for the bounded run and for the long one."""

from __future__ import annotations

from typing import Any

from fido2 import cbor
from hypothesis import strategies as st

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.wire.ctaphid import HidCommand, Message

COMMANDS = [int(command) for command in CommandByte]
HID_COMMANDS = [int(command) for command in HidCommand]

scalars: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.integers(0, 12),
    st.binary(max_size=80),
    st.sampled_from(["public-key", "example.org", "rk", "uv", "up", "id", "type", "alg", "credProtect", "hmac-secret"]),
    st.text(max_size=8),
)
keys: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 12), st.integers(-3, 3), st.sampled_from(["id", "type", "alg", "name", "rk", "uv", "up"])
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)
maps = st.dictionaries(st.integers(0, 12), values, max_size=8)

descriptors = st.fixed_dictionaries({"id": st.binary(max_size=200), "type": st.sampled_from(["public-key", "x"])})
options = st.dictionaries(st.sampled_from(["rk", "uv", "up", "plat"]), st.booleans() | scalars, max_size=3)
extensions = st.dictionaries(
    st.sampled_from(["credProtect", "hmac-secret", "credBlob", "largeBlobKey", "minPinLength", "x"]), values, max_size=4
)
registrations = st.fixed_dictionaries(
    {
        1: st.binary(min_size=32, max_size=32),
        2: st.fixed_dictionaries({"id": st.sampled_from(["example.org", "other.org"])}),
        3: st.fixed_dictionaries({"id": st.binary(max_size=66)}),
        4: st.lists(st.fixed_dictionaries({"alg": st.sampled_from([-7, -8, -35, 1]), "type": st.just("public-key")})),
    },
    optional={
        5: st.lists(descriptors, max_size=3),
        6: extensions,
        7: options,
        8: st.binary(max_size=32),
        9: st.integers(0, 3),
        10: st.integers(0, 3),
    },
)
sign_ins = st.fixed_dictionaries(
    {1: st.sampled_from(["example.org", "other.org"]), 2: st.binary(min_size=32, max_size=32)},
    optional={
        3: st.lists(descriptors, max_size=3),
        4: extensions,
        5: options,
        6: st.binary(max_size=32),
        7: st.integers(0, 3),
    },
)


def _request(command: int, parameters: Any) -> bytes:
    return bytes([command]) + cbor.encode(parameters)


def _bent(request: bytes, position: int, bit: int, cut: int) -> bytes:
    """One bit flipped, and perhaps cut short."""
    bent = bytearray(request)
    bent[position % len(bent)] ^= 1 << bit
    return bytes(bent[: cut or None])


sound = st.one_of(
    st.builds(_request, st.just(1), registrations),
    st.builds(_request, st.just(2), sign_ins),
    st.builds(_request, st.sampled_from(COMMANDS), maps),
    st.sampled_from(COMMANDS).map(lambda command: bytes([command])),
)
requests = st.one_of(
    sound,
    st.builds(_bent, sound, st.integers(0, 500), st.integers(0, 7), st.just(0) | st.integers(0, 200)),
    st.builds(lambda command, rest: bytes([command]) + rest, st.sampled_from(COMMANDS), st.binary(max_size=300)),
    st.binary(max_size=100),
)
"""CTAP2 requests: almost right, damaged, and noise."""

packets = st.one_of(
    st.binary(min_size=64, max_size=64),
    st.binary(max_size=70),
    st.builds(
        lambda channel, command, length, data: (
            channel.to_bytes(4, "big") + bytes([0x80 | command]) + length.to_bytes(2, "big") + data
        ).ljust(64, b"\0"),
        st.integers(0, 3),
        st.sampled_from(HID_COMMANDS),
        st.sampled_from([0, 1, 8, 57, 58, 200, 7609, 7610, 65535]),
        st.binary(max_size=57),
    ),
    st.builds(
        lambda channel, sequence, data: (channel.to_bytes(4, "big") + bytes([sequence]) + data).ljust(64, b"\0"),
        st.integers(0, 3),
        st.integers(0, 127),
        st.binary(max_size=59),
    ),
)
"""HID packets. Channels 1 to 3 stand for the first three that the device gave; 0 for the broadcast one."""

wholes = st.builds(
    lambda channel, command, payload: list(Message(channel=channel, command=command, payload=payload).packets()),
    st.integers(1, 3),
    st.sampled_from([HidCommand.CBOR, HidCommand.CBOR, HidCommand.MSG, HidCommand.PING]),
    requests,
)
streams = st.lists(packets.map(lambda packet: [packet]) | wholes, max_size=20).map(
    lambda parts: [packet for part in parts for packet in part]
)
"""Packets one after the other: stray ones and whole messages."""
