"""The table of purposes, and a provider that keeps to it."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from support.provider import ScriptedProvider

from concierge.llm.metering import POLICIES, Policy, Purpose, UndeclaredPurpose, policy_of
from concierge.llm.openai_compatible import ChatCall, OpenAICompatibleProvider

MESSAGES = ({"role": "user", "content": "hello"},)


@pytest.fixture
def calling(provider: ScriptedProvider) -> Iterator[OpenAICompatibleProvider]:
    calling = OpenAICompatibleProvider(
        base_url=provider.base_url, api_key="k", connect_timeout_seconds=5, silence_timeout_seconds=30
    )
    yield calling
    calling.close()


def test_every_purpose_has_a_policy_and_nothing_else_has() -> None:
    assert set(POLICIES) == set(get_args(Purpose))
    assert set(POLICIES.values()) <= set(get_args(Policy))
    assert policy_of("answer") == "metered"


@pytest.mark.acceptance("M13")
@pytest.mark.parametrize("purpose", ["title", "", "Answer", None])
def test_an_undeclared_purpose_is_refused_before_anything_is_sent(
    provider: ScriptedProvider, calling: OpenAICompatibleProvider, purpose: Any
) -> None:
    before = len(provider.seen)
    with pytest.raises(UndeclaredPurpose):
        calling.stream_chat(ChatCall(purpose, "scripted", MESSAGES, 10))
    assert len(provider.seen) == before
    # The same call with a declared purpose goes out, and says what it is for.
    stream = calling.stream_chat(ChatCall("answer", "scripted", MESSAGES, 10))
    assert "".join(stream) == "Hello, world."
    stream.release()
    assert [seen.purpose for seen in provider.seen[before:]] == ["answer"]


def test_a_call_without_a_purpose_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        ChatCall(model="scripted", messages=MESSAGES, max_tokens=10)  # type: ignore[call-arg]


def test_a_list_of_models_says_that_it_is_free(provider: ScriptedProvider, calling: OpenAICompatibleProvider) -> None:
    before = len(provider.seen)
    assert calling.model_ids() == provider.offers
    (seen,) = provider.seen[before:]
    assert (seen.method, seen.purpose) == ("GET", "model-list")
    assert policy_of("model-list") == "free"
