"""The development push service over HTTP. The composition root includes it only with the outbox, on loopback."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from tokenbridge.server.push_service import PATH, LocalPushService

router = APIRouter(include_in_schema=False)


async def _service(request: Request) -> LocalPushService:
    service: LocalPushService = request.app.state.push_service
    return service


Service = Annotated[LocalPushService, Depends(_service)]


@router.post(PATH, status_code=201)
async def subscribe(service: Service) -> dict[str, Any]:
    return service.subscribe()


@router.post(f"{PATH}/{{receiver}}", status_code=201)
async def receive(receiver: str, request: Request, service: Service) -> Response:
    await asyncio.to_thread(service.receive, receiver, request.headers, await request.body())
    return Response(status_code=201)
