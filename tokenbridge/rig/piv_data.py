"""GET DATA and PUT DATA (SP 800-73-4 part 2 sections 3.1.2 and 3.3.1): the card's data objects and who may see them."""

from __future__ import annotations

from typing import Final

from tokenbridge.rig import piv_objects
from tokenbridge.rig.piv_chip import Chip, Handler, Refusal, refuse
from tokenbridge.rig.piv_objects import BARE, BEHIND_PIN, Discovery, Tag
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS, SW, Command

OBJECT_FIELD: Final = (0x3F, 0xFF)
"""P1 and P2 of both commands: the current file."""
MAX_OBJECT: Final = 16000
MAX_TOTAL: Final = 256 * 1024


def get_data(chip: Chip, command: Command) -> bytes:
    """The object named by 5C, wrapped in 53 unless it is a template of its own."""
    if (command.p1, command.p2) != OBJECT_FIELD:
        refuse(SW.INCORRECT_P1P2)
    try:
        request = tlv.parse_one(command.data)
    except tlv.TlvError:
        refuse(SW.WRONG_DATA)
    if request.tag != 0x5C:
        refuse(SW.WRONG_DATA)
    return _read(chip, _tag(request.value))


def put_data(chip: Chip, command: Command) -> bytes:
    """5C tag list and 53 content; an empty 53 removes the object. The discovery object is fixed by the profile."""
    if (command.p1, command.p2) != OBJECT_FIELD:
        refuse(SW.INCORRECT_P1P2)
    chip.require_management()
    tag, content = _written(command.data)
    if len(content) > MAX_OBJECT or _total(chip) + len(content) > MAX_TOTAL:
        refuse(SW.NOT_ENOUGH_MEMORY)
    if content:
        chip.state.objects[tag] = content
    else:
        chip.state.objects.pop(tag, None)
    chip.save()
    return b""


HANDLERS: Final[dict[int, Handler]] = {INS.GET_DATA: get_data, INS.PUT_DATA: put_data}


def _read(chip: Chip, tag: int) -> bytes:
    if tag == Tag.DISCOVERY and chip.state.profile.discovery is not Discovery.NONE:
        return piv_objects.discovery(chip.state.profile.discovery)
    content = chip.state.objects.get(tag)
    if content is None:
        refuse(SW.NOT_FOUND)
    if tag in BEHIND_PIN and not chip.pin_verified:
        refuse(SW.SECURITY_NOT_SATISFIED)
    return tlv.encode(tag if tag in BARE else 0x53, content)


def _written(data: bytes) -> tuple[int, bytes]:
    try:
        items = tlv.parse(data)
    except tlv.TlvError:
        refuse(SW.WRONG_DATA)
    match [(item.tag, item.value) for item in items]:
        case [(Tag.BIT_GROUP, content)]:
            return Tag.BIT_GROUP, content
        case [(0x5C, name), (0x53, content)]:
            return _tag(name), content
    if items and items[0].tag == Tag.DISCOVERY:
        refuse(SW.FUNCTION_UNSUPPORTED)
    raise Refusal(SW.WRONG_DATA)


def _tag(name: bytes) -> int:
    """One of the standard's object tags, or a vendor's 5FFFxx."""
    tag = int.from_bytes(name, "big")
    known = tag in BARE or tag >> 8 in (0x5FC1, 0x5FFF)
    if not known or len(name) != (tag.bit_length() + 7) // 8:
        refuse(SW.NOT_FOUND)
    return tag


def _total(chip: Chip) -> int:
    return sum(len(content) for content in chip.state.objects.values())
