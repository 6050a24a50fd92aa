"""What must hold for any evidence, any rule and any circumstances."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from ipaddress import ip_network
from itertools import combinations
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.errors import Undecided, UndecidedReason
from tokenbridge.rp.assurance import AAL, Assurance, assess
from tokenbridge.rp.explain import Standing, explain
from tokenbridge.rp.policy import Decision, Outcome, decide
from tokenbridge.rp.proof import DEVICES, FALLBACK_METHODS, Factor, Method, Proof
from tokenbridge.rp.rules import Context, Enrolment, Exemption, Hours, Policy, Rule, Signal

T = TypeVar("T")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HAVE = frozenset({Factor.POSSESSION})
KNOW = frozenset({Factor.KNOWLEDGE})
DOUBT = (Undecided(UndecidedReason.REVOCATION_UNREACHABLE),)
RANK = {Outcome.DENY: 0, Outcome.CHALLENGE: 1, Outcome.ALLOW: 2}
AAGUIDS = [None, bytes(16), bytes.fromhex("0b7e5c2a6f0d4c599a35f3d1c2a4e871")]
MODELS = ["card:*", "card:trust", "key:*", "key:0b7e5c2a-6f0d-4c59-9a35-f3d1c2a4e871"]


def device(method: Method, *, verified: bool, bound: bool, **facts: object) -> Proof:
    factors = HAVE | KNOW if verified else HAVE
    given = {"hardware_bound": bound, "phishing_resistant": True, "user_verified": verified, "user_present": True}
    return Proof(method=method, factors=factors, credential=method, **{"at": NOW, **given, **facts})  # type: ignore[arg-type]


def code(method: Method, minutes_ago: int = 0) -> Proof:
    return Proof(method=method, factors=HAVE, credential=method, at=NOW - timedelta(minutes=minutes_ago))


def password(minutes_ago: int = 0) -> Proof:
    at = NOW - timedelta(minutes=minutes_ago)
    return Proof(method=Method.PASSWORD, factors=KNOW, credential="p", at=at)


def seldom(usual: T, strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """`usual` most of the time, so that what is drawn together has a chance to match."""
    return st.one_of(*[st.just(usual)] * 5, strategy)


times = st.integers(0, 30)
devices = st.builds(
    lambda method, verified, bound, synced, ago, aaguid, issuer: device(
        method,
        verified=verified,
        bound=bound,
        synced=synced,
        at=NOW - timedelta(minutes=ago),
        aaguid=aaguid if method is Method.KEY else None,
        issuer=issuer if method is Method.CARD else "",
    ),
    st.sampled_from(sorted(DEVICES)),
    seldom(True, st.booleans()),
    seldom(True, st.booleans()),
    seldom(False, st.booleans()),
    times,
    st.sampled_from(AAGUIDS),
    st.sampled_from(["trust", "other"]),
)
proofs = st.one_of(
    devices, st.builds(password, times), st.builds(code, st.sampled_from(sorted(FALLBACK_METHODS)), times)
)
evidence = st.lists(proofs, max_size=4)


spans = seldom(None, st.integers(1, 40).map(lambda minutes: timedelta(minutes=minutes)))
some_signals = st.frozensets(st.sampled_from([Signal.NEW_NETWORK, Signal.MANY_FAILURES]), max_size=2)
some_models = seldom(frozenset(), st.frozensets(st.sampled_from(MODELS), max_size=2))
rules = st.builds(
    Rule,
    name=st.text(min_size=1, max_size=5),
    clients=seldom(frozenset(), st.sampled_from([frozenset({"cli"}), frozenset({"other"})])),
    groups=seldom(frozenset(), st.just(frozenset({"nurses"}))),
    networks=seldom((), st.sampled_from([(ip_network("10.0.0.0/8"),), (ip_network("2001:db8::/32"),)])),
    hours=seldom((), st.sampled_from([(Hours(start=time(7), end=time(19)),), (Hours(days=frozenset({6})),)])),
    signals=seldom(frozenset(), some_signals),
    refuse=seldom(False, st.booleans()),
    minimum=st.sampled_from([AAL.AAL1, AAL.AAL2, AAL.AAL3]),
    phishing_resistant=seldom(False, st.booleans()),
    hardware=seldom(False, st.booleans()),
    allow_restricted=seldom(True, st.booleans()),
    models=some_models,
    refused_models=some_models,
    max_age=spans,
    fallback=st.lists(st.sampled_from(Method), unique=True, max_size=4).map(tuple),
    withdraw_on=some_signals,
    enrolment=seldom(None, st.just(Enrolment(any_of=(Method.TOTP, Method.SMS), grace=timedelta(days=7)))),
)
exemptions = st.builds(
    Exemption,
    account=st.just("ada"),
    until=st.dates(NOW.date() - timedelta(days=2), NOW.date() + timedelta(days=2)),
    reason=st.just("a ticket"),
    enrolment=st.booleans(),
    fallback=st.lists(st.sampled_from(sorted(FALLBACK_METHODS)), unique=True, max_size=2).map(tuple),
)
policies = st.builds(
    Policy,
    rules=st.lists(rules, min_size=1, max_size=3).map(tuple),
    exemptions=st.lists(exemptions, max_size=1).map(tuple),
)
contexts = st.builds(
    Context,
    client=st.sampled_from(["cli", "portal", "other"]),
    enrolled=st.frozensets(st.sampled_from(Method)),
    groups=st.sampled_from([frozenset(), frozenset({"nurses"})]),
    now=st.just(NOW),
    account=st.sampled_from(["ada", "grace", ""]),
    address=st.sampled_from(["", "10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8::1", "nonsense"]),
    signals=some_signals,
    since=st.none() | st.integers(0, 20).map(lambda days: NOW - timedelta(days=days)),
    levels=st.dictionaries(st.sampled_from(sorted(DEVICES)), st.sampled_from(AAL)),
)
doubts = st.sampled_from([(), DOUBT])

lawful = settings(deadline=None, max_examples=400)


def meets(rule: Rule, got: Assurance) -> bool:
    return (
        got.aal >= rule.minimum
        and got.phishing_resistant >= rule.phishing_resistant
        and got.hardware >= rule.hardware
        and (rule.allow_restricted or not got.restricted)
    )


def run(policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...] = ()) -> Decision:
    return decide(policy, assess(given), context, undecided=doubt)


@lawful
@given(policies, evidence, contexts, doubts)
def test_nothing_is_allowed_or_suppressed_without_proofs_that_satisfy_the_rule(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...]
) -> None:
    got = run(policy, given, context, doubt)
    rule = policy.rule_for(context)
    if got.outcome is Outcome.ALLOW:
        assert rule is not None
        assert not rule.refuse
        good = [
            proof for proof in given if rule.accepts(proof) and (rule.max_age is None or NOW - proof.at <= rule.max_age)
        ]
        subsets = [some for size in range(len(good) + 1) for some in combinations(good, size)]
        assert any(meets(rule, assess(some)) for some in subsets)
        assert set(got.assurance.methods) <= {proof.method for proof in good}
    if got.suppressed:
        assert got.outcome is Outcome.ALLOW
        assert not doubt
        assert rule is not None
        assert not rule.withdraw_on & context.signals
        assert set(got.suppressed) <= (context.enrolled or frozenset()) & FALLBACK_METHODS
        assert not FALLBACK_METHODS & set(got.assurance.methods)


@lawful
@given(policies, evidence, contexts, doubts)
def test_every_decision_is_whole(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...]
) -> None:
    got = run(policy, given, context, doubt)
    assert bool(got.methods) == (got.outcome is Outcome.CHALLENGE)
    assert got.reasons
    assert all(reason.code and reason.text for reason in got.reasons)
    assert got.sentence.strip()
    assert got.lifetimes.idle <= got.lifetimes.overall


@lawful
@given(policies, evidence, contexts)
def test_an_undecided_check_never_suppresses_and_never_helps(
    policy: Policy, given: list[Proof], context: Context
) -> None:
    sure, unsure = run(policy, given, context), run(policy, given, context, DOUBT)
    assert unsure.suppressed == ()
    assert RANK[unsure.outcome] <= RANK[sure.outcome]


@lawful
@given(policies, evidence, contexts, doubts, st.data())
def test_the_order_of_evidence_does_not_matter(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(given))
    assert run(policy, given, context, doubt) == run(policy, shuffled, context, doubt)


@lawful
@given(policies, evidence, contexts, doubts)
def test_less_evidence_never_gives_a_stronger_outcome(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...]
) -> None:
    full = run(policy, given, context, doubt)
    for left_out in range(len(given)):
        fewer = run(policy, given[:left_out] + given[left_out + 1 :], context, doubt)
        assert fewer.outcome is not Outcome.ALLOW or full.outcome is Outcome.ALLOW


@lawful
@given(policies, evidence, contexts, st.sampled_from(["hardware_bound", "user_verified", "phishing_resistant", "new"]))
def test_weaker_evidence_never_gives_a_stronger_outcome(
    policy: Policy, given: list[Proof], context: Context, fact: str
) -> None:
    """The same proofs with one fact less, or shown longer ago."""

    def weaker(proof: Proof) -> Proof:
        if fact == "new":
            return replace(proof, at=proof.at - timedelta(minutes=7))
        if proof.method not in DEVICES:
            return proof
        return replace(proof, **{fact: False}, factors=HAVE if fact == "user_verified" else proof.factors)

    full, less = run(policy, given, context), run(policy, [weaker(proof) for proof in given], context)
    assert less.outcome is not Outcome.ALLOW or full.outcome is Outcome.ALLOW
    assert set(less.suppressed) <= set(full.suppressed)


@lawful
@given(policies, evidence, contexts, some_signals)
def test_what_is_unusual_never_helps_unless_a_rule_asks_for_it(
    policy: Policy, given: list[Proof], context: Context, more: frozenset[Signal]
) -> None:
    plain = Policy(rules=tuple(replace(rule, signals=frozenset()) for rule in policy.rules))
    usual = run(plain, given, context)
    unusual = run(plain, given, replace(context, signals=context.signals | more))
    assert RANK[unusual.outcome] <= RANK[usual.outcome]
    assert set(unusual.suppressed) <= set(usual.suppressed)


@lawful
@given(policies, evidence, contexts, st.sampled_from(Signal))
def test_a_signal_that_withdraws_the_suppression_always_does(
    policy: Policy, given: list[Proof], context: Context, signal: Signal
) -> None:
    wary = Policy(rules=tuple(replace(rule, signals=frozenset(), withdraw_on={signal}) for rule in policy.rules))
    usual = run(wary, given, replace(context, signals=frozenset()))
    unusual = run(wary, given, replace(context, signals=frozenset({signal})))
    assert unusual.suppressed == ()
    if usual.suppressed:
        assert unusual.outcome is not Outcome.ALLOW
        assert any(reason.code == f"unusual:{signal}" for reason in unusual.reasons)


@lawful
@given(policies, evidence, contexts)
def test_an_exception_never_lowers_what_must_be_proved(policy: Policy, given: list[Proof], context: Context) -> None:
    got = run(policy, given, context)
    without = run(replace(policy, exemptions=()), given, context)
    overdue = any(reason.code == "enrolment-overdue" for reason in without.reasons)
    if got.outcome is Outcome.ALLOW and not overdue:
        assert without.outcome is Outcome.ALLOW


def assert_in(decision: Decision) -> None:
    """Allowed; or it would be, if the account had enrolled what it had to."""
    overdue = [reason.code for reason in decision.reasons][:1] == ["enrolment-overdue"]
    assert decision.outcome is Outcome.ALLOW or overdue


@lawful
@given(policies, evidence, contexts, doubts)
def test_the_way_that_is_offered_leads_there(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...]
) -> None:
    got = run(policy, given, context, doubt)
    if got.outcome is not Outcome.CHALLENGE:
        return
    shown = [*given, *([password()] if got.methods[0] is Method.PASSWORD else [])]
    rule = policy.rule_for(context)
    assert rule is not None
    for method in got.methods:
        if method in FALLBACK_METHODS:
            assert_in(run(policy, [*shown, code(method)], context, doubt))
        elif method in DEVICES and not rule.models | rule.refused_models:
            level = context.levels.get(method, AAL.AAL3)
            more = device(method, verified=level > AAL.AAL1, bound=level is not AAL.AAL2)
            then = run(policy, [*shown, more], context, doubt)
            if then.outcome is Outcome.CHALLENGE and level is AAL.AAL1:
                assert then.methods[0] is Method.PASSWORD
                then = run(policy, [*shown, more, password()], context, doubt)
            assert_in(then)


@lawful
@given(policies, evidence, contexts, doubts)
def test_an_explanation_says_what_is_decided(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...]
) -> None:
    told = explain(policy, assess(given), context, undecided=doubt)
    assert told.decision == run(policy, given, context, doubt)
    assert len(told.rules) == len(policy.rules)
    deciding = [view for view in told.rules if view.standing is Standing.DECIDES]
    assert len(deciding) == (0 if policy.rule_for(context) is None else 1)
    for view in told.rules:
        assert bool(view.why_not) == (view.standing is Standing.DOES_NOT_APPLY)
    if deciding and deciding[0].decision is not None:
        assert deciding[0].decision.outcome is told.decision.outcome
        assert deciding[0].decision.sentence == told.decision.sentence


@lawful
@given(policies, evidence, contexts, doubts, st.sampled_from(sorted(DEVICES)), st.sampled_from(AAL))
def test_devices_that_reach_less_only_lead_to_fewer_ways(
    policy: Policy, given: list[Proof], context: Context, doubt: tuple[Undecided, ...], which: Method, less: AAL
) -> None:
    """So that a decision without them need not be made again, unless it names a device."""
    before = replace(context, levels={})
    after = replace(before, levels={which: less})
    free, bound = run(policy, given, before, doubt), run(policy, given, after, doubt)
    ways = [method for method in free.methods if method is not Method.PASSWORD]
    assert [method for method in bound.methods if method is not Method.PASSWORD] == [
        method for method in ways if method is not which or method in bound.methods
    ]
    assert (free.outcome is Outcome.ALLOW) == (bound.outcome is Outcome.ALLOW)
    if which not in free.methods:
        assert free == bound
    if less is AAL.NONE:
        assert which not in bound.methods
