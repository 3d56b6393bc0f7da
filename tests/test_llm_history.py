"""One form of messages, written as each dialect wants it, and sent back unchanged to who needs it so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from worker.llm import ChatRequest, Completion
from worker.llm.anthropic import AnthropicMessages
from worker.llm.chat import OpenAIChat
from worker.llm.connect import DIALECTS
from worker.llm.errors import BadRequest
from worker.llm.responses import OpenAIResponses

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
SCHEMA = {
    "type": "object",
    "properties": {"minimum": {"type": "integer", "minimum": 3}},
    "required": ["minimum"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
LOOP: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]
HOSTS = {
    "openai-chat": "api.openai.com",
    "openai-responses": "api.openai.com",
    "anthropic-messages": "api.anthropic.com",
}


def request(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    fields.setdefault("model", "m")
    return ChatRequest(messages=messages or LOOP, **fields)


def anthropic(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return AnthropicMessages().body(request(*messages, **fields), "api.anthropic.com")


def responses(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return OpenAIResponses().body(request(*messages, **fields), "api.openai.com")


def chat(*messages: dict[str, Any], host: str = "api.openai.com", **fields: Any) -> dict[str, Any]:
    return OpenAIChat().body(request(*messages, **fields), host)


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def read(dialect: str, events: list[dict[str, Any]], model: str = "m", host: str = "") -> Completion:
    """Return the message that a stream of events makes."""
    spoken = DIALECTS[dialect](None)  # type: ignore[index]
    reader = spoken.reader(ChatRequest(model=model, messages=[]), host or HOSTS[dialect])
    for event in events:
        reader.read("", json.dumps(event))
    return reader.completion()


def thinking(*blocks: dict[str, Any], stop: str = "tool_use") -> list[dict[str, Any]]:
    """Return an answer of Anthropic's that has these blocks."""
    starts = [
        {"type": "content_block_start", "index": number, "content_block": block}
        for number, block in enumerate(blocks)
    ]
    end = {"type": "message_delta", "delta": {"stop_reason": stop}}
    return [{"type": "message_start", "message": {}}, *starts, end, {"type": "message_stop"}]


SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "ZW5j"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
TEXT = {"type": "text", "text": "Looking."}
RESULT = {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}


