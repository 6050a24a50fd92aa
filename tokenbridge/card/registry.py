"""Which driver speaks to a card: asked of the card itself by selecting, never guessed from its ATR or its reader."""

from __future__ import annotations

from tokenbridge.card.channel import Channel, Check
from tokenbridge.card.piv import Piv
from tokenbridge.errors import AppletMissing, CardUnsupported
from tokenbridge.transport.base import CardLink


def open_card(link: CardLink, cancel: Check) -> Piv:
    """The driver for the card on `link`, its application selected. Raises `CardUnsupported`."""
    piv = Piv(Channel(link, cancel))
    try:
        piv.select()
    except AppletMissing as err:
        atr = link.atr.hex().upper()
        raise CardUnsupported(
            AppletMissing.summary, next_step=AppletMissing.next_step, atr=atr, detail=f"{err.detail} ATR={atr}"
        ) from err
    return piv
