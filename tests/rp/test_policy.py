"""Policy decisions: the sentences people read, and what no policy decision may ever do."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.errors import Undecided, UndecidedReason
from tokenbridge.rp.assurance import AAL, Assurance, assess
from tokenbridge.rp.policy import Decision, Outcome, decide
from tokenbridge.rp.proof import FALLBACK_METHODS, Factor, Method, Proof
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
        "One more step is needed (password, then authenticator-app code): "
        "it could not be checked whether the certificate is still valid."
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


# --- what must hold always ---------------------------------------------------------------------------------------

proofs_given = st.lists(st.sampled_from([CARD, CARD_WITHOUT_RULE, PASSWORD, TOTP, SMS]), max_size=4)
rules = st.builds(
    Rule,
    name=st.just("any"),
    minimum=st.sampled_from([AAL.AAL1, AAL.AAL2, AAL.AAL3]),
    phishing_resistant=st.booleans(),
    hardware=st.booleans(),
    allow_restricted=st.booleans(),
    fallback=st.lists(st.sampled_from(Method), unique=True, max_size=4).map(tuple),
)
enrolments = st.frozensets(st.sampled_from(Method))
doubts = st.sampled_from([(), (DOUBT,)])
RANK = {DENY: 0, CHALLENGE: 1, ALLOW: 2}


def meets(rule: Rule, got: Assurance) -> bool:
    return (
        got.aal >= rule.minimum
        and got.phishing_resistant >= rule.phishing_resistant
        and got.hardware >= rule.hardware
        and (rule.allow_restricted or not got.restricted)
    )


def run(rule: Rule, proofs: list[Proof], enrolled: frozenset[Method], doubt: tuple[Undecided, ...]) -> Decision:
    return decide(
        Policy(rules=(rule,)),
        assess(proofs),
        Context(client="cli", enrolled=enrolled, now=NOW),
        undecided=doubt,
    )


@settings(deadline=None)
@given(rules, proofs_given, enrolments, doubts)
def test_nothing_is_allowed_without_proofs_that_meet_the_rule(
    rule: Rule, proofs: list[Proof], enrolled: frozenset[Method], doubt: tuple[Undecided, ...]
) -> None:
    got = run(rule, proofs, enrolled, doubt)
    if got.outcome is ALLOW:
        subsets = [some for size in range(len(proofs) + 1) for some in combinations(proofs, size)]
        assert any(meets(rule, assess(some)) for some in subsets)
    if got.suppressed:
        assert got.outcome is ALLOW
        assert set(got.suppressed) <= enrolled & FALLBACK_METHODS
    assert bool(got.methods) == (got.outcome is CHALLENGE)
    assert got.reasons
    assert got.sentence.endswith(".")


@settings(deadline=None)
@given(rules, proofs_given, enrolments)
def test_doubt_never_suppresses_and_never_helps(rule: Rule, proofs: list[Proof], enrolled: frozenset[Method]) -> None:
    sure, unsure = run(rule, proofs, enrolled, ()), run(rule, proofs, enrolled, (DOUBT,))
    assert unsure.suppressed == ()
    assert RANK[unsure.outcome] <= RANK[sure.outcome]


@settings(deadline=None)
@given(rules, proofs_given, enrolments, doubts)
def test_order_of_proofs_does_not_matter(
    rule: Rule, proofs: list[Proof], enrolled: frozenset[Method], doubt: tuple[Undecided, ...]
) -> None:
    assert run(rule, proofs, enrolled, doubt) == run(rule, proofs[::-1], enrolled, doubt)


@settings(deadline=None)
@given(rules, proofs_given, enrolments, doubts)
def test_weaker_evidence_is_never_allowed_where_more_is_not(
    rule: Rule, proofs: list[Proof], enrolled: frozenset[Method], doubt: tuple[Undecided, ...]
) -> None:
    full = run(rule, proofs, enrolled, doubt)
    for left_out in range(len(proofs)):
        fewer = run(rule, proofs[:left_out] + proofs[left_out + 1 :], enrolled, doubt)
        if fewer.outcome is ALLOW:
            assert full.outcome is ALLOW


@settings(deadline=None)
@given(rules, proofs_given, enrolments, doubts)
def test_the_way_that_is_offered_leads_there(
    rule: Rule, proofs: list[Proof], enrolled: frozenset[Method], doubt: tuple[Undecided, ...]
) -> None:
    got = run(rule, proofs, enrolled, doubt)
    by_password = {Method.PASSWORD: PASSWORD}
    shown = [*proofs, *(by_password[method] for method in got.methods[:1] if method in by_password)]
    rest = [method for method in got.methods if method is not Method.PASSWORD]
    for method in rest or [None]:
        more = [Proof(method=method, factors=HAVE, credential="x", at=NOW)] if method in FALLBACK_METHODS else []
        if method is None or more:
            assert got.outcome is not CHALLENGE or run(rule, [*shown, *more], enrolled, doubt).outcome is ALLOW
