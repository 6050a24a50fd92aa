"""The grading table, row by row, and what must hold for any set of proofs."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.rp.assurance import AAL, NOTHING, assess
from tokenbridge.rp.proof import Factor, Method, Proof

AT = datetime(2026, 6, 1, tzinfo=UTC)
HAVE = frozenset({Factor.POSSESSION})
KNOW = frozenset({Factor.KNOWLEDGE})
HAVE_KNOW = HAVE | KNOW
HAVE_ARE = HAVE | {Factor.INHERENCE}

CARD = Proof(
    method=Method.CARD,
    factors=HAVE_KNOW,
    hardware_bound=True,
    phishing_resistant=True,
    user_verified=True,
    user_present=True,
    credential="c",
    at=AT,
)
CARD_WITHOUT_RULE = Proof(method=Method.CARD, factors=HAVE, phishing_resistant=True, credential="c", at=AT)


def key(factors: frozenset[Factor] = HAVE_KNOW, **facts: bool) -> Proof:
    given = {"phishing_resistant": True, "user_present": True, **facts}
    return Proof(method=Method.KEY, factors=factors, credential="k", at=AT, **given)


def secret(method: Method) -> Proof:
    return Proof(method=method, factors=KNOW, credential=method, at=AT)


def code(method: Method) -> Proof:
    return Proof(method=method, factors=HAVE, credential=method, at=AT)


PASSWORD = secret(Method.PASSWORD)
TOUCHED = key(HAVE, hardware_bound=True)

TABLE = [
    # proofs, level, amr, phishing-resistant, hardware, restricted
    ([CARD], 3, "sc hwk pin mfa", True, True, False),
    ([CARD_WITHOUT_RULE], 1, "sc hwk", True, False, False),
    ([key(hardware_bound=True, user_verified=True)], 3, "hwk pin user mfa", True, True, False),
    ([key(HAVE_ARE, hardware_bound=True, user_verified=True)], 3, "hwk fpt user mfa", True, True, False),
    ([key(user_verified=True)], 2, "swk pin user mfa", True, False, False),
    ([key(hardware_bound=True, user_verified=True, synced=True)], 2, "swk pin user mfa", True, False, False),
    ([TOUCHED], 1, "hwk user", True, True, False),
    ([TOUCHED, PASSWORD], 2, "hwk user pwd mfa", True, True, False),
    ([PASSWORD], 1, "pwd", False, False, False),
    ([PASSWORD, code(Method.TOTP)], 2, "pwd otp mfa", False, False, False),
    ([PASSWORD, code(Method.NUMBER_MATCH)], 2, "pwd otp mfa", False, False, False),
    ([PASSWORD, code(Method.RECOVERY)], 2, "pwd otp mfa", False, False, False),
    ([PASSWORD, code(Method.SMS)], 2, "pwd sms mfa", False, False, True),
    ([PASSWORD, code(Method.WHATSAPP)], 2, "pwd sms mfa", False, False, True),
    ([PASSWORD, code(Method.VOICE)], 2, "pwd tel mfa", False, False, True),
    ([secret(Method.APP_PASSWORD)], 1, "pwd", False, False, False),
    # what is not in the table must not add up to more
    ([secret(Method.APP_PASSWORD), code(Method.TOTP)], 1, "pwd otp", False, False, False),
    ([PASSWORD, secret(Method.APP_PASSWORD)], 1, "pwd", False, False, False),
    ([code(Method.TOTP), code(Method.SMS)], 1, "otp sms", False, False, False),
    ([CARD_WITHOUT_RULE, PASSWORD], 2, "sc hwk pwd mfa", True, False, False),
    ([CARD_WITHOUT_RULE, code(Method.TOTP)], 1, "sc hwk otp", True, False, False),
    ([CARD, PASSWORD], 3, "sc hwk pin pwd mfa", True, True, False),
    ([key(user_present=False, user_verified=True, hardware_bound=True)], 0, "", False, False, False),
]


@pytest.mark.parametrize(("proofs", "level", "amr", "phishing", "hardware", "restricted"), TABLE)
def test_table(proofs: list[Proof], level: int, amr: str, phishing: bool, hardware: bool, restricted: bool) -> None:
    for order in permutations(proofs):
        got = assess(order)
        assert (got.aal, got.acr, " ".join(got.amr)) == (AAL(level), f"aal{level}", amr)
        assert (got.phishing_resistant, got.hardware, got.restricted) == (phishing, hardware, restricted)


def test_nothing_proves_nothing() -> None:
    assert assess([]) == NOTHING


def test_phishing_flag_says_whether_it_is_in_hardware() -> None:
    assert assess([CARD]).phishing_acr == "phrh"
    assert assess([key(user_verified=True)]).phishing_acr == "phr"
    assert assess([PASSWORD, code(Method.TOTP)]).phishing_acr == ""


def test_a_pin_checked_by_the_key_is_not_credited_to_the_card() -> None:
    got = assess([CARD_WITHOUT_RULE, key(user_verified=True)])
    assert got.verified_by == {Method.KEY}


def test_a_proof_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Proof(method=Method.PASSWORD, factors=KNOW, credential="x", at=datetime(2026, 6, 1))  # noqa: DTZ001 - on purpose


any_proof = st.builds(
    Proof,
    method=st.sampled_from(Method),
    factors=st.frozensets(st.sampled_from(Factor)),
    hardware_bound=st.booleans(),
    phishing_resistant=st.booleans(),
    user_verified=st.booleans(),
    user_present=st.booleans(),
    synced=st.booleans(),
    credential=st.sampled_from(["a", "b"]),
    at=st.just(AT),
)
any_proofs = st.lists(any_proof, max_size=5)


@settings(deadline=None)
@given(any_proofs, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(proofs: list[Proof], chance: object) -> None:
    shuffled = [*proofs, *proofs]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assess(shuffled) == assess(proofs)


@settings(deadline=None)
@given(any_proofs, any_proof)
def test_one_proof_more_never_lowers_the_level(proofs: list[Proof], more: Proof) -> None:
    assert assess([*proofs, more]).aal >= assess(proofs).aal


@settings(deadline=None)
@given(any_proofs)
def test_the_third_level_needs_hardware_and_verification(proofs: list[Proof]) -> None:
    got = assess(proofs)
    if got.aal is AAL.AAL3:
        assert any(
            proof.hardware_bound and proof.phishing_resistant and proof.user_verified and not proof.synced
            for proof in proofs
            if proof.method in (Method.CARD, Method.KEY)
        )
    assert ("mfa" in got.amr) == (len(got.factors) > 1)


@settings(deadline=None)
@given(any_proofs)
def test_without_a_device_there_is_no_phishing_resistance(proofs: list[Proof]) -> None:
    if not {Method.CARD, Method.KEY} & {proof.method for proof in proofs}:
        got = assess(proofs)
        # A fallback method is never phishing-resistant, whatever a proof of it may claim.
        assert not got.phishing_resistant
        assert got.aal <= AAL.AAL2