class TestAnthropic:
    def test_has_the_systems_words_apart_and_results_with_the_user(self) -> None:
        body = anthropic(tools=[WEATHER, CLOCK], tool_choice="required", stop=["END"], temperature=1.5)
        assert body == {
            "model": "m",
            "max_tokens": 8192,
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Weather in Oslo?"}]},
                {"role": "assistant", "content": [{**USE, "id": "call_1"}]},
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "rain"}],
                },
            ],
            "stream": True,
            "temperature": 1.0,
            "tools": [
                {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
                {
                    "name": "weather",
                    "description": "Tells the weather",
                    "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index]
                },
            ],
            "tool_choice": {"type": "any"},
            "stop_sequences": ["END"],
        }

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            ("auto", {"type": "auto"}),
            ("none", {"type": "none"}),
            ({"type": "function", "function": {"name": "clock"}}, {"type": "tool", "name": "clock"}),
            (None, None),
        ],
    )
    def test_is_told_the_choice_of_tools(self, choice: Any, sent: Any) -> None:
        assert anthropic(tools=[CLOCK], tool_choice=choice).get("tool_choice") == sent
        assert "tool_choice" not in anthropic(tool_choice=choice)

    def test_gets_turns_that_alternate_and_no_empty_block(self) -> None:
        body = anthropic(
            user("a"),
            user(""),
            {"role": "system", "content": "Later."},
            {"role": "assistant", "content": ""},
            user(["b", {"type": "text", "text": ""}]),
            {"role": "assistant", "content": "c \n"},
        )
        assert body["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "Later.", "b")]},
            {"role": "assistant", "content": [{"type": "text", "text": "c"}]},
        ]

    def test_gets_pictures_in_its_own_form(self) -> None:
        parts = [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://h/p.png"}},
        ]
        assert anthropic(user(parts))["messages"][0]["content"] == [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "url", "url": "https://h/p.png"}},
        ]

    def test_gets_thoughts_back_unchanged_in_a_tool_loop(self) -> None:
        completion = read("anthropic-messages", thinking(SIGNED, REDACTED, TEXT, USE))
        message = completion.message()
        assert message["tool_calls"][0]["function"]["name"] == "weather"
        stored = json.loads(json.dumps(message))  # as a step keeps it
        body = anthropic(user("?"), stored, RESULT, extra={"thinking": {"type": "enabled"}})
        assert body["messages"][1]["content"] == [SIGNED, REDACTED, TEXT, USE]
        assert body["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"
        assert body["thinking"] == {"type": "enabled"}

    @pytest.mark.parametrize("other", [{"model": "n"}, {"host": "elsewhere.example"}])
    def test_is_sent_no_thoughts_of_another_and_does_not_think_on_in_its_loop(
        self, other: dict[str, str]
    ) -> None:
        message = read("anthropic-messages", thinking(SIGNED, TEXT, USE), **other).message()
        fields: dict[str, Any] = {"extra": {"thinking": {"type": "enabled"}}, "temperature": 0.5}
        body = anthropic(user("?"), message, RESULT, **fields)
        assert body["messages"][1]["content"] == [TEXT, USE]
        assert "thinking" not in body
        assert body["temperature"] == 0.5
        body = anthropic(user("?"), message, RESULT, user("And now?"), **fields)
        assert body["thinking"] == {"type": "enabled"}
        assert "temperature" not in body

    def test_is_sent_what_a_message_says_now_if_somebody_changed_it(self) -> None:
        message = read("anthropic-messages", thinking(SIGNED, TEXT, stop="end_turn")).message()
        message["content"] = "[removed]"
        assert anthropic(user("?"), message, user("!"))["messages"][1]["content"] == [
            {"type": "text", "text": "[removed]"}
        ]

    def test_without_thoughts_needs_nothing_sent_back_unchanged(self) -> None:
        assert read("anthropic-messages", thinking(TEXT, USE)).replay is None

    def test_that_paused_is_sent_its_turn_again(self) -> None:
        search = {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "x"}}
        found = {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []}
        completion = read("anthropic-messages", thinking(TEXT, search, found, stop="pause_turn"))
        assert completion.finish == "pause"
        assert completion.tool_calls == ()
        body = anthropic(user("?"), completion.message())
        assert body["messages"][1] == {"role": "assistant", "content": [TEXT, search, found]}

    def test_is_shown_arguments_that_are_no_json(self) -> None:
        events = thinking({"type": "tool_use", "id": "t", "name": "weather", "input": {}})
        piece = {"type": "input_json_delta", "partial_json": '{"city": Oslo'}
        events.insert(2, {"type": "content_block_delta", "index": 0, "delta": piece})
        message = read("anthropic-messages", events).message()
        assert message["tool_calls"][0]["function"]["arguments"] == '{"city": Oslo'
        for body in (anthropic(user("?"), message), chat(user("?"), message), responses(user("?"), message)):
            assert "INVALID_JSON" in json.dumps(body)
        sent = anthropic(user("?"), message)["messages"][1]["content"][0]
        assert sent["input"] == {"INVALID_JSON": '{"city": Oslo'}

    def test_is_asked_for_a_schema_without_the_words_that_it_refuses(self) -> None:
        body = anthropic(response_format=FORMAT, model="claude-sonnet-4-5")
        assert body["output_config"]["format"] == {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"minimum": {"type": "integer"}},
                "required": ["minimum"],
                "additionalProperties": False,
            },
        }
        assert "tools" not in body

    @pytest.mark.parametrize(
        "model", ["claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-opus-4-0"]
    )
    def test_answers_by_a_tool_where_it_knows_no_schema(self, model: str) -> None:
        body = anthropic(response_format=FORMAT, model=model)
        assert body["tool_choice"] == {"type": "tool", "name": "reply"}
        assert body["tools"][0]["input_schema"] == SCHEMA
        assert anthropic(response_format=FORMAT, model=model, tools=[CLOCK])["tool_choice"] == {"type": "any"}
        asked = request(response_format=FORMAT, model=model)
        reader = AnthropicMessages().reader(asked, "h")
        use = {"type": "tool_use", "id": "t", "name": "reply", "input": {}}
        piece = {"type": "input_json_delta", "partial_json": '{"minimum": 3}'}
        events = thinking(use)
        events.insert(2, {"type": "content_block_delta", "index": 0, "delta": piece})
        for event in events:
            reader.read("", json.dumps(event))
        completion = reader.completion()
        assert (completion.text, completion.finish, completion.tool_calls) == ('{"minimum": 3}', "stop", ())
        assert completion.message() == {"role": "assistant", "content": '{"minimum": 3}'}

    def test_is_told_where_to_cut_the_cache(self) -> None:
        cached = {"type": "ephemeral"}
        body = anthropic(cache_key="k")
        assert body["system"][-1]["cache_control"] == cached
        assert body["messages"][-1]["content"][-1]["cache_control"] == cached
        assert json.dumps(body).count("cache_control") == 2
        assert "cache_control" not in json.dumps(anthropic())
        marked = [user(str(number), cache=True) for number in range(9)]
        body = anthropic(LOOP[0], *marked, cache_key="k")
        sent = [block["text"] for block in body["messages"][0]["content"] if "cache_control" in block]
        assert sent == ["6", "7", "8"]
        assert json.dumps(body).count("cache_control") == 4  # as many as the API takes
        assert "cache" not in json.dumps(LOOP)

    def test_carries_its_key_and_version(self) -> None:
        assert AnthropicMessages().headers("k") == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
        assert AnthropicMessages().headers(None) == {"anthropic-version": "2023-06-01"}


