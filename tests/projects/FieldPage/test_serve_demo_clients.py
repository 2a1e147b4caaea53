"""Clients of the page that do not send or read on, too many of them, and its end."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.projects.FieldPage.served import Page, served

UPLOAD = (
    "POST /api/pictures HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\n"
    "Content-Length: 9999\r\nExpect: 100-continue\r\n\r\n"
)


def connect(page: Page, text: str) -> socket.socket:
    """A client that reads little, after it has sent a text."""
    host = urlsplit(page.url).hostname
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect((host, urlsplit(page.url).port))
    client.sendall(text.format(host=host).encode())
    return client


def begin_upload(page: Page) -> socket.socket:
    """A client whose upload the page has begun to receive."""
    client = connect(page, UPLOAD)
    assert client.recv(100).startswith(b"HTTP/1.1 100 ")
    client.sendall(b"x" * 100)
    return client


def begin_answer(page: Page, key: str) -> socket.socket:
    """A client that does not read on in an answer of 8 MB."""
    path = f"/api/pictures/{key}/labels?size=2048,2048"
    client = connect(page, f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\n\r\n")
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def read_error(client: socket.socket) -> tuple[int, str]:
    """Status and error of an answer."""
    text = b""
    while not (found := re.search(rb"\{.*\}", text)):
        part = client.recv(4096)
        assert part, text
        text += part
    return int(text.split(b" ")[1]), json.loads(found[0])["error"]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "the page does not get there"
        time.sleep(0.05)


def clients_of(page: Page) -> int:
    """How many connections the page holds."""
    folder = Path(f"/proc/{page.process.pid}/fd")
    open_ones = sum(os.readlink(link).startswith("socket:") for link in folder.iterdir())
    return open_ones - 3  # the one that listens, and a pair of the event loop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_whatever_its_clients_do(trained: Path, tmp_path: Path, number: int) -> None:
    limits = ("--max-samples", 100, "--max-requests", 4, "--max-uploads", 2)
    with served(trained, tmp_path, *limits) as page, ExitStack() as clients:
        key = page.upload()["id"]
        clients.enter_context(begin_answer(page, key))
        for _ in range(2):
            clients.enter_context(begin_upload(page))
        # So many files at a time, and so many requests.
        status, _, body = page.request("/api/pictures", b"x", "image/png")
        assert status == 503 and "at most 2 files are taken at a time" in json.loads(body)["error"]
        huge = f"GET /api/pictures/{key}/labels?size=10000,10000 HTTP/1.1\r\nHost: {{host}}\r\n\r\n"
        clients.enter_context(connect(page, huge))
        wait_for(lambda: page.request("/api/model")[0] == 503)
        status, headers, body = page.request("/api/model")
        assert "at most 4 requests are served" in json.loads(body)["error"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        clients.enter_context(connect(page, "GET / HTTP/1.1\r\nHos"))

        page.process.send_signal(number)
        assert page.process.wait(30) == 0
        assert page.process.stdout.read() == "ended\n"
        log = page.log.read_text()
        assert "Traceback" not in log and "ERROR" not in log


@pytest.fixture(scope="module")
def hasty(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page that waits four seconds for its clients, on another loopback address."""
    folder = tmp_path_factory.mktemp("served")
    with served(trained, folder, "--host", "127.0.0.2", "--max-seconds", 4) as page:
        yield page
        assert "Traceback" not in page.log.read_text()


def test_an_upload_that_does_not_arrive(hasty: Page) -> None:
    with begin_upload(hasty) as client:
        status, error = read_error(client)
    assert status == 408
    assert error == "the file must arrive within 4 seconds, 100 bytes did"
    hasty.upload()


@pytest.mark.parametrize(
    "text", ["", "GET / HTTP/1.1\r\nHos", "GET / HTTP/1.1\r\nHost: {host}\r\n"]
)
def test_a_head_that_does_not_arrive(hasty: Page, text: str) -> None:
    with connect(hasty, text) as client:
        assert client.recv(100) == b""


def test_a_head_that_does_not_arrive_after_an_answer(hasty: Page) -> None:
    with connect(hasty, "GET /api/model HTTP/1.1\r\nHost: {host}\r\n\r\n") as client:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        client.sendall(b"GET / HT")
        with client.makefile("rb") as rest:
            assert rest.read().endswith(b"}}")  # of the answer: there is an end


def test_an_answer_that_is_not_read(hasty: Page) -> None:
    key = hasty.upload()["id"]
    with begin_answer(hasty, key):
        assert clients_of(hasty) > 0
        wait_for(lambda: clients_of(hasty) == 0)


def test_a_client_that_goes_while_it_uploads(hasty: Page) -> None:
    begin_upload(hasty).close()
    wait_for(lambda: clients_of(hasty) == 0)
    hasty.upload()
    assert "Traceback" not in hasty.log.read_text()


@pytest.mark.parametrize(("name", "status"), [("127.0.0.2", 200), ("127.0.0.1", 400), ("a.b", 400)])
def test_a_loopback_address_is_asked_under_its_own_name(
    hasty: Page, name: str, status: int
) -> None:
    assert hasty.request("/api/model", headers={"Host": name})[0] == status
