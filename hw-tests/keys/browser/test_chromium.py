"""Headless Chromium registers our key and signs in with it at our server, through udev and hidraw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokenbridge.fido import fingerprints
from tokenbridge.fido import pin as pins
from tokenbridge.interaction import Secret
from tokenbridge.rig.virtual_key import AAGUID, Profile

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(300)]

PIN = "271828"
CEREMONY = """
(async () => {
  try {
    const options = PublicKeyCredential.%(parse)s(%(options)s);
    const made = await navigator.credentials.%(call)s({publicKey: options, signal: AbortSignal.timeout(%(limit)d)});
    return {credential: made.toJSON()};
  } catch (problem) {
    return {problem: `${problem.name}: ${problem.message}`};
  }
})()
"""
LIMIT = 40_000
"""Milliseconds. A dialog that nobody answers would hold the page for ever otherwise: headless Chromium shows none."""


class Person:
    """At the browser, with a key."""

    def __init__(self, browser: Any, site: Any) -> None:
        self._browser = browser
        self._site = site

    def register(self, username: str) -> Any:
        """By enrolment code; the server's answer."""
        body = {"username": username, "enrolment_code": self._site.newcomer(username)}
        begun = self._site.post("/api/keys/registration", body, 201)
        made = self._ceremony("create", "parseCreationOptionsFromJSON", begun["options"])
        answer = {"credential": made, "name": "blue key"}
        return self._site.post(f"/api/keys/registration/{begun['registration']}", answer, 201)

    def sign_in(self, username: str | None = None) -> Any:
        """The server's outcome."""
        begun = self._site.post("/api/sign-in", {"client": "web", **({"username": username} if username else {})}, 201)
        options = next(way["options"] for way in begun["accepts"] if way["method"] == "key")
        answer = {"credential": self._ceremony("get", "parseRequestOptionsFromJSON", options)}
        return self._site.post(f"/api/sign-in/{begun['transaction']}/key", answer, 200)

    def _ceremony(self, call: str, parse: str, options: dict[str, Any]) -> Any:
        script = CEREMONY % {"call": call, "parse": parse, "options": json.dumps(options), "limit": LIMIT}
        done = self._browser.run(script)
        assert "problem" not in done, done
        return done["credential"]


@pytest.fixture
def person(browser: Any, site: Any) -> Person:
    return Person(browser, site)


def test_by_touch_it_is_one_factor(plug: Any, person: Person) -> None:
    # A key that keeps credentials would be asked for a PIN, or to set one: headless Chromium has no dialog for that.
    plug(Profile(aaguid=AAGUID, discoverable=False, credential_management=False))
    registered = person.register("grace")["key"]
    # To a key that can't verify anybody, Chromium speaks CTAP1.
    assert (registered["attestation"], registered["level"]) == ("fido-u2f", 1)
    outcome = person.sign_in("grace")
    assert (outcome["decision"], outcome["methods"]) == ("challenge", ["password"])


def test_by_finger_it_signs_in_without_a_user_name(plug: Any, open_key: Any, person: Person) -> None:
    key = plug(Profile(aaguid=AAGUID, fingerprints=True))
    with open_key(key) as session:
        pins.set_first(session, Secret(PIN.encode()))
        token = pins.token(session, Secret(PIN.encode()), pins.Permission.BIO_ENROLLMENT)
        fingerprints.add(session, token, "right index", lambda *_: None)
    registered = person.register("ada")
    assert registered["key"]["discoverable"]
    outcome = person.sign_in()
    assert outcome["decision"] == "allow", outcome["sentence"]
    assert outcome["account"]["username"] == "ada"
    assert outcome["assurance"]["aal"] >= 2
    assert outcome["assurance"]["phishing_resistant"]


def test_a_key_of_another_site_is_not_found(key: Any, person: Person, browser: Any) -> None:
    """The RP id is the page's own: a page that asks for another's gets no signature from any key."""
    script = CEREMONY % {
        "call": "get",
        "parse": "parseRequestOptionsFromJSON",
        "options": json.dumps({"challenge": "A" * 43, "rpId": "hospital.example", "userVerification": "discouraged"}),
        "limit": LIMIT,
    }
    assert browser.run(script)["problem"].startswith("SecurityError")
