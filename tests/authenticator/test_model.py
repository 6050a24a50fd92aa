"""Any order of commands by a host that knows its PIN, beside a simple model of what the device must remember."""

from __future__ import annotations

from datetime import UTC, datetime

from fido2.ctap2.pin import PinProtocolV1, PinProtocolV2
from fido2.webauthn import AuthenticatorData
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.profile import Profile
from tokenbridge.authenticator.status import Status
from tokenbridge.rig.key_pki import KeyPki

from .conftest import AAGUID, Bench, Platform, credential_id, descriptor, register, sign_in

MAKE, GET, MANAGE = CommandByte.MAKE_CREDENTIAL, CommandByte.GET_ASSERTION, CommandByte.CREDENTIAL_MANAGEMENT
NOW = datetime.now(UTC)
BATCH = KeyPki.create(now=NOW).batch(AAGUID, now=NOW)
ROOMS = 3
PINS = ("1234", "567890")
users = st.integers(0, 4)


class Model(RuleBasedStateMachine):
    @initialize(second=st.booleans())
    def begin(self, second: bool) -> None:
        self.bench = Bench(Profile(aaguid=AAGUID, max_credentials=ROOMS), BATCH)
        self.platform = Platform(self.bench, PinProtocolV2() if second else PinProtocolV1())
        self.pin: str | None = None
        self.tries, self.wrong = 8, 0
        self.kept: dict[int, bytes] = {}
        self.sealed: list[bytes] = []
        self.counter = 0

    # --- the PIN ---

    @rule(pin=st.sampled_from(PINS))
    def set_pin(self, pin: str) -> None:
        expected = Status.OK if self.pin is None else Status.PIN_AUTH_INVALID
        assert self.platform.set_pin(pin) is expected
        self.pin = self.pin or pin

    @precondition(lambda self: self.pin is not None)
    @rule(pin=st.sampled_from(PINS))
    def type_pin(self, pin: str) -> None:
        assert self.platform.try_token(pin, 4)[0] is self.judged(pin)

    @precondition(lambda self: self.pin is not None)
    @rule(old=st.sampled_from(PINS), new=st.sampled_from(PINS))
    def change_pin(self, old: str, new: str) -> None:
        expected = self.judged(old)
        assert self.platform.change_pin(old, new) is expected
        if expected is Status.OK:
            self.pin = new

    def judged(self, pin: str) -> Status:
        """What the device must say to this PIN."""
        if self.tries == 0:
            return Status.PIN_BLOCKED
        if self.wrong >= 3:
            return Status.PIN_AUTH_BLOCKED
        if pin == self.pin:
            self.tries, self.wrong = 8, 0
            return Status.OK
        self.tries, self.wrong = self.tries - 1, self.wrong + 1
        if self.tries == 0:
            return Status.PIN_BLOCKED
        return Status.PIN_AUTH_BLOCKED if self.wrong == 3 else Status.PIN_INVALID

    @rule()
    def power_cycle(self) -> None:
        self.bench.power_cycle()
        self.wrong = 0

    @rule(late=st.booleans())
    def reset(self, late: bool) -> None:
        self.power_cycle()
        self.bench.clock.advance(11 if late else 5)
        status, _ = self.bench.call(CommandByte.RESET)
        assert status is (Status.NOT_ALLOWED if late else Status.OK)
        if not late:
            gone = [*self.kept.values(), *self.sealed]
            self.pin, self.tries, self.kept, self.sealed, self.counter = None, 8, {}, [], 0
            for identity in gone:
                assert self.bench.call(GET, sign_in(allow=[descriptor(identity)]))[0] is Status.NO_CREDENTIALS

    # --- credentials ---

    @property
    def open(self) -> bool:
        """Whether a right PIN would give a token."""
        return self.pin is not None and self.tries > 0 and self.wrong < 3

    def verified(self, permission: int) -> dict[str, object]:
        token = self.platform.token(permission, "example.org", self.pin or "")
        self.tries, self.wrong = 8, 0
        return {"param": self.platform.sign(token), "protocol": self.platform.number}

    @rule(user=users)
    def register_discoverable(self, user: int) -> None:
        request = register(user={"id": bytes([user])}, options={"rk": True})
        if self.pin is not None:
            assert self.bench.call(MAKE, request)[0] is Status.PUAT_REQUIRED
            if not self.open:
                return
            request = register(user={"id": bytes([user])}, options={"rk": True}, **self.verified(1))
        status, answer = self.bench.call(MAKE, request)
        if user not in self.kept and len(self.kept) == ROOMS:
            assert status is Status.KEY_STORE_FULL
            return
        assert status is Status.OK
        self.kept.pop(user, None)
        self.kept[user] = credential_id(answer[2])

    @rule()
    def register_sealed(self) -> None:
        self.sealed.append(credential_id(self.bench.ok(MAKE, register())[2]))

    @rule()
    def sign_in_without_name(self) -> None:
        verified = self.verified(2) if self.open else {}
        status, answer = self.bench.call(GET, sign_in(**verified))
        if not self.kept:
            assert status is Status.NO_CREDENTIALS
            return
        found = [answer, *(self.bench.ok(CommandByte.GET_NEXT_ASSERTION) for _ in range(answer.get(5, 1) - 1))]
        assert [one[1]["id"] for one in found] == list(reversed(self.kept.values()))
        assert all(AuthenticatorData(one[2]).is_user_verified() == bool(verified) for one in found)

    @precondition(lambda self: self.sealed)
    @rule(data=st.data())
    def sign_in_by_name(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(self.sealed))
        answer = self.bench.ok(GET, sign_in(allow=[descriptor(b"unknown"), descriptor(identity)]))
        assert answer[1]["id"] == identity

    @precondition(lambda self: self.kept and self.open)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.kept)))
        token = self.platform.token(4, None, self.pin or "")
        self.tries, self.wrong = 8, 0
        identity = self.kept.pop(user)
        assert self.platform.manage(MANAGE, token, 6, {2: descriptor(identity)})[0] is Status.OK
        assert self.platform.manage(MANAGE, token, 1)[1][1] == len(self.kept)

    # --- always ---

    @invariant()
    def it_says_what_it_remembers(self) -> None:
        info = self.bench.ok(CommandByte.GET_INFO)
        assert info[4]["clientPin"] is (self.pin is not None)
        assert info[0x14] == ROOMS - len(self.kept)
        assert self.platform.tries() == {3: self.tries, 4: self.wrong >= 3}

    @invariant()
    def the_counter_never_goes_back(self) -> None:
        assert self.bench.memory.counter >= self.counter
        self.counter = self.bench.memory.counter


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
