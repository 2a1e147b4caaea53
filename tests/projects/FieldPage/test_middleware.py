import asyncio
import json
from typing import Any

from field_page.middleware import InFlight

SCOPE = {"type": "http", "method": "GET", "headers": []}


async def nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"long", "more_body": False})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_request_is_in_flight_until_its_answer_is_read() -> None:
    async def run() -> None:
        app = InFlight(answer, most=2)
        read = asyncio.Event()
        sent: list[list[dict[str, Any]]] = [[], [], [], []]

        def client(number: int) -> Any:
            async def send(message: dict[str, Any]) -> None:
                # As a server does: what follows a message waits until that is read.
                if any(one.get("body") for one in sent[number]):
                    await read.wait()
                sent[number].append(message)

            return app(SCOPE, nothing, send)

        waiting = [asyncio.create_task(client(number)) for number in (0, 1)]
        await settle()
        assert not any(task.done() for task in waiting)
        await asyncio.wait_for(client(2), 30)
        assert sent[2][0]["status"] == 503
        said = json.loads(sent[2][1]["body"])["error"]
        assert said == "at most 2 requests are served at a time: try again"
        read.set()
        await asyncio.gather(*waiting)
        for messages in sent[:2]:
            assert b"".join(one.get("body", b"") for one in messages) == b"long"
            assert [one.get("more_body") for one in messages] == [None, True, False]
        await client(3)
        assert sent[3][0]["status"] == 200

    asyncio.run(run())


def test_a_request_that_is_cancelled_is_in_flight_no_longer() -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def once(scope: Any, receive: Any, send: Any) -> None:
            if begun.is_set():
                return await answer(scope, receive, send)
            begun.set()
            await asyncio.Event().wait()

        app = InFlight(once, most=1)
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        task = asyncio.create_task(app(SCOPE, nothing, send))
        await begun.wait()
        task.cancel()
        await task  # quietly
        await app(SCOPE, nothing, send)
        assert sent[0]["status"] == 200

    asyncio.run(run())
