"""Models of keys on a page: metadata from a file, and how many keys are of which model."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from tests.metadata_maker import Service, entry
from tests.server.conftest import now
from tests.server.portal.conftest import Portal, Visitor
from tests.server.portal.test_admin import site_admin  # noqa: F401
from tests.software_key import AAGUID
from tokenbridge.server.store import accounts, audit, metadata
from tokenbridge.server.store.audit import Entry
from tokenbridge.server.store.key_schema import SecurityKey

PEM = serialization.Encoding.PEM


def events(portal: Portal, event: str) -> list[Entry]:
    with portal.bench.office() as office, office.database.read() as tx:
        return audit.entries(tx, search=audit.Search(event=event))


class TestModels:
    @pytest.fixture(autouse=True)
    def _clean(self, portal: Portal) -> Iterator[None]:
        portal.bench.sql("DELETE FROM key_metadata")
        yield
        portal.bench.sql("DELETE FROM key_metadata")

    def load(self, visitor: Visitor, blob: bytes, root: bytes = b"") -> httpx.Response:
        visitor.get("/admin/models")
        return visitor.upload("/admin/models", {"blob": blob, **({"root": root} if root else {})})

    def test_a_blob_is_checked_and_put_in_force(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        service = Service()
        models = [
            entry([service.maker.der]),
            entry([service.maker.der], aaguid=bytes(15) + b"\1", statuses=("REVOKED",)),
        ]
        assert self.load(site_admin, service.blob(*models), service.maker.pem).status_code == 303
        page = site_admin.get("/admin/models").text
        assert "Number 7 with 2 models" in page
        assert "Certified L1" in page
        assert "Newest report: REVOKED" in page
        assert ">Unsafe<" in page
        assert "Test Key 5" not in site_admin.get("/admin/models?q=nothing-like-it").text
        last = events(portal, "metadata-loaded")[-1].detail
        assert (last["number"], last["before"], last["models"]) == (7, None, 2)
        older = self.load(site_admin, service.blob(*models, number=6), service.maker.pem)
        assert older.status_code == 400
        assert "number 7 is in force already" in older.text

    def test_keys_of_accounts_are_counted(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        name = portal.newcomer()
        with portal.bench.office() as office, office.database.write() as tx:
            account = accounts.get(tx, name)
            for number in (1, 2):
                usual = {"public_key": b"x", "sign_count": 0, "aaguid": AAGUID, "name": "k", "attestation": "none"}
                flags = dict.fromkeys(("backup_eligible", "backed_up", "user_verified"), False)
                key = SecurityKey(
                    account_id=account.id, credential_id=bytes([number]), registered_at=now(), **usual, **flags
                )
                tx.add(key)
        page = site_admin.get("/admin/models").text
        assert "AAGUID 01020304-0506-0708-a1a2-a3a4a5a6a7a8. 2 keys of accounts" in page
        assert "Not in the metadata" in page
        portal.bench.sql(f"DELETE FROM accounts WHERE username = '{name}'")

    @pytest.mark.parametrize(
        "blob", [b"", b"a.b.c", b"\0" * 5000, b"." * (1 << 20), b"e30.e30.e30", "é.é.é".encode("latin-1")]
    )
    def test_what_is_no_blob_changes_nothing(self, portal: Portal, site_admin: Visitor, blob: bytes):  # noqa: F811
        assert self.load(site_admin, blob).status_code == 400
        assert self.load(site_admin, blob, b"no root").status_code == 400
        with portal.bench.office() as office, office.database.read() as tx:
            assert metadata.current(tx) is None

    def test_another_service_s_signature_does_not_count(self, site_admin: Visitor):  # noqa: F811
        service, other = Service(), Service()
        assert self.load(site_admin, service.blob(entry([service.maker.der])), other.maker.pem).status_code == 400
        assert self.load(site_admin, service.blob(entry([service.maker.der]))).status_code == 400
