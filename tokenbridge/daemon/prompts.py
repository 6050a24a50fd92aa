"""Ways to ask a person: over the caller's event stream, or by the desktop's pinentry.

What is typed travels as bytes into one buffer that is wiped after use. Nothing here knows what the answer is for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tokenbridge.errors import Cancelled, NotAllowedNow, SetupError, TimedOut
from tokenbridge.interaction import Option, PinRequest, Secret, one_line

Emit = Callable[[Mapping[str, Any]], Awaitable[None]]
MAX_LINE: Final = 2048
END_SECONDS: Final = 2
CONSENT: Final = (b"yes", b"y")
"""What agrees to spend the last try; anything else declines."""
PURPOSES: Final = {"manage-key": "To manage your security key", "pin-change": "To change your PIN"}
"""What a PIN is asked for when it is for no site."""
HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")
PINENTRY_KEYS: Final = ("display", "ttyname", "ttytype", "lc-ctype")
PINENTRY_CANCELLED: Final = (b"83886179", b"83886194")
"""GPG_ERR_CANCELED and GPG_ERR_NOT_CONFIRMED with pinentry's error source."""


@dataclass(slots=True)
class Pending:
    """Questions that wait for an answer, by an unguessable id."""

    _waiting: dict[str, asyncio.Future[Secret]] = field(default_factory=dict)

    def open(self) -> tuple[str, asyncio.Future[Secret]]:
        question = secrets.token_urlsafe(16)
        future: asyncio.Future[Secret] = asyncio.get_running_loop().create_future()
        self._waiting[question] = future
        return question, future

    def close(self, question: str) -> None:
        self._waiting.pop(question, None)

    def answer(self, question: str, value: Secret) -> None:
        """Raises `NotAllowedNow` for a question that nobody asks (any more)."""
        try:
            self._take(question).set_result(value)
        except NotAllowedNow:
            value.wipe()
            raise

    def decline(self, question: str) -> None:
        self._take(question).set_exception(Cancelled("user"))

    def _take(self, question: str) -> asyncio.Future[Secret]:
        future = self._waiting.pop(question, None)
        if future is None or future.done():
            raise NotAllowedNow("Nobody is asking that any more.")
        return future


class StreamInteraction:
    """Asks whoever reads the event stream of the request; the answer comes by a second request."""

    def __init__(self, emit: Emit, pending: Pending, seconds: float) -> None:
        self._emit = emit
        self._pending = pending
        self._seconds = seconds

    async def ask_pin(self, request: PinRequest) -> Secret:
        return await self._ask("pin", asdict(request))

    async def confirm_last_try(self, request: PinRequest) -> None:
        with await self._ask("last-try", asdict(request)) as answer:
            if bytes(answer.reveal()).strip().lower() not in CONSENT:
                raise Cancelled("user")

    async def choose(self, title: str, options: Sequence[Option]) -> str:
        with await self._ask("choose", {"title": title, "options": [asdict(o) for o in options]}) as answer:
            return answer.reveal().decode("utf-8", "replace")

    async def confirm(self, question: str, consequence: str) -> None:
        """Return only if the person agrees. Raises `Cancelled`."""
        with await self._ask("confirm", {"question": question, "consequence": consequence}) as answer:
            if bytes(answer.reveal()).strip().lower() not in CONSENT:
                raise Cancelled("user")

    async def tell(self, text: str) -> None:
        """Say something that nobody has to answer; the caller's own lines say it already."""

    async def ask_text(self, kind: str, facts: Mapping[str, Any]) -> Secret:
        """A user name, password, code, PUK or new PIN."""
        return await self._ask(kind, facts)

    async def progress(self, step: str, /, **facts: object) -> None:
        """`facts` may come from a site, so they can't replace what the bridge says."""
        await self._emit({**facts, "event": "step", "step": step})

    async def _ask(self, kind: str, facts: Mapping[str, Any]) -> Secret:
        question, future = self._pending.open()
        try:
            await self._emit({"event": "prompt", "id": question, "kind": kind, **facts})
            async with asyncio.timeout(self._seconds):
                return await future
        except TimeoutError:
            raise TimedOut("Nobody answered in time.") from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().wipe()
            raise
        finally:
            self._pending.close(question)
            if not future.done():
                future.cancel()


