"""Chat completions through the unmodified openai client."""

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from support.waiting import eventually

from emulator.faults import Fault
from emulator.models import tokenizer

SMALL = "concierge-offline-small"
ASK: list[Any] = [{"role": "user", "content": "How does a lighthouse work?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
SEARCH: dict[str, Any] = {"type": "function", "function": {"name": "search"}}


def test_an_answer_says_what_it_is_and_what_it_understood(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=SMALL, messages=ASK)
    (choice,) = completion.choices
    text = choice.message.content
    assert text is not None
    assert "offline model of the embedded Firebase" in text
    assert "not a language model" in text
    assert "How does a lighthouse work?" in text
    assert choice.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == tokenizer.count(text)
    assert 40 <= completion.usage.completion_tokens <= 120
    assert completion.usage.prompt_tokens == tokenizer.count_messages(ASK)
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_the_same_request_gets_the_same_answer_streamed_or_not(client: openai.OpenAI) -> None:
    answers = [client.chat.completions.create(model=SMALL, messages=ASK) for _ in range(2)]
    assert answers[0].choices == answers[1].choices
    assert answers[0].id != answers[1].id
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=SMALL, messages=ASK, stream=True, stream_options=options))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == answers[0].choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage == answers[0].usage
    assert answers[0].usage is not None
    assert len(pieces) == answers[0].usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_usage_is_streamed_only_where_it_was_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=SMALL, messages=ASK, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_another_temperature_or_model_is_another_request(client: openai.OpenAI) -> None:
    texts = {
        client.chat.completions.create(model=SMALL, messages=ASK, temperature=step / 10).choices[0].message.content
        for step in range(20)
    }
    assert len(texts) > 1


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_is_obeyed(client: openai.OpenAI, limit: str) -> None:
    completion = client.chat.completions.create(model=SMALL, messages=ASK, **{limit: 7})
    whole = client.chat.completions.create(model=SMALL, messages=ASK, **{limit: 5000})
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 7
    assert whole.choices[0].finish_reason == "stop"
    exact = whole.usage.completion_tokens if whole.usage else 0
    assert (
        client.chat.completions.create(model=SMALL, messages=ASK, max_tokens=exact).choices[0].finish_reason == "stop"
    )


def test_a_stop_sequence_ends_the_text_before_it(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=SMALL, messages=ASK, stop=["nowhere in it", "language"])
    text = completion.choices[0].message.content
    assert text is not None
    assert text.endswith("it is not a ")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == tokenizer.count(text)


@pytest.mark.parametrize(("question", "words"), [("write 400 words", 400), ("A 60-word text please", 60)])
def test_a_number_of_words_is_written(client: openai.OpenAI, question: str, words: int) -> None:
    messages: Any = [{"role": "user", "content": question}]
    text = client.chat.completions.create(model=SMALL, messages=messages).choices[0].message.content
    assert text is not None
    assert len(text.split()) == words


