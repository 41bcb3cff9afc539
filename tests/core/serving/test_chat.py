"""OpenAI's interface, asked by the real `openai` client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.serving.conftest import HeldEngine, data_url, jpeg, running

openai = pytest.importorskip("openai", reason="the openai client is not installed")

CLOSER = "Which is closer, the chair or the table?"


def client(address: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=30)


def message(text: str = CLOSER, *urls: str, role: str = "user") -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls or (data_url(),)]
    return {"role": role, "content": [*images, {"type": "text", "text": text}]}


def ask(address: str, *messages: Any, **settings: Any) -> Any:
    settings = {"model": "proxqa", "messages": list(messages or [message()])} | settings
    return client(address).chat.completions.create(**settings)


def refused(address: str, *messages: Any, **settings: Any) -> Any:
    """The error object of a request that is refused."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask(address, *messages, **settings)
    error = caught.value.body
    assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"]
    return caught.value


def test_models(serve: Callable[..., str]) -> None:
    address = serve()
    assert [m.id for m in client(address).models.list()] == ["proxqa", "fake <model>"]
    assert client(address).models.retrieve("proxqa").owned_by == "proxqa"
    with pytest.raises(openai.NotFoundError, match="expected one of proxqa"):
        client(address).models.retrieve("gpt-4o")


def test_an_answer_and_what_it_was_made_from(serve: Callable[..., str]) -> None:
    done = ask(serve())
    (choice,) = done.choices
    assert choice.message.content.startswith("The chair is closer") and choice.finish_reason == "stop"
    assert choice.message.refusal is None and done.object == "chat.completion" and done.model == "proxqa"
    found = done.model_extra["proxqa"]
    assert (found["closer"], found["farther"], found["probability"]) == ("chair", "table", 0.9)
    assert [(o["name"], o["seen"], o["depth"]) for o in found["objects"]] == [
        ("chair", True, 0.2),
        ("table", True, 0.6),
    ]
    assert found["model"] == "fake <model>" and found["unused"] == []
    assert done.usage.completion_tokens == len(choice.message.content.split())


def test_of_what_is_not_seen_there_is_no_depth(serve: Callable[..., str]) -> None:
    found = ask(serve(), message("How far is the piano?")).model_extra["proxqa"]
    assert found["objects"][0]["seen"] is False and found["objects"][0]["depth"] is None


def test_objects_and_boxes_come_in_a_field_of_ours(serve: Callable[..., str]) -> None:
    known = {"objects": [{"name": "lamp", "box": [1, 2, 30, 40]}, "chair"]}
    found = ask(serve(), message("What is nearest?"), extra_body={"proxqa": known}).model_extra["proxqa"]
    assert [(o["name"], o["box"]) for o in found["objects"]] == [("lamp", [1, 2, 30, 40]), ("chair", None)]


def test_null_fields_of_arrows_tables_are_taken_as_absent(serve: Callable[..., str]) -> None:
    """Ray Data and Hugging Face datasets give every dict of a list the keys of all."""
    content = [
        {"type": "text", "text": CLOSER, "image_url": None},
        {"type": "image_url", "text": None, "image_url": {"url": data_url(), "detail": None}},
    ]
    address = serve()
    for nothing in (None, {"url": None}):
        content[0]["image_url"] = nothing
        done = ask(address, {"role": "user", "content": content}, stream=None, extra_body={"proxqa": None})
        assert done.choices[0].message.content.startswith("The chair is closer")
    wrong = refused(address, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]})
    assert "content" in wrong.body["message"] and "url" in wrong.body["message"]


