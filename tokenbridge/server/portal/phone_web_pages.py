"""The phone's web app below /phone/: its page, manifest and service worker. What they do is in `static/phone/`."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.visit import Visitor

router = APIRouter(include_in_schema=False)

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'nonce-{nonce}'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
WORKER: Final = "default-src 'none'; connect-src 'self'"
SIZES: Final = (192, 512)


@router.get("/phone")
async def without_slash() -> Response:
    return see_other("/phone/")


@router.get("/phone/")
async def app(visit: Visitor) -> Response:
    return visit.front.bare_page("phone/app.html", policy=POLICY)


@router.get("/phone/worker.js")
async def worker(visit: Visitor) -> Response:
    """At an address of its own: a service worker's scope is where it lies, and its address must stay the same."""
    answer = visit.front.statics.file("phone/worker.js")
    answer.headers["cache-control"] = "no-cache"
    answer.headers["content-security-policy"] = WORKER
    return answer


@router.get("/phone/manifest.webmanifest")
async def manifest(visit: Visitor) -> Response:
    """Web Application Manifest (W3C)."""
    front = visit.front
    icons = [
        {
            "src": front.statics.address(f"phone/icon-{size}.png"),
            "sizes": f"{size}x{size}",
            "type": "image/png",
            "purpose": purpose,
        }
        for size in SIZES
        for purpose in ("any", "maskable")
    ]
    content = {
        "id": "/phone/",
        "name": f"{front.name} sign-in",
        "short_name": "Sign-in",
        "start_url": "/phone/",
        "scope": "/phone/",
        "display": "standalone",
        "background_color": "#f0f4f5",
        "theme_color": "#003d78",
        "icons": icons,
    }
    return JSONResponse(content, headers={"content-type": "application/manifest+json"})
