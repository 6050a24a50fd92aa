"""Every call of the OpenAPI document with what fits it and what does not: no crash, no answer outside the document."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.conftest import Bench, Server
from tokenbridge.server.middleware import MAX_BODY

pytestmark = pytest.mark.foreign

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20
"""Of each call and mode."""
LAWS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
def test_every_call(server: Server, bench: Bench, mode: GenerationMode) -> None:
    document = server.http.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    calls = [found.ok() for found in schema.get_all_operations()]
    assert len(calls) > 15
    authority = str(bench.data / "tls" / "ca.pem")
    tried = 0
    for call in calls:

        @LAWS
        @given(case=call.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal tried
            try:
                answer = case.call(verify=authority, headers={"Authorization": "Bearer nonsense"})
            except requests.ConnectionError as err:
                # The server answers before the whole of a large body has come, and does not wait for the rest.
                if err.request is None or len(err.request.body or b"") <= MAX_BODY:
                    raise
                return
            case.validate_response(answer, checks=CHECKS)
            tried += 1

        try:
            ask()
        except Unsatisfiable:
            # What takes nothing but a text in its path can't be called wrongly.
            assert mode is GenerationMode.NEGATIVE
            assert "requestBody" not in document["paths"][call.path][call.method]
        except Exception as err:
            err.add_note(f"{call.method.upper()} {call.path}")
            raise
    assert tried > len(calls) * 5
    assert server.http.get("/healthz").status_code == 200
