"""The server's addresses: the page, what the page asks, and OpenAI's interface.

Promises: every answer but the page's files is JSON, every error an error object of OpenAI's form. The work is done
elsewhere: `engine_queue`, `boxes`, `live`; who may come is decided in `guard`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import reprlib
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from proxqa_core import __version__
from proxqa_core.errors import NotUnderstoodError, ProxqaError, reason_of
from proxqa_core.jsontext import plain
from proxqa_core.protocols import Engine
from proxqa_core.serving import chat
from proxqa_core.serving.boxes import MEDIA_TYPES, BoxesFolder
from proxqa_core.serving.config import ServeConfig
from proxqa_core.serving.engine_queue import EngineQueue
from proxqa_core.serving.errors import BAD_REQUEST, INTERNAL, NOT_FOUND, UNAVAILABLE, ApiError, as_api_error
from proxqa_core.serving.guard import Doorkeeper, Guard
from proxqa_core.serving.image_urls import image_of_url
from proxqa_core.serving.live import LiveSource
from proxqa_core.serving.results import answer_json, objects_json

STATIC = Path(__file__).with_name("static")
EXAMPLE = Path(__file__).parents[1] / "assets/pictures/room3.jpg"
"""What the page shows to who has no photo at hand."""
GONE_CHECK_S = 0.5
"""Time between two looks whether a client still waits."""
CLIENT_GONE = 499
KNOWN_ERRORS = (ProxqaError, OSError, MemoryError, RuntimeError)
"""What work may raise; all else is a fault, which the server's log shows with where it happened."""
SAY_WHAT_CAME = ("missing", "extra_forbidden", "value_error")
"""Kinds of a wrong field whose message says it by itself."""
T = TypeVar("T")
log = logging.getLogger(__name__)


class AsciiJson(JSONResponse):
    """JSON in ASCII, which has room for text that is none (lone surrogates); NaN becomes null."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(plain(content), allow_nan=False, separators=(",", ":")).encode("ascii")


class Question(BaseModel):
    """What the page asks. image: key of an image that was sent before; '' for the live one."""

    model_config = ConfigDict(extra="forbid")
    image: str = ""
    question: str = ""
    objects: list[chat.KnownObject] = []


class Boxes(BaseModel):
    """The boxes of an image. revision: of what they were made from."""

    model_config = ConfigDict(extra="forbid")
    objects: list[chat.KnownObject]
    revision: str


class Parts:
    """What the addresses are made of.

    Args:
        config: What the server is started with.
        engine: The loaded model; None = questions go to the node alone.
        live: A running node; None = there is none.
    """

    def __init__(self, config: ServeConfig, engine: Engine | None, live: LiveSource | None) -> None:
        self.config, self.live = config, live
        self._engine = engine
        self.model_name = "" if engine is None else engine.model_name
        self.boxes = None if config.boxes_folder is None else BoxesFolder(config.boxes_folder)
        self.tokens = _token_counter(engine)
        self.started = int(time.time())
        self._queue = None
        if engine is not None:
            limits = (config.max_waiting, config.timeout_s, config.remembered_images)
            self._queue = EngineQueue(engine, *limits)

    @property
    def info(self) -> dict[str, Any]:
        """What the model says of itself now: another backend may have taken over."""
        return {} if self._engine is None else self._engine.info()

    @property
    def queue(self) -> EngineQueue:
        """The model's queue; ApiError where no model was loaded."""
        if self._queue is None:
            raise ApiError(UNAVAILABLE, "no_model", "no model is loaded here (--no-model); ask the live image")
        return self._queue

    @property
    def node(self) -> LiveSource:
        """The running node; ApiError where there is none."""
        if self.live is None:
            raise ApiError(NOT_FOUND, "no_node", "this server was started without a node; start it with --node")
        return self.live

    @property
    def folder(self) -> BoxesFolder:
        """The folder to draw boxes in; ApiError where there is none."""
        if self.boxes is None:
            raise ApiError(
                NOT_FOUND, "no_folder", "this server was started without a folder; start it with --boxes DIR"
            )
        return self.boxes

    def close(self) -> None:
        """End what runs."""
        if self._queue is not None:
            self._queue.close()
        if self.live is not None:
            self.live.close()