class PinentryInteraction(StreamInteraction):
    """Asks for PINs by pinentry (GnuPG's Assuan dialogue), for everything else as the stream does."""

    def __init__(self, stream: StreamInteraction, program: str, where: Mapping[str, str]) -> None:
        super().__init__(stream._emit, stream._pending, stream._seconds)
        self._program = program
        self._options = {key: where[key] for key in PINENTRY_KEYS if where.get(key)}

    async def ask_pin(self, request: PinRequest) -> Secret:
        await self.progress("pinentry", tries_left=request.tries_left)
        return await self._dialogue(describe(request), "GETPIN")

    async def confirm_last_try(self, request: PinRequest) -> None:
        what = "key" if request.key else "card"
        text = f"{describe(request)}\n\nThis is the LAST try. If it is wrong, the {what} is blocked. Go on?"
        (await self._dialogue(text, "CONFIRM")).wipe()

    async def confirm(self, question: str, consequence: str) -> None:
        (await self._dialogue(f"{question}\n\n{consequence}", "CONFIRM")).wipe()

    async def tell(self, text: str) -> None:
        (await self._dialogue(text, "MESSAGE")).wipe()

    async def _dialogue(self, text: str, command: str) -> Secret:
        arguments = [part for key, value in self._options.items() for part in (f"--{key}", value)]
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as err:
            raise SetupError(
                f"{self._program} can't be started: {err.strerror}",
                next_step="Install a pinentry, or sign in from a terminal with --prompt terminal.",
            ) from err
        try:
            async with asyncio.timeout(self._seconds):
                return await _converse(process, text, command)
        except TimeoutError:
            raise TimedOut("Nobody answered in time.") from None
        except (OSError, ValueError) as err:
            # It ended while it was written to, or its line has no end.
            raise SetupError("pinentry failed", detail=repr(err)) from err
        finally:
            await _end(process)


class WindowInteraction(PinentryInteraction):
    """As by pinentry, with nobody at the other end of a stream: what a window can't ask is not asked."""

    async def choose(self, title: str, options: Sequence[Option]) -> str:
        raise NotAllowedNow(
            f"There are {len(options)} cards.",
            next_step="Take out all but the one you want to use, and start again.",
            detail=title,
        )

    async def ask_text(self, kind: str, facts: Mapping[str, Any]) -> Secret:
        raise NotAllowedNow(detail=f"{kind} can't be asked for in a window: {sorted(facts)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Take the window away, by force if it does not go."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _converse(process: asyncio.subprocess.Process, text: str, command: str) -> Secret:
    await _reply(process)
    for line in ("SETTITLE tokenbridge", "SETPROMPT PIN:", f"SETDESC {_escape(text)}"):
        await _say(process, line)
    return await _say(process, command)


async def _say(process: asyncio.subprocess.Process, line: str) -> Secret:
    if process.stdin is None:
        raise SetupError("pinentry has no input")
    process.stdin.write(line.encode("utf-8") + b"\n")
    await process.stdin.drain()
    return await _reply(process)


async def _reply(process: asyncio.subprocess.Process) -> Secret:
    """The data of one answer. Raises `Cancelled`, `SetupError`."""
    data = Secret(bytearray())
    while process.stdout is not None:
        line = (await process.stdout.readline())[:MAX_LINE].rstrip(b"\n")
        word, _, rest = line.partition(b" ")
        match word:
            case b"D":
                data = Secret(_unescape(rest))
            case b"OK":
                return data
            case b"ERR" if rest.split(b" ")[0] in PINENTRY_CANCELLED:
                raise Cancelled("user")
            case b"ERR" | b"":
                raise SetupError("pinentry failed", detail=line.decode("utf-8", "replace"))
            case _:
                continue
    raise SetupError("pinentry has no output")


def describe(request: PinRequest) -> str:
    """The words of a PIN prompt: who asks, for whose card, tries left."""
    lines = [f"{request.rp_name} ({request.origin})" if request.rp_name else PURPOSES.get(request.purpose, "")]
    if request.program:
        lines.append(f"asked by {request.program}")
    lines.append(whose(request.key, request.holder))
    if request.tries_left is not None:
        lines.append(f"{request.tries_left} tries left" if request.tries_left != 1 else "1 try left")
    return "\n".join(one_line(line) for line in lines if line)


def whose(key: str, holder: str) -> str:
    """Which device it is about."""
    if key:
        return key
    return f"Card of {holder}" if holder else "Your card"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _unescape(data: bytes) -> bytearray:
    result = bytearray()
    position = 0
    while position < len(data):
        escaped = data[position + 1 : position + 3]
        if data[position] == 0x25 and len(escaped) == 2 and set(escaped) <= HEX_DIGITS:
            result.append(int(escaped, 16))
            position += 3
        else:
            result.append(data[position])
            position += 1
    return result
