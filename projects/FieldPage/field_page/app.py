"""The page's server: an HTTP interface to a predictor, and the page's own files.

Everything is held in memory; nothing that is uploaded is written to a file.

    POST   /api/pictures                 a picture's bytes -> {id, height, width, seconds}
    DELETE /api/pictures/ID
    GET    /api/pictures/ID/labels       ?window=y0,x0,y1,x1&size=h,w -> h * w little-endian uint16
    GET    /api/pictures/ID/labels.png   the same as a file of class ids
    GET    /api/pictures/ID/entropy      ?window=..&size=.. -> h * w bytes: 0 certain, 255 all alike
    GET    /api/pictures/ID/at           ?y=..&x=.. in [0, 1] -> the most probable classes
    GET    /api/model                    names and colours of the classes, of entropy, limits
    GET    /api/first                    the file of the picture that the page opens at first

A request that is not served gets {"error": one sentence}: 404 what is not held, 408 a
file that does not arrive in time, 413 what is too large, 415 what is no picture, 422 what cannot be
asked, 503 what is too much at a time.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as short
from typing import Any, TypeVar

import numpy as np
import torch
from anyio import CapacityLimiter, fail_after, to_thread
from detectron2.data import Metadata
from page_limits import Limits
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ifa_d2.data.bands import BANDS
from ifa_d2.engine import Predictor
from ifa_d2.modeling import SegmentationField
from ifa_d2.visualization import entropy_colors

from .middleware import CommonHeaders, InFlight
from .uploads import FORMATS, MAX_SIDE, PictureStore, UploadError, decode_upload

STATIC = Path(__file__).with_name("static")
_TOP = 3  # classes that a point is answered with

Result = TypeVar("Result")


class _Pages:
    """Handlers of the requests."""

    def __init__(
        self,
        predictor: Predictor,
        metadata: Metadata,
        limits: Limits,
        title: str,
        first: Path | None,
    ) -> None:
        self.predictor = predictor
        self.metadata = metadata
        self.limits = limits
        self.title = title
        self.first_picture = first
        self.store = PictureStore(limits.pictures)
        # One piece of work at a time: torch uses all cores for it.
        self._alone = CapacityLimiter(1)
        self._uploads = CapacityLimiter(limits.uploads)

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def model(self, request: Request) -> Response:
        names, colors = self.metadata.stuff_classes, self.metadata.stuff_colors
        classes = [
            {"name": name, "color": [int(part) for part in color]}
            for name, color in zip(names, colors, strict=True)
        ]
        limits = {
            "types": list(FORMATS.values()),
            "bytes": self.limits.max_bytes,
            "pixels": self.limits.max_pixels,
            "samples": self.limits.max_samples,
        }
        shades = [{"color": color} for color in entropy_colors().tolist()]
        first = self.first_picture and self.first_picture.name
        about = {"title": self.title, "first": first, "classes": classes, "shades": shades}
        return JSONResponse(about | {"limits": limits})

    async def first(self, request: Request) -> Response:
        if self.first_picture is None:
            raise HTTPException(404, "no picture is opened at first")
        with Image.open(self.first_picture, formats=list(FORMATS)) as image:
            kind = FORMATS[image.format]
        return FileResponse(self.first_picture, media_type=kind)

    async def upload(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in FORMATS.values():
            allowed = ", ".join(FORMATS.values())
            raise UploadError(415, f"the content type must be one of {allowed}, got {kind!r}")
        if self._uploads.available_tokens < 1:
            most = self.limits.uploads
            raise UploadError(503, f"at most {most} files are taken at a time: try again")
        async with self._uploads:
            field, seconds = await self._see(request)
        height, width = field.image_size
        answer = {"id": self.store.add(field), "height": height, "width": width}
        return JSONResponse({**answer, "seconds": seconds}, status_code=201)

    async def _see(self, request: Request) -> tuple[SegmentationField, float]:
        """The field of the picture in a request's body, and the seconds that it took."""
        data = await _read_body(request, self.limits)

        def compute() -> tuple[SegmentationField, float]:
            image = decode_upload(data, self.limits)
            start = time.perf_counter()
            field = self.predictor(np.ascontiguousarray(image[:, :, ::-1]))
            return field, time.perf_counter() - start

        return await self._run(compute)

    async def forget(self, request: Request) -> Response:
        self.store.remove(request.path_params["key"])
        return Response(status_code=204)

    async def labels(self, request: Request) -> Response:
        labels, seconds = await self._ask(request)
        return _numbers(labels.astype("<u2"), seconds)

    async def entropy(self, request: Request) -> Response:
        return _numbers(*await self._ask(request, entropy=True))

    async def labels_png(self, request: Request) -> Response:
        labels, _ = await self._ask(request)
        file = io.BytesIO()
        await to_thread.run_sync(Image.fromarray(labels).save, file, "PNG")
        headers = {"Content-Disposition": 'attachment; filename="labels.png"'}
        return Response(file.getvalue(), media_type="image/png", headers=headers)

    async def at(self, request: Request) -> Response:
        field = self._field(request)
        point = [_number(request, name) for name in ("y", "x")]
        logits = await self._run(field.at, torch.tensor([point]))
        best = logits[0].float().softmax(dim=0).topk(min(_TOP, field.num_classes))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return JSONResponse([{"class": label, "probability": share} for label, share in pairs])

    async def _ask(self, request: Request, *, entropy: bool = False) -> tuple[np.ndarray, float]:
        """The labels that a request's window and size ask for, and the seconds that they took.

        Or the entropy, in 255 parts.
        """
        field = self._field(request)
        query = field.query(_integers(request, "size", 2), _integers(request, "window", 4))
        rows, cols = query.size
        if max(rows, cols) > MAX_SIDE:
            raise ValueError(f"size must be at most {MAX_SIDE} a side, got {rows} x {cols}")
        if rows * cols > self.limits.max_samples:
            raise ValueError(
                f"size must be at most {self.limits.max_samples} samples, got {rows} x {cols}"
            )
        start = time.perf_counter()
        small = entropy or field.num_classes <= 256
        answer = np.empty(query.size, np.uint8 if small else np.uint16)
        pieces = field.iter_entropy(query) if entropy else field.iter_labels(query)
        # Piece by piece: other requests get their turn, and none that was given up is worked for.
        while (piece := await self._run(next, pieces, None)) is not None:
            place, part = piece
            answer[place] = part.mul_(255).round_().numpy() if entropy else part.numpy()
            if await request.is_disconnected():
                raise HTTPException(499, "the request was given up")
        return answer, time.perf_counter() - start

    def _field(self, request: Request) -> SegmentationField:
        field = self.store.get(request.path_params["key"])
        if field is None:
            raise HTTPException(404, "this picture is no longer held: open it again")
        return field

    async def _run(self, work: Callable[..., Result], *args: Any) -> Result:
        # Only the end of the server cancels, and waits for no picture's features.
        return await to_thread.run_sync(work, *args, limiter=self._alone, abandon_on_cancel=True)


