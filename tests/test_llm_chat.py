"""Chat completions as servers really send them come out in the common form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.llm import ChatRequest, Completion, ReasoningDelta, TextDelta, ToolCallDelta
from worker.llm.chat import ChatReader, OpenAIChat
from worker.llm.errors import (
    ContentFiltered,
    Overloaded,
    RateLimited,
    ServerError,
    StreamProtocolError,
    StreamTruncated,
)
from worker.llm.messages import Delta, TokenUsage


def chunk(delta: Any = None, finish: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice], **fields}


def tool(index: int | None = 0, **fields: Any) -> dict[str, Any]:
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return {"tool_calls": [({} if index is None else {"index": index}) | fields | {"function": function}]}


def read(*chunks: dict[str, Any]) -> tuple[list[Delta], Completion]:
    reader = ChatReader()
    deltas = [delta for one in chunks for delta in reader.read("", json.dumps(one))]
    return deltas, reader.completion()


def calls(*deltas: dict[str, Any], finish: str = "tool_calls") -> list[tuple[str, str, Any, Any]]:
    _, completion = read(*(chunk(delta) for delta in deltas), chunk(finish=finish))
    return [(call.id, call.name, call.arguments, call.arguments_raw) for call in completion.tool_calls]


class TestUsage:
    def test_running_counts_are_replaced_and_a_later_null_does_not_undo_them(self) -> None:
        _, completion = read(
            chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1}),
            chunk({"content": "b"}, usage={"prompt_tokens": 5, "completion_tokens": 2}),
            chunk(finish="stop", usage=None),
        )
        assert completion.usage == TokenUsage(5, 2)

    @pytest.mark.parametrize(
        "usage",
        [None, {}, "5", [], {"prompt_tokens": "5"}, {"prompt_tokens": -1}, {"completion_tokens": True}],
    )
    def test_that_tells_nothing_is_none_and_never_zero(self, usage: Any) -> None:
        assert read(chunk({"content": "a"}, "stop", usage=usage))[1].usage is None

    def test_may_come_under_groqs_own_name(self) -> None:
        groq = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
        assert read(chunk({"content": "a"}, "stop", x_groq=groq))[1].usage == TokenUsage(3, 4)

    @pytest.mark.parametrize(
        ("parts", "usage"),
        [
            ({"prompt_tokens_details": None}, TokenUsage(9, None)),
            (
                {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}},
                TokenUsage(9, None, 4, 2),
            ),
            ({"prompt_cache_hit_tokens": 7}, TokenUsage(9, None, 7)),
            (
                {"completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 6}},
                TokenUsage(9, 8, 0, 0, 6),
            ),
        ],
    )
    def test_keeps_its_parts(self, parts: dict[str, Any], usage: TokenUsage) -> None:
        assert read(chunk(finish="stop", usage={"prompt_tokens": 9, **parts}))[1].usage == usage


class TestToolCalls:
    def test_a_new_id_on_a_used_index_begins_a_new_call(self) -> None:
        assert calls(
            tool(id="a", name="f", arguments="{}"),
            tool(id="b", name="g", arguments='{"x":'),
            tool(arguments="1}"),
        ) == [("a", "f", {}, None), ("b", "g", {"x": 1}, None)]

    def test_repeated_names_and_ids_empty_ids_and_null_arguments_add_nothing(self) -> None:
        assert calls(
            tool(id="a", name="f", arguments=None),
            tool(id="a", name="f", arguments='{"x"'),
            tool(id="", name=None, arguments=":2}"),
            tool(id=None, name="", arguments=None),
        ) == [("a", "f", {"x": 2}, None)]

    def test_indexes_may_skip_and_pieces_may_interleave(self) -> None:
        assert calls(
            tool(3, id="a", name="f", arguments="{"),
            tool(7, id="b", name="g", arguments="{"),
            tool(3, arguments="}"),
            tool(7, arguments="}"),
        ) == [("a", "f", {}, None), ("b", "g", {}, None)]

    def test_without_indexes_each_new_id_or_name_begins_a_call(self) -> None:
        assert calls(
            tool(None, id="a", name="f", arguments='{"x":1}'),
            tool(None, id="b", name="f", arguments='{"x":2'),
            tool(None, arguments="}"),
            tool(None, name="g", arguments="{}"),
        ) == [("a", "f", {"x": 1}, None), ("b", "f", {"x": 2}, None), ("call_2", "g", {}, None)]

    def test_an_id_that_comes_late_belongs_to_the_call(self) -> None:
        assert calls(tool(name="f", arguments=""), tool(id="a", arguments="{}")) == [("a", "f", {}, None)]

    def test_arguments_may_be_missing_or_an_object_already(self) -> None:
        assert calls(tool(id="a", name="f"), tool(1, id="b", name="g", arguments={"x": [1]})) == [
            ("a", "f", {}, None),
            ("b", "g", {"x": [1]}, None),
        ]

    @pytest.mark.parametrize("raw", ['{"x":', "[1]", '"text"', "None", "{'x': 1}", "[" * 100_000])
    def test_bad_arguments_are_handed_on_as_they_came(self, raw: str) -> None:
        assert calls(tool(id="a", name="f", arguments=raw)) == [("a", "f", None, raw)]

    @pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
    def test_with_calls_present_the_finish_is_tool_calls(self, finish: str) -> None:
        assert len(calls(tool(id="a", name="f"), finish=finish)) == 1

    @pytest.mark.parametrize("finish", ["length", "content_filter", "something_new"])
    def test_a_message_cut_short_hands_on_no_calls(self, finish: str) -> None:
        assert calls(tool(id="a", name="f", arguments='{"half":'), finish=finish) == []

    def test_the_old_function_call_is_a_tool_call(self) -> None:
        assert calls(
            {"function_call": {"name": "f", "arguments": '{"x":'}},
            {"function_call": {"arguments": "1}"}},
            finish="function_call",
        ) == [("call_0", "f", {"x": 1}, None)]

    def test_deltas_tell_the_call_they_belong_to(self) -> None:
        deltas, _ = read(
            chunk(tool(5, id="a", name="f", arguments="")),
            chunk(tool(5, arguments="{}")),
            chunk(tool(5, arguments=None)),
            chunk(finish="tool_calls"),
        )
        assert deltas == [ToolCallDelta(0, "f", ""), ToolCallDelta(0, "f", "{}")]

    def test_shapes_that_are_no_calls_are_skipped(self) -> None:
        assert calls({"tool_calls": [None, "f", 5]}, {"tool_calls": 5}, {"tool_calls": [{"index": [1]}]}) == [
            ("call_0", "", {}, None)
        ]


class TestFinish:
    @pytest.mark.parametrize(
        ("raw", "finish"),
        [
            ("stop", "stop"),
            ("length", "length"),
            ("content_filter", "content_filter"),
            ("tool_calls", "stop"),
            ("eos", "unknown"),
        ],
    )
    def test_has_a_common_form(self, raw: str, finish: str) -> None:
        _, completion = read(chunk({"content": "a"}), chunk(finish=raw))
        assert (completion.finish, completion.raw_finish) == (finish, raw)

    def test_is_the_first_one_that_came(self) -> None:
        assert read(chunk(finish="length"), chunk(finish=None), chunk(finish="stop"))[1].finish == "length"

    def test_missing_means_truncated_also_behind_done(self) -> None:
        reader = ChatReader()
        reader.read("", json.dumps(chunk({"content": "a"}, "")))
        reader.read("", "[DONE]")
        assert reader.ended
        with pytest.raises(StreamTruncated, match="no finish_reason"):
            reader.completion()

    def test_of_lacking_resources_is_an_overload(self) -> None:
        with pytest.raises(Overloaded):
            read(chunk(finish="insufficient_system_resource"))


class TestContent:
    def test_only_the_first_choice_counts(self) -> None:
        both = chunk()
        both["choices"] = [
            {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"},
            {"index": 0, "delta": {"content": "a"}},
        ]
        assert read(both, chunk(finish="stop"))[1].text == "a"

    def test_reasoning_has_two_spellings_and_counts_once(self) -> None:
        deltas, completion = read(
            chunk({"reasoning": "a"}),
            chunk({"reasoning_content": "b", "reasoning": "b"}),
            chunk({"content": "c"}, "stop"),
        )
        assert deltas == [ReasoningDelta("a"), ReasoningDelta("b"), TextDelta("c")]
        assert (completion.reasoning, completion.text) == ("ab", "c")

    def test_typed_parts_are_told_apart(self) -> None:
        parts = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "hi"},
            {"type": "image"},
            5,
        ]
        assert read(chunk({"content": parts}, "stop"))[0] == [ReasoningDelta("hm"), TextDelta("hi")]

    @pytest.mark.parametrize(
        "delta", [None, [], "text", 5, {"content": 5}, {"content": {}}, {"reasoning": 5}, {"refusal": []}]
    )
    def test_unknown_shapes_are_skipped(self, delta: Any) -> None:
        odd = chunk(finish="stop")
        odd["choices"][0]["delta"] = delta
        odd["choices"].append("odd")
        assert read(odd)[0] == []

    @pytest.mark.parametrize("choices", [None, 5, "stop", {}])
    def test_choices_that_are_no_list_are_none(self, choices: Any) -> None:
        assert read({"choices": choices}, chunk(finish="stop"))[0] == []

    def test_the_model_is_the_last_one_named(self) -> None:
        assert read(chunk(model="m-2024"), chunk(finish="stop", model=""))[1].model == "m-2024"


class TestErrors:
    @pytest.mark.parametrize(
        ("data", "kind", "code"),
        [
            ({"error": {"code": 502, "message": "gone"}}, ServerError, "502"),
            ({"error": {"code": 429, "message": "slow"}}, RateLimited, "429"),
            ({"error": "out of memory"}, ServerError, None),
            ({"object": "error", "message": "busy", "code": 503}, ServerError, "503"),
            (
                {"choices": [{"index": 0, "error": {"code": "content_filter", "message": "no"}}]},
                ContentFiltered,
                "content_filter",
            ),
            (chunk(finish="error"), ServerError, "error"),
        ],
    )
    def test_inside_a_stream_are_classed_like_a_status(
        self, data: Any, kind: type[Exception], code: str | None
    ) -> None:
        with pytest.raises(kind) as caught:
            ChatReader().read("", json.dumps(data))
        assert caught.value.provider_code == code  # type: ignore[attr-defined]

    def test_may_come_as_an_event_of_that_name_in_json_or_not(self) -> None:
        with pytest.raises(RateLimited):
            ChatReader().read("error", '{"message": "slow", "code": "rate_limit_exceeded"}')
        with pytest.raises(ServerError, match="worker died"):
            ChatReader().read("error", "worker died")

    def test_a_null_error_is_none(self) -> None:
        assert read(chunk({"content": "a"}, "stop", error=None))[1].text == "a"

    @pytest.mark.parametrize("data", ["{", "nonsense", "[]", "5", '"text"', "[" * 100_000, "1" * 5000])
    def test_an_event_that_cannot_be_read_stops_the_stream(self, data: str) -> None:
        with pytest.raises(StreamProtocolError):
            ChatReader().read("", data)

    @pytest.mark.parametrize("data", ["", "  ", "\n"])
    def test_an_empty_event_is_none(self, data: str) -> None:
        assert ChatReader().read("", data) == []


class TestWholeAnswers:
    def test_are_read_like_one_chunk(self) -> None:
        call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        message = {"role": "assistant", "content": "hi", "tool_calls": [call, {**call, "id": "b"}]}
        reader = ChatReader()
        deltas = reader.read_whole(
            {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        )
        assert deltas[0] == TextDelta("hi")
        assert [call.id for call in reader.completion().tool_calls] == ["a", "b"]

    @pytest.mark.parametrize(
        "value", [{"error": {"message": "slow", "code": 429}}, [{"error": {"message": "slow", "code": 429}}]]
    )
    def test_may_be_errors(self, value: Any) -> None:
        with pytest.raises(RateLimited, match="slow"):
            ChatReader().read_whole(value)

    @pytest.mark.parametrize(
        "value", [{}, [], 5, {"choices": []}, {"choices": [{"message": {"content": "a"}}]}]
    )
    def test_that_are_no_completion_are_refused(self, value: Any) -> None:
        with pytest.raises(StreamProtocolError, match="neither a whole chat completion nor an error"):
            ChatReader().read_whole(value)


class TestRequests:
    def body(self, host: str = "localhost", **fields: Any) -> dict[str, Any]:
        return OpenAIChat().body(
            ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}], **fields), host
        )

    def test_say_only_what_was_asked_for(self) -> None:
        assert self.body() == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @pytest.mark.parametrize(
        ("host", "name"),
        [
            ("api.openai.com", "max_completion_tokens"),
            ("eu.openai.azure.com", "max_completion_tokens"),
            ("api.groq.com", "max_tokens"),
            ("notopenai.com", "max_tokens"),
        ],
    )
    def test_name_the_limit_as_the_provider_does(self, host: str, name: str) -> None:
        assert self.body(host, max_output_tokens=5)[name] == 5

    def test_extra_fields_win_and_none_leaves_one_out(self) -> None:
        body = self.body(temperature=0.5, extra={"temperature": 1, "stream_options": None, "top_k": 4})
        assert (body["temperature"], body["top_k"], "stream_options" in body) == (1, 4, False)
