"""Middleware of the page: headers, and a bound on requests in flight."""

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Pages of other sites get nothing from this one and do not frame it, and it loads nothing from
# elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class CommonHeaders:
    """Adds the headers that every answer has.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class InFlight:
    """Answers so many requests at a time, and further ones with 503.

    A request is in flight until the client has read its answer: one that does not read holds its
    place, and the memory of the answer, as long as the server lets it.

    Args:
        app: what answers.
        most: requests in flight.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if self._now >= self.most:
            said = f"at most {self.most} requests are served at a time: try again"
            return await JSONResponse({"error": said}, status_code=503)(scope, receive, send)

        async def send_to_the_end(message: Message) -> None:
            if not message.get("body") or message.get("more_body"):
                return await send(message)
            # The server takes the next message only when the client has read most of this one.
            await send({**message, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        self._now += 1
        try:
            await self.app(scope, receive, send_to_the_end)
        except asyncio.CancelledError:
            pass  # the server ends, and has dropped the client
        finally:
            self._now -= 1
