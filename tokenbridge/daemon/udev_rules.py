"""The udev rules that let people at a workstation use security keys and smartcard readers, as text.

It makes rules and checks their data; `udev_setup` installs them. What the rules grant is said in udev/README.md.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tokenbridge.errors import SetupError

FILE_NAME: Final = "70-tokenbridge.rules"
"""After 60-fido-id.rules, which marks security keys; before 73-seat-late.rules, which gives access to the tagged."""
MARK: Final = "# Access to security keys and smartcard readers, by tokenbridge."
"""First line of every file of ours: no other is overwritten or removed."""
GROUP: Final = "plugdev"
DATA: Final = Path(__file__).with_name("udev_keys.txt")

LINE: Final = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})  ([A-Za-z0-9][A-Za-z0-9 +/.-]*)")
GROUP_NAME: Final = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
USB: Final = "0003"
"""BUS_USB of linux/input.h, as it stands at the beginning of a HID device's name in sysfs."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KnownKey:
    """Vendor and product as 4 lower-case hexadecimal digits."""

    vendor: str
    product: str
    name: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Raises `SetupError` if `line` is not VENDOR:PRODUCT, two spaces, name."""
        match = LINE.fullmatch(line)
        if match is None:
            raise SetupError(
                f"{DATA.name}: {line!r} is no key.", next_step="Write VENDOR:PRODUCT, two spaces, name; lower case."
            )
        return cls(vendor=match[1], product=match[2], name=match[3])


def known_keys(text: str | None = None) -> list[KnownKey]:
    """The keys in `text` (the package's data file). Raises `SetupError` unless they are sorted and each stands once."""
    lines = (DATA.read_text(encoding="utf-8") if text is None else text).splitlines()
    keys = [KnownKey.parse(line) for line in lines if line.strip() and not line.startswith("#")]
    for before, after in itertools.pairwise(keys):
        if (before.vendor, before.product) >= (after.vendor, after.product):
            raise SetupError(
                f"{DATA.name}: {after.vendor}:{after.product} comes after {before.vendor}:{before.product}.",
                next_step="Sort the lines; each key stands once.",
            )
    return keys


def rules(keys: Sequence[KnownKey], *, group: str | None = GROUP, everywhere: bool = False) -> str:
    """The rules file. `group` gets access where systemd does not run, with `everywhere` also where it does.

    Raises `SetupError` if `group` can't be the name of a group: it would be part of a rule.
    """
    if group is not None and GROUP_NAME.fullmatch(group) is None:
        raise SetupError(f"{group!r} can't be a group.", next_step="Name a group of this machine, e.g. plugdev.")
    where = "" if everywhere else 'TEST!="/run/systemd/system", '
    grant = f'{where}GROUP="{group}", MODE="0660"\n' if group else ""
    by_number = "".join(_by_number(key) for key in keys)
    return TEMPLATE.format(mark=MARK, keys=by_number, group=grant)


def _by_number(key: KnownKey) -> str:
    """By the name of the HID device above the hidraw one, in which the numbers stand in capitals."""
    name = f"{USB}:{key.vendor}:{key.product}".upper()
    return f'# {key.name}\nKERNELS=="{name}.*", GOTO="tokenbridge_key"\n'


TEMPLATE: Final = """{mark}
# Generated from tokenbridge/daemon/udev_keys.txt; `tokenbridge setup udev` installs it.

ACTION=="remove", GOTO="tokenbridge_end"
ENV{{MAJOR}}=="", GOTO="tokenbridge_end"

# Smartcard readers: a USB device with a CCID interface.
SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ENV{{ID_USB_INTERFACES}}=="*:0b????:*", GOTO="tokenbridge_grant"

# Security keys: udev has found the HID usage page F1D0 (60-fido-id.rules).
SUBSYSTEM!="hidraw", GOTO="tokenbridge_end"
ENV{{ID_FIDO_TOKEN}}=="1", GOTO="tokenbridge_grant"

# Where udev can tell, nothing else is granted: a key's keyboard is a hidraw device, too.
TEST=="/usr/lib/udev/fido_id", GOTO="tokenbridge_end"
TEST=="/lib/udev/fido_id", GOTO="tokenbridge_end"

# udev older than 244: by USB vendor and product.
{keys}GOTO="tokenbridge_end"

LABEL="tokenbridge_key"
ENV{{ID_FIDO_TOKEN}}="1", ENV{{ID_SECURITY_TOKEN}}="1"

LABEL="tokenbridge_grant"
TAG+="uaccess"
{group}
LABEL="tokenbridge_end"
"""
