"""The relying party's verification of one card token, beside the bare signature check of `cryptography`; then that of
one assertion of a key."""

from __future__ import annotations

import hashlib
import statistics
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks import assertions
from tokenbridge.rig.pki import Profile, RigPki
from tokenbridge.rp.certs import IssuerRule, RevocationData, TrustAnchor, TrustStore
from tokenbridge.rp.webeid import Token, authenticate

RUNS = 500
ORIGIN = "https://portal.example.org"


def run(*, runs: int = RUNS) -> None:
    now = datetime.now(UTC)
    pki, key = RigPki.create(now=now), ec.generate_private_key(ec.SECP256R1())
    certificate = pki.issue(key.public_key(), Profile(uid="000123456789"), now=now)
    nonce = b64encode(bytes(32)).decode()
    message = hashlib.sha256(ORIGIN.encode()).digest() + hashlib.sha256(nonce.encode()).digest()
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    r, s = utils.decode_dss_signature(signature)
    token = {
        "unverifiedCertificate": b64encode(certificate.public_bytes(Encoding.DER)).decode(),
        "algorithm": "ES256",
        "signature": b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode(),
        "format": "web-eid:1.0",
        "appVersion": "https://web-eid.eu/web-eid-app/releases/2.9.0",
    }
    trust, revocation = _trust(pki), RevocationData(crls=(pki.crl(now=now), pki.root_crl(now=now)))

    def whole() -> None:
        authenticate(
            Token.parse(token),
            expected_origin=ORIGIN,
            expected_nonce=nonce,
            trust=trust,
            revocation=revocation,
            now=now,
        )

    public = key.public_key()
    ours = _median(whole, runs)
    bare = _median(lambda: public.verify(signature, message, ec.ECDSA(hashes.SHA256())), runs)
    print(f"parse, signature, path with one intermediate, two CRLs: {ours * 1000:.2f} ms; "
          f"the signature check alone {bare * 1000:.3f} ms\n")  # fmt: skip
    assertions.run(runs=4 * runs)


def _trust(pki: RigPki) -> TrustStore:
    der = [authority.certificate.public_bytes(Encoding.DER) for authority in (pki.root, pki.issuing)]
    rule = IssuerRule(hardware=True, pin_enforced=True)
    return TrustStore([TrustAnchor(name="bench", certificate=der[0], intermediates=(der[1],), rule=rule)])


def _median(work: Callable[[], object], runs: int) -> float:
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