def test_it_tells_turns_and_images(client: openai.OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages: Any = [
        {"role": "system", "content": "Be kind."},
        *ASK,
        {"role": "assistant", "content": "With light."},
        {"role": "user", "content": [{"type": "text", "text": "And this one?"}, image]},
    ]
    completion = client.chat.completions.create(model=SMALL, messages=messages)
    text = completion.choices[0].message.content
    assert text is not None
    assert "“And this one?”" in text
    assert "turn 2" in text
    assert "1 image," in text
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 85


def test_a_tool_that_the_question_names_is_called(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": 'Use get_weather for "Oslo" in celsius, 30 days'}]
    completion = client.chat.completions.create(model=SMALL, messages=messages, tools=[SEARCH, WEATHER])
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo", "unit": "celsius", "days": 7}
    result = {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}
    messages += [choice.message.model_dump(exclude_none=True), result]
    final = client.chat.completions.create(model=SMALL, messages=messages, tools=[SEARCH, WEATHER])
    assert final.choices[0].finish_reason == "stop"
    assert "“12 degrees”" in (final.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("choice", "question", "called"),
    [
        ("auto", "hello", []),
        ("none", "call get_weather", []),
        ("required", "hello", ["get_weather"]),
        ("required", "search it", ["search"]),
        ({"type": "function", "function": {"name": "search"}}, "call get_weather", ["search"]),
        ("auto", "get weather, then search", ["get_weather", "search"]),
        ("auto", "research", []),
    ],
)
def test_tool_choice(client: openai.OpenAI, choice: Any, question: str, called: list[str]) -> None:
    messages: Any = [{"role": "user", "content": question}]
    completion = client.chat.completions.create(
        model=SMALL, messages=messages, tools=[WEATHER, SEARCH], tool_choice=choice
    )
    calls: Any = completion.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == called


def test_tool_calls_are_streamed_in_pieces(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": 'get_weather in "Oslo" and search'}]
    request: dict[str, Any] = {"model": SMALL, "messages": messages, "tools": [WEATHER, SEARCH]}
    whole = client.chat.completions.create(**request)
    expected: Any = whole.choices[0].message.tool_calls
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    pieces = 0
    for chunk in client.chat.completions.create(**request, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            if delta.id:
                names[delta.index] = delta.function.name or ""
                assert delta.id == expected[delta.index].id
            arguments[delta.index] = arguments.get(delta.index, "") + (delta.function.arguments or "")
            pieces += 1
        finish_reason = chunk.choices[0].finish_reason
    assert names == {0: "get_weather", 1: "search"}
    assert [arguments[index] for index in (0, 1)] == [call.function.arguments for call in expected]
    assert finish_reason == "tool_calls"
    assert pieces > 6
    one = client.chat.completions.create(**request, parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls or []) == 1


def test_tool_calls_obey_the_token_limit(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=SMALL, messages=ASK, tools=[WEATHER], tool_choice="required", max_tokens=6
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 6


def test_json_is_valid_json(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=SMALL, messages=ASK, response_format={"type": "json_object"})
    value = json.loads(completion.choices[0].message.content or "")
    assert value["offline"] is True
    assert value["question"] == "How does a lighthouse work?"


class Step(BaseModel):
    title: str
    minutes: int


class Plan(BaseModel):
    steps: list[Step]
    confidence: float
    done: bool
    note: str | None


def test_a_json_schema_is_followed(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(model=SMALL, messages=ASK, response_format=Plan)
    plan = completion.choices[0].message.parsed
    assert isinstance(plan, Plan)
    assert len(plan.steps) == 1


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": "gpt-9"}, 404, "model", "model_not_found"),
        ({"model": "concierge-offline-embed"}, 400, "model", None),
        ({"messages": []}, 400, "messages", None),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages[0].role", None),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content", None),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0].tool_call_id", None),
        ({"messages": [{"role": "user", "content": "word " * 40_000}]}, 400, "messages", "context_length_exceeded"),
        ({"n": 2}, 400, "n", None),
        ({"temperature": 3}, 400, "temperature", None),
        ({"max_tokens": 0}, 400, "max_tokens", None),
        ({"max_completion_tokens": -1}, 400, "max_completion_tokens", None),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop", None),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", None),
        ({"tools": [{"type": "function"}]}, 400, "tools[0]", None),
        ({"tool_choice": "required"}, 400, "tool_choice", None),
        ({"response_format": {"type": "xml"}}, 400, "response_format", None),
    ],
)
def test_bad_requests_get_typed_errors(
    models: Any, client: openai.OpenAI, change: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": SMALL, "messages": ASK, **change})
    error = caught.value
    assert (error.status_code, error.param, error.code) == (status, param, code)
    assert error.type == "invalid_request_error"
    assert models.server.statistics.calls == 0


def test_a_broken_schema_is_the_callers_fault(client: openai.OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}},
    }
    tool["function"]["parameters"]["properties"]["x"] = {"type": "integer", "minimum": "low"}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=SMALL, messages=ASK, tools=[tool], tool_choice="required")


@pytest.mark.parametrize("authorization", ["Basic abc", "Bearer", "abc"])
def test_a_key_is_needed(client: openai.OpenAI, authorization: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=SMALL, messages=ASK, extra_headers={"Authorization": authorization})
    assert caught.value.code == "invalid_api_key"