def build_app(
    predictor: Predictor,
    metadata: Metadata,
    *,
    limits: Limits | None = None,
    title: str = "",
    first: Path | None = None,
    hosts: list[str] | None = None,
) -> Starlette:
    """The page and its interface as an ASGI application.

    Args:
        predictor: segments what is uploaded.
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        limits: of uploads and answers; None is their defaults.
        title: what the page calls the model.
        first: a picture that the page opens at first; None is none.
        hosts: names that requests may come under, so that no other site's name can be pointed
            here; None is any.

    Raises:
        ValueError: the model and the data set have different numbers of classes, or the model is of
            bands.
    """
    if predictor.image_format == BANDS:
        raise ValueError("predictor must be of pictures in colours: the page shows no bands")
    num_classes = predictor.model.sem_seg_head.alignment.predictor.out_channels
    known = len(metadata.stuff_classes)
    if num_classes != known:
        raise ValueError(f"the model predicts {num_classes} classes, but the data set has {known}")
    limits = limits or Limits()
    pages = _Pages(predictor, metadata, limits, title, first)
    one = "/api/pictures/{key}"
    return Starlette(
        routes=[
            Route("/", pages.page),
            Route("/api/model", pages.model),
            Route("/api/first", pages.first),
            Route("/api/pictures", pages.upload, methods=["POST"]),
            Route(one, pages.forget, methods=["DELETE"]),
            Route(f"{one}/labels", pages.labels),
            Route(f"{one}/labels.png", pages.labels_png),
            Route(f"{one}/entropy", pages.entropy),
            Route(f"{one}/at", pages.at),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts or ["*"]),
            Middleware(CommonHeaders),
            Middleware(InFlight, most=limits.requests),
            Middleware(GZipMiddleware, compresslevel=1),
        ],
        exception_handlers={
            UploadError: _say_upload,
            ValueError: _say_value,
            HTTPException: _say_http,
            ClientDisconnect: _say_nobody,
        },
    )


def _numbers(values: np.ndarray, seconds: float) -> Response:
    """Values (h, w) as they are in memory, with their size and the seconds that they took."""
    size = ",".join(str(side) for side in values.shape)
    headers = {"X-Size": size, "X-Seconds": f"{seconds:.4f}"}
    return Response(values.tobytes(), media_type="application/octet-stream", headers=headers)


async def _say_upload(request: Request, error: UploadError) -> Response:
    return JSONResponse({"error": str(error)}, status_code=error.status)


async def _say_value(request: Request, error: ValueError) -> Response:
    return JSONResponse({"error": str(error)}, status_code=422)


async def _say_http(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


async def _say_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _read_body(request: Request, limits: Limits) -> bytes:
    """The request's body, read no further and no longer than the limits."""
    data = bytearray()
    said = int(request.headers.get("content-length", 0))
    try:
        with fail_after(limits.seconds):
            async for chunk in request.stream():
                data += chunk
                if max(len(data), said) > limits.max_bytes:
                    raise UploadError(413, f"the file must have at most {limits.megabytes:g} MiB")
    except TimeoutError:
        raise UploadError(
            408, f"the file must arrive within {limits.seconds:g} seconds, {len(data)} bytes did"
        ) from None
    return bytes(data)


def _integers(request: Request, name: str, count: int) -> tuple[int, ...] | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise ValueError(
            f"{name} must be {count} whole numbers with commas between, got {short(text)}"
        )
    return values


def _number(request: Request, name: str) -> float:
    text = request.query_params.get(name, "")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number in [0, 1], got {short(text)}") from None
