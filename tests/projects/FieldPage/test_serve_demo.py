"""The page's command in a process of its own: its HTTP interface, and the page in a browser."""

import io
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from field_page import check_picture
from page_limits import Limits
from PIL import Image

from ifa_d2.data import read_label
from ifa_d2.demo.answers import resample_labels
from tests.projects.FieldPage.served import ROOT, Page, served

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TIMES = "\N{MULTIPLICATION SIGN}"
HUGE = "9" * 400
BODIES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/bmp": "BMP"}


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    limits = [
        *("--max-megabytes", 0.1, "--max-megapixels", 0.01, "--max-samples", 0.5),
        *("--max-pictures", 3),
    ]
    with served(trained, tmp_path_factory.mktemp("served"), *limits) as page:
        assert page.url.startswith("http://127.0.0.1:")
        yield page


def test_page_and_model(page: Page) -> None:
    status, headers, body = page.request("/")
    assert status == 200 and b"Drop a picture here" in body
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    # Every file that the page and its scripts name is there.
    for name in sorted(
        path.name for path in (ROOT / "projects/FieldPage/field_page/static").iterdir()
    ):
        assert page.request(f"/static/{name}")[0] == 200
    model = json.loads(page.request("/api/model")[2])
    assert [one["name"] for one in model["classes"]] == ["left", "right", "middle"]
    colors = MetadataCatalog.get("tiny").stuff_colors
    assert [one["color"] for one in model["classes"]] == [list(color) for color in colors]
    assert model["limits"]["bytes"] == 104857 and model["limits"]["types"] == list(BODIES)


@pytest.mark.parametrize(
    ("query", "window", "size"),
    [
        ("", None, None),
        ("?window=4,8,24,40", (4, 8, 24, 40), None),
        ("?window=4,8,24,40&size=100,160", (4, 8, 24, 40), (100, 160)),
        ("?size=7,300", None, (7, 300)),
    ],
)
def test_labels_are_the_predictors(page: Page, query: str, window: Any, size: Any) -> None:
    facts = page.upload()
    assert (facts["height"], facts["width"]) == (80, 96)
    expected = page.field().labels(size, window).numpy()
    assert len(np.unique(expected)) > 1
    status, headers, body = page.request(f"/api/pictures/{facts['id']}/labels{query}")
    assert status == 200 and headers["X-Size"] == f"{expected.shape[0]},{expected.shape[1]}"
    assert np.array_equal(np.frombuffer(body, "<u2").reshape(expected.shape), expected)
    status, headers, body = page.request(f"/api/pictures/{facts['id']}/labels.png{query}")
    assert headers["Content-Type"] == "image/png" and "attachment" in headers["Content-Disposition"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), expected)


def test_entropy_is_the_fields(page: Page) -> None:
    key = page.upload()["id"]
    status, headers, body = page.request(f"/api/pictures/{key}/entropy?window=4,8,24,40&size=50,80")
    expected = page.field().entropy((50, 80), (4, 8, 24, 40)).numpy()
    assert status == 200 and headers["X-Size"] == "50,80" and float(headers["X-Seconds"]) > 0
    found = np.frombuffer(body, np.uint8).reshape(50, 80)
    assert np.abs(found / 255 - expected).max() <= 0.51 / 255
    assert page.request(f"/api/pictures/{key}/entropy?size=9000,9000")[0] == 422


