"""What the tests of the server share: a server in a thread of this process, with an engine that is no model."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.core.fake_engine import FakeEncodedImage, FakeEngine

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

KNOWN = {"chair": 0.2, "table": 0.6, "lamp": 0.4}
WAIT_S = 30.0


class AskingImage(FakeEncodedImage):
    """Refuses what is no question about proximity, as the engine does."""

    def ask(self, question: str, objects: Any = ()) -> Any:
        from proxqa_core.language.questions import understand
        from proxqa_core.types import ObjectQuery, QuestionKind

        understood = understand(question, [o.name for o in objects])
        if understood.kind is QuestionKind.GENERAL:
            from proxqa_core.errors import NotUnderstoodError

            raise NotUnderstoodError(f"question {question!r} is not about proximity")
        if understood.kind is QuestionKind.CLOSER:
            return self.closer(*(ObjectQuery(n) for n in understood.names))
        return super().ask(question, objects or [ObjectQuery(n) for n in understood.names])


class HeldEngine(FakeEngine):
    """An engine that waits, where it is told to, until it may go on."""

    def __init__(self) -> None:
        super().__init__(KNOWN, AskingImage)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.encoded = 0

    def encode_image(self, image: NDArray[np.uint8]) -> FakeEncodedImage:
        self.encoded += 1
        assert self.may_go_on.wait(WAIT_S)
        return super().encode_image(image)


def jpeg(size: tuple[int, int] = (64, 48), grey: int = 90) -> bytes:
    """The content of a JPEG of one grey."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "JPEG")
    return buffer.getvalue()


def data_url(content: bytes | None = None) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg() if content is None else content).decode()}"


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of a server of an app."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        end = time.monotonic() + WAIT_S
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT_S)


@pytest.fixture
def engine_held() -> HeldEngine:
    return HeldEngine()


@pytest.fixture
def serve(engine_held: HeldEngine) -> Iterator[Callable[..., str]]:
    """Starts a server with these settings; its address."""
    from proxqa_core.serving.app import make_app
    from proxqa_core.serving.config import ServeConfig

    with contextlib.ExitStack() as stack:

        def start(live: Any = None, engine: Any = engine_held, **settings: Any) -> str:
            return stack.enter_context(running(make_app(ServeConfig(**settings), engine, live)))

        yield start


@pytest.fixture(scope="session")
def demo_frame() -> bytes:
    """A frame of the demo's bag as a PNG."""
    from pathlib import Path

    from proxqa_core.rosbags.bag import Bag
    from proxqa_core.rosbags.image_messages import image_to_rgb

    with Bag(Path(__file__).resolve().parents[3] / "demo/bag") as bag:
        image = image_to_rgb(bag.decode(next(iter(bag.messages(bag.image_topic(""))))))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