def test_a_client_that_goes_away_stops_the_generation(models: Any, client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "write 20000 words"}]
    stream = client.chat.completions.create(
        model=SMALL, messages=messages, stream=True, extra_headers={"x-offline-token-interval-ms": "2"}
    )
    for _ in range(5):
        next(stream)
    stream.close()
    eventually(lambda: models.server.statistics.aborted == 1)
    generated = models.server.statistics.tokens
    assert generated < 15_000
    client.chat.completions.create(model=SMALL, messages=ASK, max_tokens=3)
    assert models.server.statistics.tokens == generated + 3


def test_a_client_that_gives_up_waiting_stops_the_generation_too(models: Any, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(
            model=SMALL, messages=ASK, timeout=0.2, extra_headers={"x-offline-token-interval-ms": "60000"}
        )
    eventually(lambda: models.server.statistics.aborted == 1)
    assert models.server.statistics.tokens == 0


def test_tokens_are_paced(models: Any, client: openai.OpenAI) -> None:
    """Tokens leave one by one: while the client has seen the first ones, the last ones do not exist yet."""
    stream = client.chat.completions.create(
        model=SMALL, messages=ASK, stream=True, extra_headers={"x-offline-token-interval-ms": "20"}
    )
    next(stream)
    next(stream)
    seen = models.server.statistics.tokens
    total = 1 + sum(bool(chunk.choices[0].delta.content) for chunk in stream)
    assert 1 <= seen < total
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=SMALL, messages=ASK, extra_headers={"x-offline-token-interval-ms": "soon"})


def test_statistics_count_what_was_done(models: Any, client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=SMALL, messages=ASK)
    list(client.chat.completions.create(model=SMALL, messages=ASK, stream=True))
    client.embeddings.create(model="concierge-offline-embed", input="hello")
    assert completion.usage is not None
    assert models.server.statistics.as_json() == {
        "calls": 3,
        "callsByEndpoint": {"chat": 2, "embeddings": 1},
        "promptTokens": 2 * completion.usage.prompt_tokens + 1,
        "tokens": 2 * completion.usage.completion_tokens,
        "aborted": 0,
    }


def test_fault_error_refuses_once(models: Any, client: openai.OpenAI) -> None:
    models.faults.add(Fault("models.chat", "error"))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=SMALL, messages=ASK)
    assert models.server.statistics.calls == 0
    assert client.chat.completions.create(model=SMALL, messages=ASK).choices


def test_fault_drop_cuts_the_stream_after_a_few_tokens(models: Any, client: openai.OpenAI) -> None:
    models.faults.add(Fault("models.chat", "drop", count=2))
    pieces = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in client.chat.completions.create(model=SMALL, messages=ASK, stream=True):
            pieces.append(chunk.choices[0].delta.content or "")
    assert tokenizer.count("".join(pieces)) == 5
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model=SMALL, messages=ASK)
    assert client.chat.completions.create(model=SMALL, messages=ASK).choices
    assert models.server.statistics.aborted == 0


def test_fault_error_after_comes_when_the_work_is_done(models: Any, client: openai.OpenAI) -> None:
    models.faults.add(Fault("models.chat", "error_after", count=2))
    pieces = []
    with pytest.raises(openai.APIError, match="as a test asked for"):
        for chunk in client.chat.completions.create(model=SMALL, messages=ASK, stream=True):
            pieces.append(chunk.choices[0].delta.content or "")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=SMALL, messages=ASK)
    assert models.server.statistics.tokens == 2 * tokenizer.count("".join(pieces)) > 0


def test_fault_delay_holds_the_answer_back(models: Any, client: openai.OpenAI) -> None:
    models.faults.add(Fault("models.chat", "delay", delay_ms=600_000))
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model=SMALL, messages=ASK, timeout=0.2)
    models.faults.add(Fault("models.chat", "delay", delay_ms=1))
    assert client.chat.completions.create(model=SMALL, messages=ASK).choices