def test_point(page: Page) -> None:
    key = page.upload()["id"]
    best = json.loads(page.request(f"/api/pictures/{key}/at?y=0.7&x=0.3")[2])
    expected = page.field().at([[0.7, 0.3]])[0].softmax(dim=0)
    assert [one["class"] for one in best] == expected.argsort(descending=True).tolist()
    shares = [one["probability"] for one in best]
    assert shares == pytest.approx(expected.sort(descending=True).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", BODIES)
def test_every_type_and_orientation(page: Page, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    content = io.BytesIO()
    options = {} if kind == "image/bmp" else {"exif": exif}
    Image.open(page.picture).convert("RGB").save(content, BODIES[kind], **options)
    status, _, body = page.request("/api/pictures", content.getvalue(), kind)
    facts = json.loads(body)
    turned = kind != "image/bmp"
    assert status == 201
    assert (facts["height"], facts["width"]) == ((96, 80) if turned else (80, 96))


def encoded(size: tuple[int, int], mode: str = "RGB", part: float = 1.0) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, "PNG")
    return content.getvalue()[: int(part * len(content.getvalue()))]


@pytest.mark.parametrize(
    ("kind", "data", "status", "message"),
    [
        ("text/plain", b"hello", 415, "the content type must be one of image/png"),
        ("image/png", b"hello", 415, "the file must be a picture (PNG, JPEG, WEBP, BMP)"),
        ("image/png", b"", 415, "the file must be a picture"),
        ("image/png", encoded((90, 90), part=0.6), 415, "damaged or cut off"),
        ("image/png", encoded((20, 20), "I;16"), 415, "must have 8 bits a channel"),
        ("image/png", encoded((200, 100)), 413, "at most 0.01 megapixels"),
        ("image/png", encoded((20000, 20000), "1"), 413, "it has more than 170 megapixels"),
        ("image/png", bytes(120_000), 413, "the file must have at most 0.1 MiB"),
    ],
    ids=["type", "no-picture", "empty", "cut", "16-bit", "pixels", "bomb", "bytes"],
)
def test_uploads_that_are_not_taken(
    page: Page, kind: str, data: bytes, status: int, message: str
) -> None:
    got, _, body = page.request("/api/pictures", data, kind)
    assert got == status and message in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("labels?window=0,0,81,9", 422, "window must lie inside the picture"),
        ("labels?window=9,0,9,9", 422, "window must have y1 > y0"),
        ("labels?window=1,2,3", 422, "window must be 4 whole numbers with commas between"),
        ("labels?size=0,4", 422, "size must be (height, width), each at least 1"),
        ("labels?size=-900,-900", 422, "size must be (height, width), each at least 1"),
        ("labels.png?size=900,900", 422, "size must be at most 524288 samples, got 900 x 900"),
        ("labels?size=1,65536", 422, "size must be at most 65535 a side, got 1 x 65536"),
        (f"labels?size={HUGE},1", 422, "size must be (height, width), each at least 1"),
        (f"labels?size={HUGE * 20},1", 422, "size must be 2 whole numbers with commas between"),
        (f"labels.png?window=0,0,{HUGE},5", 422, "window must lie inside the picture"),
        (f"at?y={HUGE}&x=0", 422, "points"),
        ("at?y=0.5", 422, "x must be a number in [0, 1], got ''"),
        ("at?y=nan&x=0", 422, "points"),
        ("at?y=1.5&x=0", 422, "points must be in [0, 1]"),
    ],
)
def test_questions_that_are_not_answered(page: Page, query: str, status: int, message: str) -> None:
    key = page.upload()["id"]
    got, _, body = page.request(f"/api/pictures/{key}/{query}")
    assert got == status and message in json.loads(body)["error"]


def test_old_pictures_make_room(page: Page) -> None:
    first, second = page.upload()["id"], page.upload()["id"]
    page.request(f"/api/pictures/{first}/labels")  # the first is now the one used last
    page.upload(), page.upload()
    assert page.request(f"/api/pictures/{first}/labels")[0] == 200
    status, _, body = page.request(f"/api/pictures/{second}/labels")
    assert status == 404 and "no longer held" in json.loads(body)["error"]
    assert page.request(f"/api/pictures/{first}", method="DELETE")[0] == 204
    assert page.request(f"/api/pictures/{first}/labels")[0] == 404


def test_other_sites_names_are_refused(page: Page) -> None:
    assert page.request("/api/model", headers={"Host": "elsewhere.example"})[0] == 400


def test_a_request_that_is_given_up_holds_nobody_up(page: Page) -> None:
    key = page.upload()["id"]
    path = f"{page.url}/api/pictures/{key}/labels?size=700,700"
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(path, timeout=0.02)
    assert page.request(f"/api/pictures/{key}/labels?size=10,10")[0] == 200


def test_nothing_is_written(page: Page) -> None:
    key = page.upload()["id"]
    assert page.request(f"/api/pictures/{key}/labels.png")[0] == 200
    for folder in page.folders:
        assert list(folder.rglob("*")) == []


def wait_until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page does not get there"
        time.sleep(0.05)


