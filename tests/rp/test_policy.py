"""Policy decisions: the sentences people read, and what no policy decision may ever do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbridge.errors import Undecided, UndecidedReason
from tokenbridge.rp.assurance import AAL, assess
from tokenbridge.rp.policy import Decision, Outcome, decide
from tokenbridge.rp.proof import Factor, Method, Proof
from tokenbridge.rp.reasons import Reason
from tokenbridge.rp.rules import DEFAULT_POLICY, FALLBACK, Context, Policy, Rule

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HAVE = frozenset({Factor.POSSESSION})
KNOW = frozenset({Factor.KNOWLEDGE})
CARD = Proof(
    method=Method.CARD,
    factors=HAVE | KNOW,
    hardware_bound=True,
    phishing_resistant=True,
    user_verified=True,
    user_present=True,
    credential="c",
    at=NOW,
)
CARD_WITHOUT_RULE = Proof(method=Method.CARD, factors=HAVE, phishing_resistant=True, credential="c", at=NOW)
PASSWORD = Proof(method=Method.PASSWORD, factors=KNOW, credential="p", at=NOW)
TOTP = Proof(method=Method.TOTP, factors=HAVE, credential="t", at=NOW)
SMS = Proof(method=Method.SMS, factors=HAVE, credential="s", at=NOW)
DOUBT = Undecided(UndecidedReason.REVOCATION_UNREACHABLE)

ALLOW, CHALLENGE, DENY = Outcome.ALLOW, Outcome.CHALLENGE, Outcome.DENY


def context(*enrolled: Method, client: str = "cli", groups: frozenset[str] = frozenset()) -> Context:
    return Context(client=client, enrolled=frozenset(enrolled), groups=groups, now=NOW)


def decided(
    *proofs: Proof, enrolled: tuple[Method, ...] = (Method.TOTP,), doubts: tuple[Undecided, ...] = ()
) -> Decision:
    return decide(DEFAULT_POLICY, assess(proofs), context(*enrolled), undecided=doubts)


def test_a_card_suppresses_the_challenge_and_says_why() -> None:
    got = decided(CARD, enrolled=(Method.SMS, Method.TOTP))
    assert got.outcome is ALLOW
    assert got.suppressed == (Method.TOTP, Method.SMS)
    assert got.sentence == (
        "Signed in at AAL3: card signature, PIN enforced by the issuer; no text message or app code needed."
    )
    assert [reason.code for reason in got.reasons] == ["satisfied", "challenge-suppressed"]
    assert "authenticator-app code and text message" in got.reasons[1].text


def test_after_a_password_the_code_is_asked_and_then_enough() -> None:
    assert decided(PASSWORD).methods == (Method.TOTP,)
    got = decided(PASSWORD, TOTP)
    assert (got.outcome, got.suppressed) == (ALLOW, ())
    assert got.sentence == "Signed in at AAL2: password and authenticator-app code."


def test_a_card_without_the_issuers_rule_needs_a_password_beside_it() -> None:
    got = decided(CARD_WITHOUT_RULE)
    assert (got.outcome, got.methods) == (CHALLENGE, (Method.PASSWORD,))
    assert decided(CARD_WITHOUT_RULE, PASSWORD).outcome is ALLOW


def test_undecided_evidence_is_challenged_by_password_and_code() -> None:
    got = decided(doubts=(DOUBT,))
    assert (got.outcome, got.methods, got.suppressed) == (CHALLENGE, (Method.PASSWORD, Method.TOTP), ())
    assert got.reasons[0].code == "undecided:revocation-unreachable"
    assert got.sentence == (
        "It could not be checked whether the certificate is still valid. "
        "One more step is needed: password, then authenticator-app code."
    )
    assert decided(PASSWORD, doubts=(DOUBT,)).methods == (Method.TOTP,)
    assert decided(PASSWORD, TOTP, doubts=(DOUBT,)).outcome is ALLOW


def test_doubt_beside_a_strong_proof_still_asks() -> None:
    got = decided(CARD, doubts=(DOUBT,))
    assert (got.outcome, got.methods, got.suppressed) == (CHALLENGE, (Method.TOTP,), ())


@pytest.mark.parametrize("proofs", [(), (PASSWORD,)])
@pytest.mark.parametrize("doubts", [(), (DOUBT,)])
def test_no_way_to_the_level_is_a_denial_with_its_reason(
    proofs: tuple[Proof, ...], doubts: tuple[Undecided, ...]
) -> None:
    got = decided(*proofs, enrolled=(), doubts=doubts)
    assert (got.outcome, got.methods, got.suppressed) == (DENY, (), ())
    assert got.reasons[-1].code == "no-fallback-enrolled"
    assert got.sentence.startswith("Not signed in: ")


def test_an_unknown_account_is_told_the_way_without_looking_it_up() -> None:
    unknown = Context(client="cli", enrolled=None, now=NOW)
    got = decide(DEFAULT_POLICY, assess([]), unknown)
    assert (got.outcome, got.methods) == (CHALLENGE, (Method.PASSWORD, *FALLBACK))


def test_first_match_decides() -> None:
    policy = Policy(
        rules=(
            Rule(name="theatre", clients=frozenset({"theatre"}), minimum=AAL.AAL3, phishing_resistant=True),
            Rule(name="kiosk", clients=frozenset({"kiosk"}), groups=frozenset({"porters"}), minimum=AAL.AAL1),
            Rule(name="rest", clients=frozenset({"kiosk", "cli"})),
        )
    )

    def at(client: str, *proofs: Proof, groups: frozenset[str] = frozenset()) -> Decision:
        return decide(policy, assess(proofs), context(Method.TOTP, client=client, groups=groups))

    assert (at("theatre", CARD).outcome, at("theatre", CARD).rule) == (ALLOW, "theatre")
    assert at("theatre", PASSWORD, TOTP).outcome is DENY
    assert at("kiosk", PASSWORD, groups=frozenset({"porters"})).outcome is ALLOW
    assert at("kiosk", groups=frozenset({"porters"})).methods == (Method.PASSWORD,)
    assert at("kiosk", PASSWORD).rule == "rest"
    nobody = at("elsewhere", CARD)
    assert (nobody.outcome, nobody.reasons[0].code) == (DENY, "no-rule")


def test_a_stronger_device_can_be_asked_for() -> None:
    rule = Rule(name="strict", minimum=AAL.AAL3, hardware=True, fallback=(Method.CARD, Method.TOTP))
    got = decide(Policy(rules=(rule,)), assess([PASSWORD]), context(Method.CARD, Method.TOTP))
    assert (got.outcome, got.methods) == (CHALLENGE, (Method.CARD,))


def test_restricted_methods_can_be_ruled_out() -> None:
    rule = Rule(name="no-sms", allow_restricted=False, fallback=(Method.SMS, Method.TOTP))
    policy = Policy(rules=(rule,))
    assert decide(policy, assess([PASSWORD, SMS]), context(Method.SMS)).outcome is DENY
    assert decide(policy, assess([PASSWORD]), context(Method.SMS, Method.TOTP)).methods == (Method.TOTP,)


def test_a_restricted_method_spoils_nothing_that_was_enough_without_it() -> None:
    policy = Policy(rules=(Rule(name="low", minimum=AAL.AAL1, allow_restricted=False),))
    for proofs in ([PASSWORD], [PASSWORD, SMS]):
        assert decide(policy, assess(proofs), context()).outcome is ALLOW


def test_doubt_about_a_card_is_not_dispelled_by_a_password_or_a_device() -> None:
    rule = Rule(name="odd", minimum=AAL.AAL1, fallback=(Method.CARD, Method.KEY, Method.PASSWORD))
    enrolled = context(Method.CARD, Method.KEY, Method.PASSWORD)
    for proofs in ([CARD], [PASSWORD], []):
        got = decide(Policy(rules=(rule,)), assess(proofs), enrolled, undecided=(DOUBT,))
        assert (got.outcome, got.methods) == (DENY, ())


def test_notes_of_the_verifier_end_the_reasons() -> None:
    note = Reason(code="revocation-not-offered", text="The issuer offers none.")
    got = decide(DEFAULT_POLICY, assess([CARD]), context(), notes=(note,))
    assert got.reasons[-1] == note
