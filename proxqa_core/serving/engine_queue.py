"""The one thread that runs the model, the queue before it, and the images that it has encoded.

Promises: at most `max_waiting` requests wait, more are refused at once; a request that nobody waits for any more is not
run; an image is encoded once while it is remembered. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from proxqa_core.answering import depths_answer
from proxqa_core.protocols import EncodedImage, Engine
from proxqa_core.serving.errors import NOT_FOUND, TIMED_OUT, TOO_MANY, ApiError
from proxqa_core.types import ObjectQuery, ProximityAnswer
from proxqa_core.vision.image_file import decode_image

T = TypeVar("T")


@dataclass(frozen=True)
class RememberedImage:
    """An encoded image. key: SHA-256 of its file. width, height: in pixels, upright."""

    key: str
    encoded: EncodedImage
    width: int
    height: int


class EngineQueue:
    """Asks an engine on behalf of many clients, one after the other.

    Args:
        engine: The loaded model.
        max_waiting: Most requests that wait.
        timeout_s: Longest wait for one answer, in seconds.
        remembered_images: How many encoded images are kept.
    """

    def __init__(self, engine: Engine, max_waiting: int, timeout_s: float, remembered_images: int) -> None:
        self.engine = engine
        self._max_waiting, self._timeout_s, self._most_images = max_waiting, timeout_s, remembered_images
        self._pool = ThreadPoolExecutor(1, "proxqa-model")
        self._waiting = 0
        self._images: OrderedDict[str, RememberedImage] = OrderedDict()  # touched by the model's thread only

    async def encode(self, content: bytes) -> RememberedImage:
        """Encode the content of an image file, or remember it.

        Raises:
            BadImageError: It is no image that can be used.
            ApiError: Too many wait, or it took too long.
        """
        return await self._run(lambda: self._encoded(content))

    async def ask(self, image: str | bytes, question: str, objects: Sequence[ObjectQuery]) -> ProximityAnswer:
        """Answer a question, or tell depths where there is none.

        Args:
            image: The content of an image file, or the key of an image that was encoded.
            question: In words; '' = how far the objects are.
            objects: Known ones.

        Raises:
            ProxqaError: As of `proxqa_core.engine.EncodedImage.ask`.
            ApiError: Too many wait, it took too long, or the key's image is not remembered any more.
        """
        return await self._run(lambda: self._answer(image, question, objects))

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, job: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise ApiError(TOO_MANY, "queue_full", f"{self._waiting} requests are waiting already; ask again later")
        self._waiting += 1
        running: Future[T] = self._pool.submit(job)
        try:
            # cancelled with its caller: then a job that has not begun never will
            return await asyncio.wait_for(asyncio.wrap_future(running), self._timeout_s)
        except TimeoutError as error:
            raise ApiError(TIMED_OUT, "timeout", f"no answer within {self._timeout_s:g} s; ask again later") from error
        finally:
            self._waiting -= 1

    def _answer(self, image: str | bytes, question: str, objects: Sequence[ObjectQuery]) -> ProximityAnswer:
        encoded = (self._encoded(image) if isinstance(image, bytes) else self._remembered(image)).encoded
        if question.strip():
            return encoded.ask(question, objects)
        return depths_answer(encoded, objects)

    def _encoded(self, content: bytes) -> RememberedImage:
        key = hashlib.sha256(content).hexdigest()
        if key not in self._images:
            pixels = decode_image(content, "the image")
            height, width = pixels.shape[:2]
            self._images[key] = RememberedImage(key, self.engine.encode_image(pixels), width, height)
            if len(self._images) > self._most_images:
                self._images.popitem(last=False)
        return self._remembered(key)

    def _remembered(self, key: str) -> RememberedImage:
        if key not in self._images:
            raise ApiError(NOT_FOUND, "image_not_found", "the image is not remembered any more; send it again", "image")
        self._images.move_to_end(key)
        return self._images[key]