def canvas_labels(tab: Any, name: str, shape: tuple[int, int], colors: np.ndarray) -> np.ndarray:
    """Labels (h, w) read from a canvas that shows them at full opacity; -1 where colours mix."""
    width, height, data = tab.evaluate(
        """(name) => {
            const canvas = document.getElementById(name);
            const { width, height } = canvas;
            const image = canvas.getContext("2d").getImageData(0, 0, width, height);
            return [width, height, [...image.data]];
        }""",
        name,
    )
    pixels = np.array(data, np.int64).reshape(height, width, 4)[..., :3]
    sampled = resample_labels(pixels, (0, 0, height, width), shape)
    distances = np.abs(sampled[:, :, None] - colors).sum(axis=-1)
    return np.where(distances.min(axis=-1) < 8, distances.argmin(axis=-1), -1)


def drop(tab: Any, name: str, content: bytes) -> None:
    """Drop a PNG on the page."""
    transfer = tab.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            const file = new File([new Uint8Array(bytes)], name, { type: "image/png" });
            transfer.items.add(file);
            return transfer;
        }""",
        [name, list(content)],
    )
    tab.dispatch_event("body", "drop", {"dataTransfer": transfer})


@contextmanager
def opened(page: Page) -> Iterator[Any]:
    """The page in a tab of a browser."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine to show the page in")
    api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1300, "height": 800})
        tab.faults = []
        tab.on("pageerror", lambda error: tab.faults.append(str(error)))
        tab.goto(page.url)
        tab.wait_for_selector("body[data-ready]")
        yield tab
        browser.close()


@pytest.fixture
def tab(page: Page) -> Iterator[Any]:
    with opened(page) as tab:
        yield tab


def test_no_picture_is_opened_at_first_unless_one_is_named(page: Page) -> None:
    assert json.loads(page.request("/api/model")[2])["first"] is None
    status, _, body = page.request("/api/first")
    assert (status, json.loads(body)) == (404, {"error": "no picture is opened at first"})


def test_a_page_that_opens_a_picture_at_first(trained: Path, tmp_path: Path) -> None:
    with served(trained, tmp_path, "--picture", trained / "large.png") as page:
        assert json.loads(page.request("/api/model")[2])["first"] == "large.png"
        status, headers, body = page.request("/api/first")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert body == page.picture.read_bytes()
        with opened(page) as tab:
            wait_until(lambda: tab.text_content("#window-facts"))
            assert tab.text_content("#picture-facts").startswith(f"large.png, 96 {TIMES} 80,")
            assert not tab.faults


def test_a_first_picture_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"picture .*note\.txt cannot be opened: the file must be"):
        check_picture(tmp_path / "note.txt", Limits())