class TestResponses:
    def test_is_given_items_and_keeps_none(self) -> None:
        body = responses(tools=[WEATHER, CLOCK], tool_choice="auto", max_output_tokens=9, cache_key="k")
        assert body == {
            "model": "m",
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather in Oslo?"},
                {
                    "type": "function_call",
                    "call_id": "call_1",
                    "name": "weather",
                    "arguments": '{"city": "Oslo"}',
                },
                {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
            ],
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "max_output_tokens": 9,
            "tools": [
                {
                    "type": "function",
                    "name": "clock",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": False,
                },
                {"type": "function", **WEATHER["function"], "strict": False},  # type: ignore[dict-item]
            ],
            "tool_choice": "auto",
            "prompt_cache_key": "k",
        }

    def test_is_asked_for_thoughts_only_where_there_are_any(self) -> None:
        for model in ("gpt-4.1", "gpt-4o-mini", "gpt-5-chat-latest", "ft:gpt-4o/x"):
            assert ("include" in responses(model=model)) is (model == "ft:gpt-4o/x")
        assert "include" not in responses(extra={"include": None})

    def test_is_asked_for_a_schema(self) -> None:
        assert responses(response_format=FORMAT)["text"] == {
            "format": {"type": "json_schema", "name": "reply", "schema": SCHEMA}
        }
        choice = {"type": "function", "function": {"name": "clock"}}
        assert responses(tools=[CLOCK], tool_choice=choice)["tool_choice"] == {
            "type": "function",
            "name": "clock",
        }

    def test_gets_its_encrypted_thoughts_back_in_their_place(self) -> None:
        thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ZW5j"}
        lost = {"type": "reasoning", "id": "rs_2", "summary": []}
        called = {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_9",
            "name": "weather",
            "arguments": "{}",
        }
        events: list[dict[str, Any]] = [
            {"type": "response.output_item.done", "output_index": number, "item": item}
            for number, item in enumerate([thought, lost, called])
        ]
        events.append({"type": "response.completed", "response": {"status": "completed"}})
        message = json.loads(json.dumps(read("openai-responses", events).message()))
        result = {"role": "tool", "tool_call_id": "call_9", "content": "rain"}
        assert responses(user("?"), message, result)["input"][1:] == [
            thought,  # the other cannot be found again: nothing was stored, and it holds nothing
            called,
            {"type": "function_call_output", "call_id": "call_9", "output": "rain"},
        ]
        other = responses(user("?"), message, result, model="n")["input"][1:]
        assert [item["type"] for item in other] == ["function_call", "function_call_output"]
        assert "replay" not in json.dumps(chat(user("?"), message, result))

    def test_keeps_the_phase_of_what_was_said(self) -> None:
        said = {"type": "message", "phase": "commentary", "content": [{"type": "output_text", "text": "Hm."}]}
        events: list[dict[str, Any]] = [
            {"type": "response.output_item.done", "output_index": 0, "item": said},
            {"type": "response.completed", "response": {"status": "completed"}},
        ]
        message = read("openai-responses", events).message()
        assert responses(user("?"), message, user("!"))["input"][1] == said

    def test_gets_pictures_in_its_own_form(self) -> None:
        parts = [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "https://h/p.png"}},
        ]
        assert responses(user(parts))["input"][0]["content"] == [
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": "https://h/p.png"},
        ]

    def test_knows_no_stop_sequences(self) -> None:
        with pytest.raises(BadRequest, match="no stop sequences"):
            responses(stop=["END"])


