"""Notices by e-mail, over SMTP (RFC 5321) with TLS."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

from tokenbridge.errors import SendFailed, SendFault
from tokenbridge.server.senders.port import Message

TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """`plain`: no TLS, which the settings allow on loopback only. Without `user` nobody logs in."""

    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    plain: bool = False

    def send(self, message: Message) -> None:
        """Raises `SendFailed`."""
        try:
            with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT) as server:
                if not self.plain:
                    server.starttls(context=ssl.create_default_context())
                if self.user:
                    server.login(self.user, self.password)
                server.send_message(self._letter(message))
        except smtplib.SMTPRecipientsRefused as err:
            raise SendFailed(SendFault.RECIPIENT, detail="the mail server refused the address") from err
        except smtplib.SMTPResponseException as err:
            raise SendFailed(SendFault.REFUSED, detail=f"{type(err).__name__} {err.smtp_code}") from err
        except (OSError, ValueError, smtplib.SMTPException) as err:
            raise SendFailed(SendFault.UNREACHABLE, detail=type(err).__name__) from err

    def _letter(self, message: Message) -> EmailMessage:
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = self.sender, message.to, message.subject
        letter["Date"], letter["Message-ID"] = formatdate(), make_msgid(domain="localhost")
        letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence notice answers it
        letter.set_content(message.text)
        return letter