def test_in_a_browser(page: Page, tab: Any, tmp_path: Path) -> None:
    def settled() -> bool:
        return bool(tab.text_content("#window-facts")) and not tab.text_content("#status")

    def place(y: float, x: float) -> tuple[float, float]:
        """Where a point of the picture is on the page."""
        box = tab.locator("#picture").bounding_box()
        return box["x"] + x / 96 * box["width"], box["y"] + y / 80 * box["height"]

    field = page.field()
    assert "up to 0.1 MiB and 0 megapixels" in tab.text_content("#limits")
    tab.set_input_files("#file", page.picture)
    wait_until(settled)
    assert tab.text_content("#picture-facts").startswith(f"large.png, 96 {TIMES} 80, features")
    # The legend: classes by area, in percent of the picture.
    labels = field.labels().numpy()
    areas = np.bincount(labels.ravel(), minlength=3) / labels.size
    names = MetadataCatalog.get("tiny").stuff_classes
    rows = [row.split("\t") for row in tab.locator("#legend tbody").inner_text().split("\n")]
    order = [label for label in np.argsort(-areas, kind="stable") if areas[label]]
    assert [row[1] for row in rows] == [names[label] for label in order]
    assert [row[2] for row in rows] == [f"{100 * areas[label]:.1f} %" for label in order]

    # A window is dragged, and decoded finer than the picture's pixels from the same field.
    tab.mouse.move(*place(4.2, 8.2))
    tab.mouse.down()
    tab.mouse.move(*place(12, 20))
    tab.mouse.move(*place(25.8, 35.8))
    tab.mouse.up()
    wait_until(lambda: tab.text_content("#window-facts").startswith(f"28 {TIMES} 22 pixels"))
    wait_until(settled)
    zoom = int(tab.text_content("#window-facts").split(": ")[1].split(" ")[0])
    assert zoom > 8
    fine = field.labels((22 * zoom, 28 * zoom), (4, 8, 26, 36)).numpy()
    tab.fill("#opacity", "100")
    colors = np.array(MetadataCatalog.get("tiny").stuff_colors)
    shown = canvas_labels(tab, "detail", (110, 140), colors)
    expected = resample_labels(fine, (0, 0, *fine.shape), (110, 140))
    # Where two classes meet, the screen's pixels average those of the answer.
    assert (shown >= 0).mean() > 0.75 and (shown == expected)[shown >= 0].mean() > 0.995
    tab.check("input[value=pixels]", force=True)
    shown = canvas_labels(tab, "detail", (22, 28), colors)
    assert np.array_equal(shown, labels[4:26, 8:36])

    # Names under the pointer, at once and then with probabilities.
    label = labels[60, 70]
    tab.mouse.move(*place(60.5, 70.5))
    assert tab.inner_text("#tip") == names[label]
    wait_until(lambda: "%" in tab.inner_text("#tip"))
    probability = field.at([[60.5 / 80, 70.5 / 96]])[0].softmax(dim=0).max()
    assert tab.inner_text("#tip").split("\n")[:2] == [names[label], f"{100 * probability:.1f} %"]

    # The switch shows entropy in place of classes, there and back.
    scale = np.array(
        [shade["color"] for shade in json.loads(page.request("/api/model")[2])["shades"]]
    )
    assert tab.is_hidden("#scale") and scale.shape == (256, 3)
    tab.check("#entropy")
    wait_until(settled)
    assert tab.is_visible("#scale")
    shown = canvas_labels(tab, "detail", (22, 28), scale)
    expected = np.rint(255 * field.entropy((22, 28), (4, 8, 26, 36)).numpy())
    assert np.abs(shown - expected).max() <= 4  # shades nearby are alike
    tab.uncheck("#entropy")
    shown = canvas_labels(tab, "detail", (22, 28), colors)
    assert np.array_equal(shown, labels[4:26, 8:36]) and tab.is_hidden("#scale")

    for link, expected in (("#save-picture", labels), ("#save-window", fine)):
        with tab.expect_download() as download:
            tab.click(link)
        download.value.save_as(tmp_path / "saved.png")
        assert np.array_equal(read_label(str(tmp_path / "saved.png")), expected)

    with tab.expect_download() as download:
        tab.click("#save-drawing")
    download.value.save_as(tmp_path / "drawing.png")
    assert Image.open(tmp_path / "drawing.png").size[0] > 400

    # The window is moved by the keyboard, and then by the pointer.
    tab.focus("#picture")
    tab.keyboard.press("ArrowDown")
    wait_until(settled)
    assert "window=8%2C8%2C30%2C36" in tab.get_attribute("#save-window", "href")
    tab.mouse.move(*place(20, 20))
    tab.mouse.down()
    tab.mouse.move(*place(30, 50), steps=3)
    tab.mouse.up()
    wait_until(lambda: "window=18%2C38%2C40%2C66" in tab.get_attribute("#save-window", "href"))

    tab.keyboard.down("Shift")  # and a new one is dragged inside it
    tab.mouse.move(*place(20.5, 40.5))
    tab.mouse.down()
    tab.mouse.move(*place(29.5, 55.5), steps=3)
    tab.mouse.up()
    tab.keyboard.up("Shift")
    wait_until(lambda: "window=20%2C40%2C30%2C56" in tab.get_attribute("#save-window", "href"))

    # What is not taken is said, and the picture stays.
    text = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"}
    tab.set_input_files("#file", text)
    wait_until(lambda: "no PNG, JPEG, WEBP or BMP picture" in tab.text_content("#error"))
    drop(tab, "b.png", encoded((90, 90), part=0.6))
    wait_until(lambda: "damaged or cut off" in tab.text_content("#error"))
    assert tab.text_content("#picture-facts").startswith("large.png") and not tab.faults

    # Another picture takes its place.
    drop(tab, "c.png", encoded((60, 30)))
    wait_until(lambda: tab.text_content("#picture-facts").startswith(f"c.png, 60 {TIMES} 30"))
    wait_until(settled)
    assert tab.is_hidden("#error") and not tab.faults
