"""A bounded run of the fuzzer in `fuzzing`."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenbridge.authenticator.status import Status
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_pki import BatchKey

from . import conversations, fuzzing
from .conftest import Bench, register, sign_in
from .test_hid import Host

bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@bounded
@given(requests=st.lists(conversations.requests, min_size=1, max_size=12))
def test_no_request_crashes_or_is_answered_outside_the_specification(batch: BatchKey, requests: list[bytes]) -> None:
    bench = fuzzing.make_bench(batch)
    for request in requests:
        fuzzing.check_request(bench, request)


@bounded
@given(packets=conversations.streams, mode=st.sampled_from(list(Touch)))
def test_no_packet_crashes_or_stops_the_device(batch: BatchKey, packets: list[bytes], mode: Touch) -> None:
    bench = fuzzing.make_bench(batch)
    bench.person.mode = mode
    fuzzing.check_packets(Host(bench), packets)


@bounded
@given(apdus=st.lists(st.binary(max_size=150), max_size=10))
def test_no_apdu_crashes_the_device(batch: BatchKey, apdus: list[bytes]) -> None:
    bench = fuzzing.make_bench(batch)
    for apdu in apdus:
        operation = bench.device.start_ctap1(apdu)
        operation.cancel()
        assert operation.answer is not None


def test_the_fuzzer_reaches_the_inside(bench: Bench) -> None:
    """Its almost right requests are right often enough: the plain ones are."""
    assert fuzzing.check_request(bench, b"\x01" + fuzzing.cbor.encode(register(options={"rk": True}))) == Status.OK
    assert fuzzing.check_request(bench, b"\x02" + fuzzing.cbor.encode(sign_in())) == Status.OK