def make_app(config: ServeConfig, engine: Engine | None, live: LiveSource | None = None) -> FastAPI:
    """The whole application.

    Args:
        config: What it is started with.
        engine: The loaded model; None = questions go to the node alone.
        live: A running node; None = there is none.

    Raises:
        BadDatasetError: The folder of boxes cannot be used.
    """
    parts, door = Parts(config, engine, live), Doorkeeper(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        parts.close()

    app = FastAPI(
        title="proxqa",
        version=__version__,
        docs_url=None,  # their scripts come from another site
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(door.check_place)],
        default_response_class=AsciiJson,
    )
    app.add_middleware(Guard, max_body_bytes=config.max_body_bytes)
    _add_error_handlers(app)
    keyed, counted = [Depends(door.check_key)], [Depends(door.check_key), Depends(door.check_rate)]
    for router in (_openai(parts, keyed, counted), _questions(parts, keyed, counted), _live(parts, keyed, counted)):
        app.include_router(router)
    app.include_router(_folder(parts, keyed))
    app.mount("/", _PageFiles(door))
    return app


class _PageFiles(StaticFiles):
    """The page's own files."""

    def __init__(self, door: Doorkeeper) -> None:
        super().__init__(directory=STATIC, html=True)
        self._door = door

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._door.check_place(Request(scope))
        await super().__call__(scope, receive, send)


# --- OpenAI's interface ----------------------------------------------------------------------------------------------


def _openai(parts: Parts, keyed: list[Any], counted: list[Any]) -> APIRouter:
    router = APIRouter()
    names = [chat.ALIAS, *([parts.model_name] if parts.model_name else [])]

    def check_model(model: str) -> None:
        if model not in names:
            message = f"there is no model {model[:80]!r} here; expected one of {', '.join(names)}"
            raise ApiError(NOT_FOUND, "model_not_found", message, "model")

    @router.get("/v1/models", dependencies=keyed)
    async def models() -> Response:
        return AsciiJson(chat.models_json(names, parts.started))

    @router.get("/v1/models/{model:path}", dependencies=keyed)
    async def one_model(model: str) -> Response:
        check_model(model)
        return AsciiJson(chat.models_json([model], parts.started)["data"][0])

    @router.post("/v1/chat/completions", dependencies=counted)
    async def completions(body: chat.ChatRequest, request: Request) -> Response:
        check_model(body.model)
        asked = chat.read_request(body)
        done = await _while_connected(request, _chat_answer(parts, asked))
        completion = chat.complete(body, asked, done, parts.model_name, parts.tokens)
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            return StreamingResponse(completion.events(with_usage), media_type="text/event-stream")
        return AsciiJson(completion.body())

    @router.api_route("/v1/{path:path}", methods=["GET", "POST"], dependencies=keyed, include_in_schema=False)
    async def others(path: str) -> Response:
        there = "/v1/chat/completions (POST) and /v1/models (GET)"
        raise ApiError(NOT_FOUND, "not_found", f"there is no /v1/{path[:80]} of this method here, only {there}")

    return router


async def _chat_answer(parts: Parts, asked: chat.Asked) -> Any:
    """The engine's answer, or the error that says why this model has none."""
    config = parts.config
    image = await asyncio.to_thread(image_of_url, asked.image_url, config.max_body_bytes, config.image_url_hosts)
    try:
        return await parts.queue.ask(image, asked.question, asked.objects)
    except NotUnderstoodError as error:
        return error


def _token_counter(engine: Engine | None) -> chat.TokenCounter:
    prompter = getattr(getattr(engine, "model", None), "prompter", None)
    if prompter is None:
        return chat.TokenCounter()
    return chat.TokenCounter(prompter.tokenizer, prompter.image_tokens)


# --- the page --------------------------------------------------------------------------------------------------------


def _questions(parts: Parts, keyed: list[Any], counted: list[Any]) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        return AsciiJson({"status": "ok"})

    @router.get("/api/state", dependencies=keyed)
    async def state() -> Response:
        found = {"model": parts.model_name, "info": parts.info, "live": parts.live is not None}
        folder = "" if parts.boxes is None else parts.boxes.path.name
        return AsciiJson(found | {"folder": folder, "max_body_mb": parts.config.max_body_mb})

    @router.get("/api/example.jpg", dependencies=keyed)
    async def example() -> Response:
        return FileResponse(EXAMPLE, media_type="image/jpeg")

    @router.post("/api/images", dependencies=counted)
    async def send_image(request: Request) -> Response:
        content = await request.body()
        image = await _while_connected(request, parts.queue.encode(content))
        return AsciiJson({"image": image.key, "width": image.width, "height": image.height})

    @router.post("/api/ask", dependencies=counted)
    async def ask(body: Question, request: Request) -> Response:
        queries = [o.query() for o in body.objects]
        answer = await _while_connected(request, parts.queue.ask(body.image, body.question, queries))
        return AsciiJson(answer_json(answer))

    return router


