"""OpenAI's chat completions: what of a request is asked of the engine, and what an answer looks like.

Promises: nothing of a request is obeyed silently wrong: what cannot be done is refused, what has no effect is named in
`proxqa.unused`. A question that this model cannot answer is answered by a refusal, so that a run over many goes on.
Knows nothing of HTTP or of the engine.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proxqa_core.errors import NotUnderstoodError, reason_of
from proxqa_core.jsontext import plain
from proxqa_core.serving.errors import BAD_REQUEST, ApiError
from proxqa_core.serving.results import answer_json, refusal_json
from proxqa_core.types import Box, ObjectQuery, ProximityAnswer

ALIAS = "proxqa"
"""A name of the model that stays when another one is bundled."""
UNSUPPORTED = {"tools": "tools", "functions": "functions", "logprobs": "logprobs", "audio": "audio"}
_WORDS = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+$")


class ImageUrl(BaseModel):
    """Where an image is. detail: has no effect."""

    url: str
    detail: str | None = None


class Part(BaseModel):
    """A part of a message: text, or an image by URL.

    What belongs to the other type is not read: Arrow's tables (Ray Data, Hugging Face datasets) give every dict of a
    list the keys of all, null where it had none.
    """

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: ImageUrl | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_its_type(cls, given: Any) -> Any:
        kind = given.get("type") if isinstance(given, dict) else None
        return {"type": kind, kind: given.get(kind)} if kind in ("text", "image_url") else given


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """Its text, parts on lines of their own."""
        if isinstance(self.content, str) or self.content is None:
            return self.content or ""
        return "\n".join(part.text for part in self.content if part.type == "text")

    @property
    def image_urls(self) -> list[str]:
        """URLs of its images."""
        parts = self.content if isinstance(self.content, list) else []
        return [p.image_url.url if p.image_url else "" for p in parts if p.type == "image_url"]


class KnownObject(BaseModel):
    """An object that the question may mean. box: [x1, y1, x2, y2] in pixels of the upright image."""

    model_config = ConfigDict(extra="forbid")
    name: str
    box: tuple[float, float, float, float] | None = None

    def query(self) -> ObjectQuery:
        """As the engine takes it; BadObjectError where it cannot be used."""
        return ObjectQuery(self.name, None if self.box is None else Box(*self.box))


class Extension(BaseModel):
    """The field `proxqa` of a request, which OpenAI's interface does not have."""

    model_config = ConfigDict(extra="forbid")
    objects: list[KnownObject | str] = []

    def queries(self) -> list[ObjectQuery]:
        """The objects; BadObjectError where one cannot be used."""
        return [ObjectQuery(o) if isinstance(o, str) else o.query() for o in self.objects]


class StreamOptions(BaseModel):
    """include_usage: one chunk more, with the tokens."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request; fields that are not named here have no effect, and are said to have none."""

    model_config = ConfigDict(extra="allow")
    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    proxqa: Extension | None = None

    @property
    def most_tokens(self) -> int | None:
        """Longest answer in tokens, None = as long as it is."""
        return self.max_completion_tokens or self.max_tokens


@dataclass(frozen=True)
class Asked:
    """What a request asks. unused: what of it has no effect."""

    question: str
    image_url: str
    objects: tuple[ObjectQuery, ...]
    unused: tuple[str, ...]


def read_request(request: ChatRequest) -> Asked:
    """What is asked: the text of the last message, about the newest image of the conversation.

    Raises:
        ApiError: It wants what there is not, asks nothing, or has no image or several.
        BadObjectError: An object cannot be used.
    """
    _refuse_unsupported(request)
    last = request.messages[-1]
    if last.role != "user":
        raise _bad(f"the last message is of role {last.role!r}; expected 'user', with a question", "messages")
    if not last.text.strip():
        raise _bad("the last message has no text; expected a question such as 'how far is the chair?'", "messages")
    with_images = [m for m in request.messages if m.image_urls]
    if not with_images:
        raise _bad("no image came; expected a part of type image_url with data:image/jpeg;base64,…", "messages")
    urls = with_images[-1].image_urls
    if len(urls) > 1:
        raise _bad(f"{len(urls)} images came in one message; this model looks at one", "messages")
    return Asked(last.text, urls[0], tuple((request.proxqa or Extension()).queries()), _unused(request, last))