def test_streaming_says_the_same(serve: Callable[..., str]) -> None:
    address = serve()
    chunks = list(ask(address, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ask(address).choices[0].message.content and len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-2].model_extra["proxqa"]["closer"] == "chair"
    assert chunks[-1].usage.completion_tokens == len(text.split())
    assert len({c.id for c in chunks}) == 1


def test_errors_come_before_a_stream_begins(serve: Callable[..., str]) -> None:
    assert refused(serve(), message(CLOSER, "data:image/jpeg;base64,AAAA"), stream=True).status_code == 400


def test_max_tokens_cut_and_say_so(serve: Callable[..., str]) -> None:
    done = ask(serve(), max_tokens=3)
    assert done.choices[0].message.content == "The chair is" and done.choices[0].finish_reason == "length"


def test_a_question_that_is_none_of_proximity_is_refused_in_the_answer(serve: Callable[..., str]) -> None:
    done = ask(serve(), message("Write a poem about the sea."))
    said = done.choices[0].message
    assert "not about proximity" in said.refusal and said.content == said.refusal
    result, answered = done.model_extra["proxqa"], ask(serve()).model_extra["proxqa"]
    assert result["kind"] == "refused" and result["answer"] == said.refusal
    assert result["closer"] is None and result["objects"] == [] and result.keys() == answered.keys()


def test_the_newest_image_of_a_conversation_is_asked(serve: Callable[..., str], engine_held: HeldEngine) -> None:
    address = serve()
    first, reply = message("How far is the lamp?"), {"role": "assistant", "content": "0.40"}
    done = ask(address, {"role": "system", "content": "Be brief."}, first, reply, {"role": "user", "content": CLOSER})
    assert done.model_extra["proxqa"]["closer"] == "chair"
    unused = done.model_extra["proxqa"]["unused"]
    assert unused == ["text of assistant messages", "text of system messages", "text of user messages"]
    ask(address, temperature=0.7, seed=3)
    assert engine_held.encoded == 1  # the same image, remembered


def test_what_has_no_effect_is_named(serve: Callable[..., str]) -> None:
    done = ask(serve(), temperature=0.7, extra_body={"top_k": 5}, response_format={"type": "text"})
    assert sorted(done.model_extra["proxqa"]["unused"]) == ["temperature", "top_k"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 2}, "expected 1"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "has none"),
        ({"logprobs": True}, "has none"),
        ({"response_format": {"type": "json_object"}}, "only {'type': 'text'}"),
        ({"model": "gpt-4o"}, "expected one of proxqa"),
        ({"messages": [{"role": "user", "content": CLOSER}]}, "no image came"),
        ({"messages": [message(CLOSER, data_url(), data_url())]}, "2 images"),
        ({"messages": [message(" ")]}, "no text"),
        ({"messages": [message(role="assistant")]}, "expected 'user'"),
        ({"messages": []}, "at least 1"),
        ({"messages": [message(CLOSER, "file:///etc/passwd")]}, "never read"),
        ({"messages": [message(CLOSER, "/etc/passwd")]}, "never read"),
        ({"messages": [message(CLOSER, "http://127.0.0.1:9/x.jpg")]}, "fetch from no host"),
        ({"messages": [message(CLOSER, "data:image/jpeg;base64,!!!")]}, "no base64"),
        ({"messages": [message(CLOSER, data_url(jpeg()[:200]))]}, "damaged or cut off"),
        ({"messages": [message(CLOSER, data_url(b"<svg onload=alert(1)>"))]}, "no image that can be read"),
        ({"messages": [message(CLOSER, data_url(jpeg((8, 8))))]}, "expected sides of 16"),
        ({"extra_body": {"proxqa": {"objekts": []}}}, "proxqa.objekts"),
        ({"extra_body": {"proxqa": {"objects": [{"name": "x", "box": [9, 9, 1, 1]}]}}}, "is empty"),
        ({"extra_body": {"proxqa": {"objects": "chair"}}}, "should be a valid list; 'chair' came"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_line(serve: Callable[..., str], settings: dict[str, Any], says: str) -> None:
    error = refused(serve(), **settings)
    assert error.status_code in (400, 403, 404) and says in error.body["message"]


def test_bodies_that_are_no_requests(serve: Callable[..., str]) -> None:
    httpx = pytest.importorskip("httpx2")
    address = serve()
    odd = {"model": "proxqa", "messages": [{"role": "user", "content": "\ud800 <b>"}]}

    def answer_to(body: bytes | str) -> Any:
        return httpx.post(f"{address}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})

    for body in (b"{", b"[1]", b"null", b"[" * 100_000, b'{"model": "proxqa", "messages": NaN}', b"\xff\xfe"):
        answer = answer_to(body)
        assert answer.status_code == 400 and answer.json()["error"]["message"], body[:20]
    assert "the body is no JSON (Expecting value, character 0); expected an object" in answer_to(b"x").text
    said = answer_to(b"[1]").json()["error"]["message"]
    assert said.startswith("the body: Input should be a valid dictionary") and said.endswith("; a list came")
    answer = answer_to(json.dumps(odd))
    assert answer.status_code == 400 and "no image" in answer.json()["error"]["message"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = (("model",), ("messages",), ("messages", 0), ("messages", 0, "role"), ("messages", 0, "content"),
          ("messages", 0, "content", 0), ("messages", 0, "content", 0, "image_url"), ("proxqa", "objects"),
          ("messages", 0, "content", 0, "image_url", "url"), ("messages", 0, "content", 1, "text"), ("proxqa",),
          ("stream",), ("n",), ("max_tokens",), ("tools",), ("response_format",), ("proxqa", "objects", 0),
          ("proxqa", "objects", 0, "name"), ("proxqa", "objects", 0, "box"), ("temperature",))  # fmt: skip
"""Places in a request that something else is put into."""


@pytest.fixture(scope="module")
def asker() -> Iterator[Any]:
    """An HTTP client of a server without a limit of rate."""
    httpx = pytest.importorskip("httpx2", reason="httpx2 is not installed")
    from proxqa_core.serving.app import make_app
    from proxqa_core.serving.config import ServeConfig

    with (
        running(make_app(ServeConfig(requests_per_minute=0), HeldEngine())) as address,
        httpx.Client(base_url=address, headers={"Content-Type": "application/json"}, timeout=30) as client,
    ):
        yield client


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_comes_is_answered_or_refused(asker: Any, place: tuple[Any, ...], value: Any) -> None:
    known = {"objects": [{"name": "chair", "box": [1, 2, 30, 40]}]}
    body: Any = {"model": "proxqa", "messages": [message()], "proxqa": known}
    inner = body
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    answer = asker.post("/v1/chat/completions", content=json.dumps(body))
    assert answer.status_code in (200, 400, 403, 404), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]["message"] and "\n" not in answer.json()["error"]["message"]


def test_proxqa_compare_asks_it_as_any_server(serve: Callable[..., str]) -> None:
    from proxqa_core.comparison.answerers import OpenAIAnswerer
    from proxqa_core.comparison.questions import questions_of
    from proxqa_core.datasets.benchmarks import WhichCloser

    pair = WhichCloser("1", jpeg(), "A", names=("chair", "table"))
    answers = OpenAIAnswerer(f"{serve()}/v1", "proxqa").answer(list(questions_of([pair])))
    assert len(answers) == 2 and all(a.error == "" and a.text for a in answers), answers


def test_a_key_where_one_is_wanted(serve: Callable[..., str]) -> None:
    address = serve(api_key="sesame")
    with pytest.raises(openai.AuthenticationError):
        client(address).models.list()
    assert list(client(address, "sesame").models.list())


@pytest.mark.model
def test_the_real_model(serve: Callable[..., str], engine: Any, demo_frame: bytes) -> None:
    address = serve(engine=engine)
    done = ask(address, message("Which is closer, the chair or the sofa? A. chair B. sofa Answer with the letter.",
                                data_url(demo_frame)), model=engine.model_name)  # fmt: skip
    assert done.choices[0].message.content in ("A", "B", "A.", "B.")
    assert done.usage.prompt_tokens > engine.info()["image_tokens"]
    chunks = list(ask(address, message("How far is the chair?", data_url(demo_frame)), stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == ask(address, message("How far is the chair?", data_url(demo_frame))).choices[0].message.content
    assert "chair" in text