def _live(parts: Parts, keyed: list[Any], counted: list[Any]) -> APIRouter:
    router = APIRouter(prefix="/api/live")

    @router.get("", dependencies=keyed)
    async def newest() -> Response:
        frame, problem = parts.node.newest(), parts.node.problem()
        if frame is None:
            return AsciiJson({"problem": problem})
        found = {"stamp": str(frame.stamp_ns), "age_s": frame.age_s, "model": frame.model, "problem": problem}
        return AsciiJson(found | {"objects": objects_json(frame.objects), "has_image": bool(frame.jpeg)})

    @router.get("/image.jpg", dependencies=keyed)
    async def image() -> Response:
        frame = parts.node.newest()
        if frame is None or not frame.jpeg:
            raise ApiError(NOT_FOUND, "no_image", "no image has come from the node yet")
        return Response(frame.jpeg, media_type="image/jpeg")

    @router.post("/ask", dependencies=counted)
    async def ask(body: Question, request: Request) -> Response:
        queries = [o.query() for o in body.objects]
        answered = asyncio.to_thread(parts.node.ask, body.question, queries)
        return AsciiJson(answer_json(await _while_connected(request, answered)))

    return router


def _folder(parts: Parts, keyed: list[Any]) -> APIRouter:
    router = APIRouter(prefix="/api/folder", dependencies=keyed)

    @router.get("")
    def images() -> Response:
        return AsciiJson({"folder": parts.folder.path.name, "images": parts.folder.images()})

    @router.get("/image")
    def image(image: str) -> Response:
        file = parts.folder.file(image)
        return FileResponse(file, media_type=MEDIA_TYPES.get(file.suffix.lower(), "image/jpeg"))

    @router.get("/boxes")
    def boxes(image: str) -> Response:
        return AsciiJson(parts.folder.read(image))

    @router.put("/boxes")
    def save(image: str, body: Boxes) -> Response:
        return AsciiJson(parts.folder.write(image, [o.query() for o in body.objects], body.revision))

    return router


# --- what all of them share ------------------------------------------------------------------------------------------


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of some work, which is given up when the client has gone."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=GONE_CHECK_S))[0]:
            if await request.is_disconnected():
                raise ApiError(CLIENT_GONE, "client_gone", "the client has gone")
        return task.result()
    finally:
        task.cancel()


def _invalid(error: RequestValidationError) -> ApiError:
    """What is wrong with a request: where, what was expected there and what came."""
    first = max(error.errors(), key=lambda e: len(e["loc"]))  # of several forms the one that came nearest
    if first["type"] == "json_invalid":
        reason = f"{first['ctx']['error']}, character {first['loc'][-1]}"
        return ApiError(BAD_REQUEST, "bad_request", f"the body is no JSON ({reason}); expected an object")
    place = ".".join(str(p) for p in first["loc"][1:])
    where = f"field {place!r}" if place else "the body"
    came = "" if first["type"] in SAY_WHAT_CAME else f"; {_shown(first['input'])} came"
    return ApiError(BAD_REQUEST, "bad_request", f"{where}: {reason_of(Exception(first['msg']))}{came}", place)


def _shown(value: Any) -> str:
    """What came, in short."""
    return {dict: "an object", list: "a list", type(None): "null"}.get(type(value)) or reprlib.repr(value)


def _add_error_handlers(app: FastAPI) -> None:
    def answer(error: ApiError) -> Response:
        return AsciiJson(error.body(), error.status, error.headers())

    async def on_error(request: Request, error: Exception) -> Response:
        api_error = as_api_error(error)
        if api_error.status == INTERNAL:
            log.error("a request to %s failed", request.url.path, exc_info=error)
        return answer(api_error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(_invalid(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(ApiError(error.status_code, "http_error", str(error.detail)))

    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ApiError, on_error)
    for kind in KNOWN_ERRORS:
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(Exception, on_error)
