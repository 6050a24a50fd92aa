"""Telephone numbers: which may be used and by what, and how they are shown. It stores nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from tokenbridge.errors import NumberFault, NumberUnfit

MAX_TYPED: Final = 40
_MOBILE: Final = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_LINES: Final = frozenset({PhoneNumberType.FIXED_LINE, PhoneNumberType.VOIP, PhoneNumberType.PERSONAL_NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number that may be used, in E.164."""

    e164: str

    @property
    def masked(self) -> str:
        return masked(self.e164)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRules:
    """`regions` are ISO 3166 codes, the first for numbers that are typed without a country code.

    `office`: beginnings (E.164) of numbers that ring in the organisation. Guidance wants a telephone within personal
    reach: whoever sits at that desk could confirm a sign-in. A landline takes no text.
    """

    regions: tuple[str, ...] = ("GB",)
    office: tuple[str, ...] = ()

    def read(self, typed: str) -> Number:
        """The number that somebody typed. Raises `NumberUnfit` with the reason."""
        parsed = self._parse(typed)
        e164 = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)
        if phonenumbers.region_code_for_number(parsed) not in self.regions:
            raise NumberUnfit(
                NumberFault.COUNTRY,
                "Numbers of that country are not used here.",
                next_step=f"Give a number of: {', '.join(self.regions)}.",
            )
        if any(e164.startswith(prefix) for prefix in self.office):
            raise NumberUnfit(
                NumberFault.OFFICE,
                "That is an office telephone: whoever is near it could confirm your sign-in.",
            )
        kind = phonenumbers.number_type(parsed)
        if kind in _MOBILE:
            return Number(e164=e164)
        if kind in _LINES:
            raise NumberUnfit(NumberFault.NO_TEXT, "That is a landline, which takes no text messages.")
        raise NumberUnfit(NumberFault.KIND, "That is a number of a service, not of a person.")

    def _parse(self, typed: str) -> phonenumbers.PhoneNumber:
        try:
            if len(typed) > MAX_TYPED or not typed.isprintable():
                raise ValueError("too long")
            parsed = phonenumbers.parse(typed, self.regions[0])
        except (phonenumbers.NumberParseException, ValueError):
            parsed = None
        # An extension is dialled by a switchboard: that is an office.
        if parsed is None or parsed.extension or not phonenumbers.is_valid_number(parsed):
            raise NumberUnfit(
                NumberFault.NOT_A_NUMBER,
                "That is not a telephone number.",
                next_step="Type it as you would dial it, or with + and the country code.",
            )
        return parsed


def masked(e164: str) -> str:
    """What is shown of a number: its last three digits."""
    return f"*** *** {e164[-3:]}"


def context(account_id: int) -> str:
    """Where an encrypted number belongs; see `KeyRing.encrypt`."""
    return f"phone:{account_id}"


def sealed_bytes(e164: str) -> bytes:
    """What the hash of a number is made of, for `KeyRing.seal`."""
    return f"phone number:{e164}".encode()