class TestChat:
    def test_is_sent_only_what_the_provider_knows(self) -> None:
        replay = {"dialect": "anthropic-messages", "blocks": []}
        said = {"role": "assistant", "content": None, "refusal": "No.", "replay": replay, "cache": True}
        asked = (
            {"role": "developer", "content": "x"},
            user("?", cache=True),
            said,
        )
        assert chat(*asked, cache_key="k")["messages"] == [
            {"role": "developer", "content": "x"},
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": None, "refusal": "No."},
        ]
        elsewhere = chat(*asked, cache_key="k", host="api.groq.com", max_output_tokens=3)
        assert elsewhere["messages"] == [
            {"role": "system", "content": "x"},
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "No."},
        ]
        assert "prompt_cache_key" not in elsewhere
        assert elsewhere["max_tokens"] == 3
        assert chat(cache_key="k")["prompt_cache_key"] == "k"
        assert chat(host="r.openai.azure.com", max_output_tokens=3)["max_completion_tokens"] == 3

    def test_tells_a_schema_in_words_where_none_is_taken(self) -> None:
        body = chat(response_format=FORMAT, host="api.deepseek.com")
        assert body["response_format"] == {"type": "json_object"}
        assert json.dumps(SCHEMA) in body["messages"][-1]["content"]
        assert chat(response_format=FORMAT)["response_format"] == FORMAT

    def test_of_mistral_has_its_own_ids_and_counts_unasked(self) -> None:
        body = chat(host="api.mistral.ai")
        sent = body["messages"][2]["tool_calls"][0]["id"]
        assert re.fullmatch(r"[A-Za-z0-9]{9}", sent)
        assert body["messages"][3]["tool_call_id"] == sent
        assert body == chat(host="api.mistral.ai")  # the same in each turn, for the cache's sake
        assert "stream_options" not in body

    @pytest.mark.parametrize(
        ("host", "delta", "sent_back"),
        [
            ("api.deepseek.com", {"reasoning_content": "hm"}, {"reasoning_content": "hm"}),
            ("api.groq.com", {"reasoning_content": "hm"}, {}),
            (
                "openrouter.ai",
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 0}]},
            ),
        ],
    )
    def test_gets_thoughts_back_where_it_wants_them(
        self, host: str, delta: dict[str, Any], sent_back: dict[str, Any]
    ) -> None:
        call = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": "{}"}}
        events = [
            {"choices": [{"index": 0, "delta": delta}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]},
        ]
        message = read("openai-chat", events, host=host).message()
        sent = chat(user("?"), message, host=host)["messages"][1]
        assert {name: sent[name] for name in sent if name.startswith("reasoning")} == sent_back
        other = chat(user("?"), message, host=host, model="n")["messages"][1]
        assert not [name for name in other if name.startswith("reasoning")]

    def test_of_openrouter_joins_pieces_of_thoughts(self) -> None:
        pieces: list[dict[str, Any]] = [
            {"type": "reasoning.text", "index": 0, "text": "Th"},
            {"type": "reasoning.text", "index": 0, "text": "ink", "signature": None},
            {"type": "reasoning.text", "index": 0, "signature": "c2ln"},
            {"type": "reasoning.text", "index": 1, "text": "More"},
        ]
        events: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"reasoning_details": [piece]}}]} for piece in pieces
        ]
        events.append({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]})
        replay = read("openai-chat", events, host="openrouter.ai").replay
        assert replay is not None
        assert replay["fields"]["reasoning_details"] == [
            {"type": "reasoning.text", "index": 0, "text": "Think", "signature": "c2ln"},
            {"type": "reasoning.text", "index": 1, "text": "More"},
        ]

    def test_of_gemini_gets_the_signature_of_each_call_back(self) -> None:
        host, signed = "generativelanguage.googleapis.com", {"google": {"thought_signature": "c2ln"}}
        calls = [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": signed},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ]
        events = [{"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}]
        message = read("openai-chat", events, host=host).message()
        sent = chat(user("?"), message, host=host)["messages"][1]["tool_calls"]
        assert [call.get("extra_content") for call in sent] == [signed, None]
        assert "extra_content" not in json.dumps(chat(user("?"), message))


@pytest.mark.parametrize("dialect", DIALECTS)
class TestEveryDialect:
    def body(self, dialect: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
        spoken = DIALECTS[dialect](None)  # type: ignore[index]
        return spoken.body(request(*messages, **fields), HOSTS[dialect])

    def test_sends_tools_in_the_same_order_each_time(self, dialect: str) -> None:
        first, second = (self.body(dialect, tools=tools) for tools in ([WEATHER, CLOCK], [CLOCK, WEATHER]))
        assert json.dumps(first) == json.dumps(second)

    def test_gives_a_call_an_id_of_its_own(self, dialect: str) -> None:
        odd = "an id with spaces, which is far too long for anybody" * 2
        history = [user("?")]
        for given in ("call_0", "call_0", odd):
            call = {**CALL, "id": given}
            history.append({"role": "assistant", "content": None, "tool_calls": [call]})
            history.append({"role": "tool", "tool_call_id": given, "content": "rain"})
        text = json.dumps(self.body(dialect, *history))
        ids = re.findall(r'"(?:call_id|tool_use_id|tool_call_id|id)": "([^"]*)"', text)
        assert len(ids) == 6
        assert len(set(ids)) == 3  # each call and its result
        assert all(ids.count(each) == 2 for each in ids)
        assert "spaces" not in text

    def test_takes_a_providers_own_fields_and_leaves_out_what_is_none(self, dialect: str) -> None:
        body = self.body(dialect, extra={"stream": None, "service_tier": "flex"})
        assert "stream" not in body
        assert body["service_tier"] == "flex"

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"tools": [{"name": "x"}]}, r'tools\[0\] must be \{"type": "function"'),
            ({"tools": [CLOCK, CLOCK]}, r"tools\[1\] has the name 'clock' of another tool"),
            ({"tools": [{"type": "function"}]}, r"tools\[0\] needs a function.name of 1 to 64 letters"),
            (
                {"tools": [{"type": "function", "function": {"name": "a b"}}]},
                r"tools\[0\] needs a function.name .* not 'a b'",
            ),
            (
                {"tools": [{"type": "function", "function": {"name": "a" * 65}}]},
                r"tools\[0\] needs a function.name",
            ),
            (
                {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
                r'tools\[0\] \(a\): function.parameters must be a JSON schema of "type": "object"',
            ),
            (
                {
                    "tools": [
                        {
                            "type": "function",
                            "function": {"name": "a", "parameters": {"type": "object", "properties": []}},
                        }
                    ]
                },
                r"tools\[0\] \(a\): function.parameters.properties must be an object",
            ),
            (
                {
                    "tools": [
                        {
                            "type": "function",
                            "function": {"name": "a", "parameters": {"type": "object", "required": "x"}},
                        }
                    ]
                },
                r"tools\[0\] \(a\): function.parameters.required must be a list",
            ),
        ],
    )
    def test_refuses_a_malformed_tool_with_its_place(
        self, dialect: str, fields: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(BadRequest, match=says):
            self.body(dialect, **fields)

    def test_takes_a_name_of_64_letters(self, dialect: str) -> None:
        self.body(dialect, tools=[{"type": "function", "function": {"name": "a" * 64}}])

    def test_refuses_a_message_without_a_role(self, dialect: str) -> None:
        with pytest.raises(BadRequest, match=r"messages\[1\] needs a role: assistant, developer"):
            self.body(dialect, user("x"), {"content": "y"})
