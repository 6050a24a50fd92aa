"""A key store in software for virtual security keys, and the clock, randomness and threads that go with it."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from pathlib import Path
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tokenbridge.authenticator.memory import Memory
from tokenbridge.authenticator.ports import KeyGone, NewKey, StoreFault, StoreFull
from tokenbridge.authenticator.profile import Algorithm
from tokenbridge.rig import key_crypto, key_state
from tokenbridge.rig.key_state import KeyState

T = TypeVar("T")

NONCE: Final = 12
HANDLE: Final = 16
MAX_KEPT: Final = 200
"""RSA keys at most."""
INLINE_SECONDS: Final = 0.05
"""Jobs that are done sooner cost no turn of the device's loop."""


class SystemClock:
    """An `authenticator.ports.Clock`."""

    def now(self) -> float:
        return time.monotonic()


class SystemRandom:
    """An `authenticator.ports.Random`."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


class SoftKeyStore:
    """An `authenticator.ports.KeyStore`. What was not saved is lost with the power, as in real ones."""

    def __init__(self, state: KeyState, path: Path | None = None) -> None:
        self.state = state
        self.path = path

    def load(self) -> Memory | None:
        return copy.deepcopy(self.state.memory)

    def save(self, memory: Memory) -> None:
        self.state.memory = copy.deepcopy(memory)
        self.write()

    def erase(self) -> None:
        self.state.device_key = os.urandom(32)
        self.state.kept.clear()
        self.state.memory = None
        self.write()

    def generate(self, algorithm: Algorithm, *, discoverable: bool) -> NewKey:
        """Keys that are short enough are their own handles; RSA keys are kept here."""
        del discoverable
        pair = key_crypto.generate(algorithm)
        packed, public = key_crypto.pack(pair), key_crypto.public_cose(algorithm, pair)
        if algorithm is not Algorithm.RS256:
            return NewKey(handle=packed, public=public)
        if len(self.state.kept) >= MAX_KEPT:
            raise StoreFull
        handle = os.urandom(HANDLE)
        self.state.kept[handle] = packed
        return NewKey(handle=handle, public=public)

    def sign(self, handle: bytes, algorithm: Algorithm, message: bytes) -> bytes:
        packed = self.state.kept.get(handle) if algorithm is Algorithm.RS256 else handle
        if packed is None:
            raise KeyGone
        return key_crypto.sign(algorithm, key_crypto.unpack(algorithm, packed), message)

    def forget(self, handle: bytes) -> None:
        self.state.kept.pop(handle, None)

    def seal(self, clear: bytes, context: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + AESGCM(self.derive(b"seal")).encrypt(nonce, clear, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes | None:
        try:
            return AESGCM(self.derive(b"seal")).decrypt(sealed[:NONCE], sealed[NONCE:], context)
        except (InvalidTag, ValueError):
            return None

    def derive(self, label: bytes) -> bytes:
        return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=label).derive(self.state.device_key)

    def write(self) -> None:
        """Make the state durable; does nothing for a key without a file. Raises `StoreFault`."""
        if self.path is None:
            return
        try:
            key_state.write(self.path, self.state)
        except OSError as err:
            raise StoreFault(f"{self.path}: {err.strerror or err}") from err


class ThreadJobs:
    """An `authenticator.ports.Jobs`: one thread beside the device's own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="key-job")

    def start(self, job: Callable[[], T]) -> Future[T]:
        """Waits a moment, since most jobs take less than a millisecond."""
        future = self._executor.submit(job)
        with contextlib.suppress(StillRunning):
            future.exception(timeout=INLINE_SECONDS)
        return future

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
