import math
import socket

import numpy as np
import pytest
from detectron2.data import transforms as T
from field_page import ShrinkLongSide, allowed_hosts, open_socket, page_url
from page_limits import Limits


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 100), (20, 50)), ((101, 3), (50, 1)), ((50, 50), (50, 50)), ((7, 9), (7, 9))],
)
def test_long_sides_shrink_and_short_ones_stay(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    inputs = T.AugInput(np.zeros((*size, 3), np.uint8))
    ShrinkLongSide(50)(inputs)
    assert inputs.image.shape == (*expected, 3)
    with pytest.raises(ValueError, match="max_size must be at least 1, got 0"):
        ShrinkLongSide(0)


def test_a_port_is_taken_once() -> None:
    with open_socket("127.0.0.1", 0) as first:
        host, port = first.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ValueError, match=rf"cannot listen on host 127.0.0.1 port {port}"):
            open_socket("127.0.0.1", port)
    with pytest.raises(ValueError, match="port must be 0 to 65535, got 70000"):
        open_socket("127.0.0.1", 70000)


@pytest.mark.parametrize(
    ("host", "url", "names"),
    [
        ("127.0.0.1", "http://127.0.0.1:", ["127.0.0.1", "[::1]", "localhost"]),
        ("localhost", "http://localhost:", ["127.0.0.1", "[::1]", "localhost"]),
        ("::1", "http://[::1]:", ["127.0.0.1", "[::1]", "localhost"]),
        ("127.0.0.2", "http://127.0.0.2:", ["127.0.0.2"]),
        ("0.0.0.0", "http://0.0.0.0:", None),
    ],
)
def test_addresses_and_the_names_they_are_asked_by(
    host: str, url: str, names: list[str] | None
) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 on this machine")
    with open_socket(host, 0) as listening:
        assert page_url(host, listening) == f"{url}{listening.getsockname()[1]}"
        assert allowed_hosts(host, listening) == names


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"megabytes": 0}, "megabytes must be above 0 and at most 1048576, got 0"),
        ({"pictures": -1}, "pictures must be above 0 and at most 1048576, got -1"),
        ({"megabytes": math.inf}, "megabytes must be above 0 and at most 1048576, got inf"),
        ({"samples": 1e308}, "samples must be above 0 and at most 1048576, got 1e\\+308"),
        ({"seconds": math.nan}, "seconds must be above 0 and at most 1048576, got nan"),
        ({"megapixels": 171.0, "samples": 171.0}, "megapixels must be at most 170, as Pillow"),
        ({"samples": 2.0}, "samples must be at least the 16 of megapixels, got 2"),
    ],
)
def test_limits(limits: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**limits)
