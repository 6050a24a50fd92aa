"""`tokenbridge policy`: check a policy, explain what it decides, and see what another file would change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from tokenbridge.cli.server_output import as_json, emit
from tokenbridge.rp.explain import Explanation, RuleView, Standing
from tokenbridge.rp.policy import Decision, Outcome, demand
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import PORTAL, Policy, Signal
from tokenbridge.rp.wording import NAMES
from tokenbridge.server import policy_book
from tokenbridge.server.operator import policies
from tokenbridge.server.operator.office import opened
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.policy_effects import Case, Difference

COLOURS: Final = {Outcome.ALLOW: "green", Outcome.CHALLENGE: "yellow", Outcome.DENY: "red"}
MARKS: Final = {Standing.DECIDES: "▶", Standing.NOT_REACHED: "·", Standing.DOES_NOT_APPLY: "·"}
CHANGES: Final = 1
"""Exit code of `diff` when something would change, as that of `diff` itself."""

signal_words = click.Choice([str(word) for word in Signal])
method_words = click.Choice([str(word) for word in Method])
existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The server's data directory [default: $TOKENBRIDGE_SERVER_DATA or $XDG_DATA_HOME/tokenbridge/server].",
)
@click.pass_context
def policy(ctx: click.Context, data: Path | None) -> None:
    """Who has to prove what, and what happens when it is not enough. docs/policy.md explains the file.

    \b
    Examples:
      tokenbridge policy check new.toml
      tokenbridge policy explain --user alice --client eps --evidence key --network 10.1.2.3
      tokenbridge policy diff new.toml
    """
    ctx.obj = data


@policy.command()
@click.argument("file", required=False, type=existing)
@as_json
@click.pass_obj
def check(data: Path | None, /, *, file: Path | None, as_json: bool) -> None:
    """Read a policy file and say what is wrong with it; without FILE the one in force. Fails when it can't be used.

    \b
    Examples:
      tokenbridge policy check new.toml
      tokenbridge policy check && cp new.toml /var/lib/tokenbridge/policy.toml
    """
    found = policy_book.read(file) if file is not None else _in_force(data)
    if as_json:
        names = [rule.name for rule in found.policy.rules]
        emit({"valid": True, "policy": found.version, "rules": names, "exceptions": len(found.policy.exemptions)})
        return
    click.echo(f"The policy is good: edition {found.version}.")
    _summary(found.policy)


@policy.command()
@click.option("--user", default="", help="An account; its groups and methods are looked up.")
@click.option("--client", default=PORTAL, show_default=True, help="The program that the person signs in to.")
@click.option("--evidence", "-e", multiple=True, metavar="WORD", help="What is shown, once or more; see below.")
@click.option("--network", default="", metavar="ADDRESS", help="The person's network address.")
@click.option("--at", "moment", type=click.DateTime(["%Y-%m-%dT%H:%M"]), help="Local time [default: now].")
@click.option("--signal", "signals", multiple=True, type=signal_words, help="Something unusual.")
@click.option("--group", "groups", multiple=True, help="Suppose that the person is in this group as well.")
@click.option(
    "--enrolled",
    multiple=True,
    type=method_words,
    help="Suppose that this is enrolled as well.",
)
@click.option("--file", type=existing, help="Ask this file instead.")
@as_json
@click.pass_obj
def explain(
    data: Path | None,
    /,
    *,
    moment: dt.datetime | None,
    evidence: tuple[str, ...],
    file: Path | None,
    as_json: bool,
    **facts: Any,
) -> None:
    """Print what would happen and why, rule by rule. Nothing is signed in, and nothing is recorded.

    Words for --evidence: card, card-without-pin, key, key-fingerprint, key-synced, key-touch, password, totp,
    number-match, sms, whatsapp, voice, recovery, app-password. A device may name its model: card:TRUST-ANCHOR,
    key:AAGUID.

    \b
    Examples:
      tokenbridge policy explain --user alice --evidence card
      tokenbridge policy explain -e password -e sms --enrolled sms --network 192.0.2.7
      tokenbridge policy explain --user alice -e key --signal impossible-travel --file new.toml --json
    """
    with opened(data) as office:
        at = moment.astimezone() if moment is not None else office.now()
        found = policies.edition(office, file).policy
        case = Case(
            client=facts["client"],
            user=facts["user"],
            groups=frozenset(facts["groups"]),
            enrolled=frozenset(map(Method, facts["enrolled"])),
            address=facts["network"],
            at=at,
            signals=frozenset(map(Signal, facts["signals"])),
        )
        told = policies.explain(office, found, case, evidence)
    if as_json:
        emit(told.as_dict())
    else:
        _explained(told)


@policy.command()
@click.argument("file", type=existing)
@click.option("--user", default="", help="Only this account.")
@as_json
@click.pass_obj
def diff(data: Path | None, /, *, file: Path, user: str, as_json: bool) -> int:
    """Show which accounts FILE would treat differently from the policy in force, and how.

    Every account is tried in each way in which it can begin today, at each client and from each network that a rule
    names, at this hour. Exits with 0 when nothing would change, and with 1 when something would.

    \b
    Examples:
      tokenbridge policy diff new.toml
      tokenbridge policy diff new.toml --json | jq -r 'select(.after.decision == "deny") | .user' | sort -u
    """
    changes, people = 0, set[str]()
    with opened(data) as office:
        new = policies.edition(office, file).policy
        for difference in policies.differences(office, new, office.now(), user=user):
            changes, people = changes + 1, people | {difference.user}
            if as_json:
                emit(difference.as_dict())
            else:
                _difference(difference)
    if not as_json:
        click.echo(f"{len(people)} accounts would be treated differently." if changes else "Nothing would change.")
    return CHANGES if changes else 0


def _in_force(data: Path | None) -> Edition:
    with opened(data) as office:
        return policies.edition(office, None)


def _summary(found: Policy) -> None:
    for number, rule in enumerate(found.rules, 1):
        demands = "lets nobody in" if rule.refuse else f"requires {demand(rule)}"
        click.echo(f"{number:>3}  {rule.name}: {demands}")
    for item in found.exemptions:
        click.echo(f"     exception for {item.account} until {item.until}: {item.reason}")


def _explained(told: Explanation) -> None:
    decision = told.decision
    click.echo(f"Shown: {told.shown} ({told.assurance.aal.name})")
    click.echo(_coloured(decision) + f"  {decision.sentence}")
    _reasons(decision)
    click.echo()
    for view in told.rules:
        click.echo(f"{MARKS[view.standing]} {_rule(view)}")
        for reason in view.why_not:
            click.echo(f"    {reason}")
        if view.decision is not None and view.standing is Standing.NOT_REACHED:
            _reasons(view.decision)


def _rule(view: RuleView) -> str:
    name = click.style(view.name, bold=view.standing is Standing.DECIDES)
    if view.decision is None:
        return f"{name}: does not apply"
    if view.standing is Standing.DECIDES:
        return f"{name}: decides, {view.decision.outcome}"
    return f"{name}: not reached; it would say {view.decision.outcome}"


def _reasons(decision: Decision) -> None:
    for reason in decision.reasons:
        click.echo(f"    {reason.code}: {reason.text}")


def _difference(found: Difference) -> None:
    place = f" from {found.address}" if found.address else ""
    head = click.style(found.user, bold=True)
    click.echo(f"{head} with {found.evidence} at {found.client}{place}:")
    click.echo(f"    {_short(found.before)} → {_short(found.after)}")
    click.echo(f"    {found.after.sentence}")


def _short(decision: Decision) -> str:
    return f"{_coloured(decision)}{_listed(decision.methods)}"


def _listed(methods: Iterable[Method]) -> str:
    names = ", ".join(NAMES[method] for method in methods)
    return f" ({names})" if names else ""


def _coloured(decision: Decision) -> str:
    return click.style(str(decision.outcome), fg=COLOURS[decision.outcome])