def _refuse_unsupported(request: ChatRequest) -> None:
    extra = request.model_extra or {}
    for field, what in UNSUPPORTED.items():
        if extra.get(field):
            raise _bad(f"{what} came; this model has none", field)
    if request.n not in (None, 1):
        raise _bad(f"n is {request.n}; expected 1: the answer to a question is always the same", "n")
    form = extra.get("response_format")
    if form is not None and (not isinstance(form, dict) or form.get("type") != "text"):
        raise _bad("response_format came; only {'type': 'text'} is possible: see the field 'proxqa' of the answer",
                   "response_format")  # fmt: skip


def _unused(request: ChatRequest, last: Message) -> tuple[str, ...]:
    """Settings, and messages before the last that have text."""
    earlier = {m.role for m in request.messages if m is not last and m.text.strip()}
    settings = [k for k, v in (request.model_extra or {}).items() if v not in (None, False, [], {})]
    return (*sorted(f"text of {role} messages" for role in earlier), *sorted(set(settings) - {"response_format"}))


def _bad(message: str, param: str) -> ApiError:
    return ApiError(BAD_REQUEST, "bad_request", message, param)


class TokenCounter:
    """Counts and cuts texts by a tokenizer of Hugging Face; without one by words.

    Args:
        tokenizer: None = words.
        image_tokens: How many tokens an image takes.
    """

    def __init__(self, tokenizer: Any = None, image_tokens: int = 0) -> None:
        self._tokenizer, self.image_tokens = tokenizer, image_tokens

    def pieces(self, text: str) -> list[str]:
        """A text in its tokens; together they are the text."""
        if self._tokenizer is None:
            return _WORDS.findall(text)
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        ends = [len(self._tokenizer.decode(ids[: i + 1])) for i in range(len(ids) - 1)] + [len(text)]
        return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ids else []


@dataclass(frozen=True)
class Completion:
    """An answer in OpenAI's form.

    Attributes:
        id: Of the completion.
        created: Seconds since 1970.
        model: As it was asked for.
        pieces: The text in tokens.
        finish_reason: "stop", or "length" where max_tokens cut it.
        refusal: Why the model cannot answer; '' = it did.
        usage: Tokens of question and image, and of the answer.
        result: The field `proxqa`.
    """

    id: str
    created: int
    model: str
    pieces: tuple[str, ...]
    finish_reason: str
    refusal: str
    usage: dict[str, int]
    result: dict[str, Any]

    def body(self) -> dict[str, Any]:
        """The whole answer as one object."""
        message = {"role": "assistant", "content": "".join(self.pieces), "refusal": self.refusal or None}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason, "logprobs": None}
        return self._head("chat.completion") | {"choices": [choice], "usage": self.usage, "proxqa": self.result}

    def events(self, include_usage: bool) -> Iterator[str]:
        """The answer as server-sent events. It was made whole before: what streams is its sending."""
        yield self._event({"role": "assistant", "content": "", **({"refusal": self.refusal} if self.refusal else {})})
        for piece in self.pieces:
            yield self._event({"content": piece})
        yield self._event({}, self.finish_reason, {"proxqa": self.result})
        if include_usage:
            yield _data(self._head("chat.completion.chunk") | {"choices": [], "usage": self.usage})
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict[str, Any], finish: str | None = None, more: dict[str, Any] | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _data(self._head("chat.completion.chunk") | {"choices": [choice]} | (more or {}))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def complete(
    request: ChatRequest, asked: Asked, answer: ProximityAnswer | NotUnderstoodError, model: str, tokens: TokenCounter
) -> Completion:
    """The completion that answers a request.

    Args:
        request: What came.
        asked: What was read of it.
        answer: Of the engine; an error where it cannot answer.
        model: Its exact name.
        tokens: Counts.
    """
    refusal = reason_of(answer) if isinstance(answer, NotUnderstoodError) else ""
    result = refusal_json(refusal) if isinstance(answer, NotUnderstoodError) else answer_json(answer)
    pieces = tokens.pieces(refusal or result["answer"])
    kept = pieces[: request.most_tokens]
    spent = {"prompt_tokens": tokens.image_tokens + len(tokens.pieces(asked.question)), "completion_tokens": len(kept)}
    return Completion(
        f"chatcmpl-{uuid.uuid4().hex}",
        int(time.time()),
        request.model,
        tuple(kept),
        "stop" if len(kept) == len(pieces) else "length",
        refusal,
        spent | {"total_tokens": sum(spent.values())},
        result | {"model": model, "unused": list(asked.unused)},
    )


def models_json(names: list[str], created: int) -> dict[str, Any]:
    """The answer of /v1/models."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": ALIAS} for name in names]
    return {"object": "list", "data": data}


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(plain(value), ensure_ascii=False, allow_nan=False)}\n\n"
