"""The virtual key with python-fido2 at the other end, through real threads, sockets and packets."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from cryptography import x509
from fido2.client import ClientError
from fido2.ctap import CtapError
from fido2.ctap1 import ApduError, Ctap1
from fido2.ctap2 import (
    ClientPin,
    Config,
    CredentialManagement,
    Ctap2,
    FPBioEnrollment,
    LargeBlobs,
)
from fido2.ctap2.bio import CaptureError
from fido2.ctap2.extensions import HmacSecretExtension
from fido2.ctap2.pin import PinProtocolV1, PinProtocolV2
from fido2.utils import websafe_decode

from tests.patience import SECONDS
from tokenbridge.authenticator.profile import Algorithm, AttestationFormat
from tokenbridge.errors import DeviceRemoved, NotAllowedNow, SetupError
from tokenbridge.rig import key_state
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.virtual_key import AAGUID, Profile, VirtualKey
from tokenbridge.transport import packets
from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import BROADCAST, HidCommand, InitAnswer, InitPacket, Message

from .key_host import PIN, Person, Site, client, close_all, device

ERR = CtapError.ERR
QUIET = {"user_verification": "discouraged"}


@pytest.fixture(autouse=True)
def hosts() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def key() -> Iterator[VirtualKey]:
    made = VirtualKey.create(serial="T0001")
    yield made
    made.close()


@pytest.fixture
def finger_key() -> Iterator[VirtualKey]:
    made = VirtualKey.create(Profile(aaguid=AAGUID, fingerprints=True))
    yield made
    made.close()


def ctap(key: VirtualKey) -> Ctap2:
    return Ctap2(device(key.plug_in_process()))


# --- ceremonies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_register_and_sign_in_with_every_algorithm(algorithm: Algorithm) -> None:
    key = VirtualKey.create(Profile(aaguid=AAGUID, algorithms=(algorithm,)))
    with_client = client(key.plug_in_process())
    site = Site()
    answer = site.register(with_client, **QUIET)
    statement = answer.response.attestation_object
    assert (statement.fmt, statement.auth_data.credential_data.public_key[3]) == ("packed", algorithm)
    assert key.pki is not None
    x509.load_der_x509_certificate(statement.att_stmt["x5c"][0]).verify_directly_issued_by(key.pki.root)
    site.sign_in(with_client, **QUIET)
    key.close()


def test_a_discoverable_credential_with_pin_needs_no_name(key: VirtualKey) -> None:
    ClientPin(ctap(key)).set_pin(PIN)
    with_client, site = client(key.plug_in_process()), Site()
    site.register(with_client, resident_key_requirement="required", user_verification="required")
    [answer] = site.sign_in(with_client, listed=False, user_verification="required")
    assert answer.response.user_handle == b"user-1"
    assert answer.response.authenticator_data.is_user_verified()


def test_several_accounts_at_one_site(key: VirtualKey) -> None:
    ClientPin(ctap(key)).set_pin(PIN)
    with_client, site = client(key.plug_in_process()), Site()
    for user in (b"ada", b"bob", b"eve"):
        site.known.clear()
        site.register(with_client, user=user, resident_key_requirement="required", user_verification="required")
    request, _ = site.server.authenticate_begin(None, user_verification="required")
    found = with_client.get_assertion(request.public_key).get_assertions()
    assert [(one.user or {}).get("name") for one in found] == ["eve", "bob", "ada"]


def test_a_registered_key_is_excluded(key: VirtualKey) -> None:
    with_client, site = client(key.plug_in_process()), Site()
    site.register(with_client, **QUIET)
    with pytest.raises(ClientError) as caught:
        site.register(with_client, **QUIET)
    assert caught.value.code == ClientError.ERR.DEVICE_INELIGIBLE


def test_attestation_of_other_kinds() -> None:
    for kind, fmt in [(AttestationFormat.NONE, "none"), (AttestationFormat.PACKED_SELF, "packed")]:
        key = VirtualKey.create(Profile(aaguid=AAGUID, attestation=kind))
        statement = Site().register(client(key.plug_in_process()), **QUIET).response.attestation_object
        assert (statement.fmt, "x5c" in statement.att_stmt) == (fmt, False)
        key.close()


def test_extensions_through_the_client(key: VirtualKey) -> None:
    ClientPin(ctap(key)).set_pin(PIN)
    with_client = client(key.plug_in_process(), extensions=[HmacSecretExtension(allow_hmac_secret=True)])
    site = Site()
    site.register(with_client, extensions={"hmacCreateSecret": True}, user_verification="required")
    salt = bytes(range(32))

    def secret() -> Any:
        request, _ = site.server.authenticate_begin(site.known, user_verification="required")
        options = {**request.public_key, "extensions": {"hmacGetSecret": {"salt1": salt}}}
        answer = with_client.get_assertion(options).get_response(0)
        return answer.client_extension_results["hmacGetSecret"]["output1"]

    assert secret() == secret()
    assert len(websafe_decode(secret())) == 32


def test_u2f_through_python_fido2(key: VirtualKey) -> None:
    u2f = Ctap1(device(key.plug_in_process()))
    assert u2f.get_version() == "U2F_V2"
    app, challenge = bytes([1]) * 32, bytes([2]) * 32
    made = u2f.register(challenge, app)
    made.verify(app, challenge)
    signed = u2f.authenticate(challenge, app, made.key_handle)
    signed.verify(app, challenge, made.public_key)
    with pytest.raises(ApduError):
        u2f.authenticate(challenge, bytes(32), made.key_handle)


# --- management --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [PinProtocolV1(), PinProtocolV2()], ids=["one", "two"])
def test_the_pin_by_both_protocols(key: VirtualKey, protocol: Any) -> None:
    pin = ClientPin(ctap(key), protocol)
    pin.set_pin("1234")
    pin.change_pin("1234", "567890")
    with pytest.raises(CtapError) as caught:
        pin.get_pin_token("0000")
    assert caught.value.code == ERR.PIN_INVALID
    assert pin.get_pin_retries() == (7, False)
    assert len(pin.get_pin_token("567890", ClientPin.PERMISSION.CREDENTIAL_MGMT)) == 32


def test_credential_management(key: VirtualKey) -> None:
    ClientPin(ctap(key)).set_pin(PIN)
    with_client, site = client(key.plug_in_process()), Site()
    for user in (b"ada", b"bob"):
        site.known.clear()
        site.register(with_client, user=user, resident_key_requirement="required", user_verification="required")
    two = ctap(key)
    pin = ClientPin(two)
    token = pin.get_pin_token(PIN, ClientPin.PERMISSION.CREDENTIAL_MGMT)
    manage = CredentialManagement(two, pin.protocol, token)
    assert manage.get_metadata() == {1: 2, 2: 48}
    [rp] = manage.enumerate_rps()
    found = manage.enumerate_creds(rp[4])
    assert [one[6]["name"] for one in found] == ["bob", "ada"]
    manage.update_user_info(found[0][7], {"id": b"bob", "name": "robert", "displayName": "Robert"})
    manage.delete_cred(found[1][7])
    [left] = manage.enumerate_creds(rp[4])
    assert left[6]["name"] == "robert"


def test_fingerprints(finger_key: VirtualKey) -> None:
    two = ctap(finger_key)
    pin = ClientPin(two)
    pin.set_pin(PIN)
    bio = FPBioEnrollment(two, pin.protocol, pin.get_pin_token(PIN, ClientPin.PERMISSION.BIO_ENROLL))
    finger_key.person.poor_samples = 1
    enroller, template, poor = bio.enroll(), None, 0
    while template is None:
        try:
            template = enroller.capture()
        except CaptureError:
            poor += 1
    bio.set_name(template, "right index")
    assert (poor, bio.enumerate_enrollments()) == (1, {template: "right index"})
    assert two.get_info().options["uv"] is True
    with_client, site = client(finger_key.plug_in_process(), Person(pin="wrong")), Site()
    site.register(with_client, user_verification="required")
    [answer] = site.sign_in(with_client, user_verification="required")
    assert answer.response.authenticator_data.is_user_verified()


def test_configuration_and_large_blobs(key: VirtualKey) -> None:
    two = ctap(key)
    pin = ClientPin(two)
    pin.set_pin(PIN)
    config = Config(two, pin.protocol, pin.get_pin_token(PIN, ClientPin.PERMISSION.AUTHENTICATOR_CFG))
    config.toggle_always_uv()
    config.set_min_pin_length(6, ["example.org"])
    info = two.get_info()
    assert (info.options["alwaysUv"], info.min_pin_length, info.force_pin_change) == (True, 6, True)
    pin.change_pin(PIN, "123456")
    blobs = LargeBlobs(two, pin.protocol, pin.get_pin_token("123456", ClientPin.PERMISSION.LARGE_BLOB_WRITE))
    blobs.put_blob(bytes(32), b"x" * 2000)
    assert blobs.get_blob(bytes(32)) == b"x" * 2000


# --- people and power --------------------------------------------------------------------------------------------


def test_a_touch_on_command(key: VirtualKey) -> None:
    key.person.mode = Touch.COMMAND
    two = ctap(key)
    seen: list[int] = []
    thread = Thread(target=lambda: two.selection(on_keepalive=seen.append))
    thread.start()
    wait = key.person.wait_until_asked(10)
    assert wait is not None
    assert wait.purpose == "selection"
    key.person.touch()
    thread.join(SECONDS)
    assert seen == [2]
    assert key.person.wait_until_idle(10)


def test_a_refusal_and_a_late_touch(key: VirtualKey) -> None:
    key.person.mode = Touch.DENY
    two = ctap(key)
    with pytest.raises(CtapError) as caught:
        two.selection()
    assert caught.value.code == ERR.OPERATION_DENIED
    key.person.mode, key.person.seconds = Touch.LATE, 0.05
    two.selection()


def test_the_host_cancels(key: VirtualKey) -> None:
    key.person.mode = Touch.NEVER
    two, cancel = ctap(key), Event()
    with pytest.raises(CtapError) as caught:
        two.selection(event=cancel, on_keepalive=lambda _status: cancel.set())
    assert caught.value.code == ERR.KEEPALIVE_CANCEL
    assert key.person.wait_until_idle(10)
    assert two.get_info().versions


def test_three_wrong_pins_until_it_is_plugged_in_again(key: VirtualKey) -> None:
    pin = ClientPin(ctap(key))
    pin.set_pin(PIN)
    codes = []
    for _ in range(4):
        with pytest.raises(CtapError) as caught:
            pin.get_pin_token("0000")
        codes.append(caught.value.code)
    assert codes == [ERR.PIN_INVALID, ERR.PIN_INVALID, ERR.PIN_AUTH_BLOCKED, ERR.PIN_AUTH_BLOCKED]
    again = ClientPin(Ctap2(device(key.power_cycle_in_process())))
    assert again.get_pin_retries() == (5, False)
    assert again.get_pin_token(PIN)


def test_power_cycle_at_a_place_that_can_be_made_again(key: VirtualKey, tmp_path: Path) -> None:
    with pytest.raises(NotAllowedNow):
        key.power_cycle()
    path = tmp_path / "virtual.key"
    key.plug_at(lambda: KeySocket(path))
    old = packets.connect(str(path))
    key.power_cycle()
    with pytest.raises(DeviceRemoved):
        old.receive(10)
    old.close()
    assert Ctap2(device(packets.connect(str(path)))).info.versions


def test_reset_soon_after_it_was_plugged_in(key: VirtualKey) -> None:
    two = ctap(key)
    ClientPin(two).set_pin(PIN)
    two.reset()
    assert two.get_info().options["clientPin"] is False
    key.change_profile(reset_seconds=0.0)
    late = Ctap2(device(key.power_cycle_in_process()))
    with pytest.raises(CtapError) as caught:
        late.reset()
    assert caught.value.code == ERR.NOT_ALLOWED


def test_unplugging_in_the_middle_ends_the_host_at_once(key: VirtualKey) -> None:
    key.person.mode = Touch.NEVER
    two = ctap(key)
    failures: list[Exception] = []

    def select() -> None:
        try:
            two.selection()
        except DeviceRemoved as err:
            failures.append(err)

    thread = Thread(target=select)
    thread.start()
    assert key.person.wait_until_asked(10)
    key.unplug()
    thread.join(SECONDS)
    assert len(failures) == 1
    assert key.person.asked is None
    assert not key.plugged


def test_a_key_in_this_process_leaves_with_its_host(key: VirtualKey) -> None:
    host = key.plug_in_process()
    assert key.plugged
    host.close()
    assert key.wait_until_unplugged(10)


def test_commands_are_counted_by_name(key: VirtualKey) -> None:
    two = ctap(key)
    key.counts.clear()
    ClientPin(two).set_pin(PIN)
    two.get_info()
    assert key.counts == {"clientPIN": 2, "getInfo": 1}
    assert [one.name for one in key.transcript][-3:] == ["clientPIN", "clientPIN", "getInfo"]


# --- memory ------------------------------------------------------------------------------------------------------


def test_the_file_holds_everything(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "one.json"
    key = VirtualKey.create(Profile(aaguid=AAGUID, fingerprints=True, max_credentials=7), serial="F1", path=path)
    ClientPin(ctap(key)).set_pin(PIN)
    site = Site()
    with_client = client(key.plug_in_process())
    site.register(
        with_client,
        resident_key_requirement="required",
        user_verification="required",
        extensions={"credProtect": 3, "hmacCreateSecret": True},
    )
    key.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = VirtualKey.load(path)
    assert (again.serial, again.profile, again.memory) == ("F1", key.profile, key.memory)
    assert key_state.KeyState.decode(again.state.encode()).encode() == again.state.encode()
    site.sign_in(client(again.plug_in_process()), user_verification="required")
    again.close()


def test_rsa_keys_are_kept_beside_and_go_with_their_credential(tmp_path: Path) -> None:
    path = tmp_path / "rsa.json"
    profile = Profile(aaguid=AAGUID, algorithms=(Algorithm.RS256,))
    key = VirtualKey.create(profile, path=path)
    site = Site()
    site.register(client(key.plug_in_process()), **QUIET)
    assert len(key.state.kept) == 1
    key.close()
    again = VirtualKey.load(path)
    site.sign_in(client(again.plug_in_process()), **QUIET)
    ctap(again).reset()
    assert again.state.kept == {}
    again.close()


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": "another"}', '{"format": "tokenbridge-virtual-key:1"}']
)
def test_files_that_are_no_keys(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(SetupError, match="is not a virtual key"):
        VirtualKey.load(path)
    with pytest.raises(SetupError, match="There is no virtual key"):
        VirtualKey.load(tmp_path / "other.json")


def test_a_file_that_can_not_be_written_any_more(tmp_path: Path) -> None:
    """The command fails in the words of the specification, and the key goes on."""
    folder = tmp_path / "keys"
    key = VirtualKey.create(path=folder / "one.json")
    two = ctap(key)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    with pytest.raises(CtapError) as caught:
        ClientPin(two).set_pin(PIN)
    assert caught.value.code == ERR.OTHER
    assert two.get_info().versions
    key.close()
    with pytest.raises(SetupError, match="kept in its file"):
        VirtualKey.create(path=folder / "one.json")


def test_a_bench_sets_the_counter_back(key: VirtualKey) -> None:
    site = Site()
    site.register(client(key.plug_in_process()), **QUIET)
    with pytest.raises(NotAllowedNow), key.edit():
        pass
    key.unplug()
    assert key.memory.counter == 1
    with key.edit() as memory:
        memory.counter = 1000
    [answer] = site.sign_in(client(key.plug_in_process()), **QUIET)
    assert answer.response.authenticator_data.counter > 1000
    key.unplug()
    with key.edit() as memory:
        memory.counter = 7
    [answer] = site.sign_in(client(key.plug_in_process()), **QUIET)
    assert 7 < answer.response.authenticator_data.counter < 1000


# --- sockets -----------------------------------------------------------------------------------------------------


def test_two_hosts_at_one_socket(key: VirtualKey, tmp_path: Path) -> None:
    path = tmp_path / "virtual-T0001.key"
    key.plug(KeySocket(path))
    [place] = packets.keys(tmp_path)
    assert (place.name, place.serial) == ("virtual", "T0001")
    one, two = (packets.connect(str(path)) for _ in range(2))
    mine, other = (opened(host, bytes([i]) * 8) for i, host in enumerate((one, two)))
    assert mine != other
    ask = next(Message(channel=mine, command=HidCommand.PING, payload=b"x").packets())
    one.send(ask)
    assert all(ask in iter(lambda host=host: host.receive(10), None) for host in (one, two))
    one.close()
    assert Ctap2(device(two)).get_info().aaguid == AAGUID
    key.unplug()
    assert packets.keys(tmp_path) == []
    with pytest.raises(DeviceRemoved):
        two.receive(10)


def opened(host: packets.PacketSocket, nonce: bytes) -> int:
    """A channel of one's own: answers to others' INIT, which every host hears, have another nonce."""
    host.send(next(Message(channel=BROADCAST, command=HidCommand.INIT, payload=nonce).packets()))
    while True:
        packet = host.receive(10)
        assert packet is not None
        parsed = ctaphid.parse(packet)
        if isinstance(parsed, InitPacket) and parsed.data.startswith(nonce):
            return InitAnswer.decode(parsed.data).channel
