"""What a call does next, as tables and as properties of every decision."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.llm import errors
from worker.llm.errors import ModelError
from worker.router.decide import LONGEST_WAIT_S, TRIES, End, Failure, Need, Option, Try, next_move
from worker.router.rules import QUOTA_COOL_S, RULES, Rule, cooldown_s, rule_of

A, B, C = Option("a"), Option("b"), Option("c")


def fails(model: str, code: str, wait_s: float = 0.0, *, forbidden: bool = False) -> Failure:
    return Failure(model, code, wait_s, forbidden)


def cooling(name: str, seconds: float) -> Option:
    return Option(name, seconds, blocked="rate_limited")


TRANSPORT = ["timeout", "connection", "stream_truncated", "stream_protocol"]
TABLE: list[tuple[str, list[Option], list[Failure], Try | End]] = [
    ("the first that is free", [A, B], [], Try("a")),
    ("one that cools is passed over", [cooling("a", 60), B], [], Try("b")),
    ("the first to be free again, when that is soon", [cooling("a", 4), cooling("b", 3)], [], Try("b", 3)),
    ("at the limit of the wait", [cooling("a", LONGEST_WAIT_S)], [], Try("a", LONGEST_WAIT_S)),
    (
        "one above it: the queue waits until the first returns",
        [cooling("a", 60), cooling("b", LONGEST_WAIT_S + 0.1)],
        [],
        End("no_model_free", retryable=True, after_s=LONGEST_WAIT_S + 0.1),
    ),
    ("429: the next at once", [cooling("a", 7), B], [fails("a", "rate_limited", 7)], Try("b")),
    ("429, a short wait, nobody else", [cooling("a", 2)], [fails("a", "rate_limited", 2)], Try("a", 2)),
    (
        "429, a short wait, yet another is free",
        [cooling("a", 0.1), B],
        [fails("a", "rate_limited", 0.1)],
        Try("b"),
    ),
    (
        "429, a long wait, nobody else",
        [cooling("a", 7)],
        [fails("a", "rate_limited", 7)],
        End("rate_limited", retryable=True, after_s=7),
    ),
    (
        "quota: not the same, however free it is",
        [A],
        [fails("a", "quota_exhausted")],
        End("quota_exhausted", retryable=True),
    ),
    ("quota: the next", [cooling("a", 900), B], [fails("a", "quota_exhausted")], Try("b")),
    *(
        (f"{code}: the same once, a moment later", [A, B], [fails("a", code, 0.4)], Try("a", 0.4))
        for code in ["overloaded", "server_error", "transient", *TRANSPORT]
    ),
    *(
        (f"{code} twice: the next", [A, B], [fails("a", code), fails("a", code)], Try("b"))
        for code in ["overloaded", "server_error", "transient", *TRANSPORT]
    ),
    (
        "503 twice and nobody else: the queue tries again by its own rules",
        [A],
        [fails("a", "server_error"), fails("a", "server_error")],
        End("server_error", retryable=True),
    ),
    ("503 with a long wait: the next", [A, B], [fails("a", "server_error", 30)], Try("b")),
    (
        "503 that forbids a retry: the next",
        [A, B],
        [fails("a", "server_error", forbidden=True)],
        Try("b"),
    ),
    (
        "503 that forbids a retry, nobody else",
        [A],
        [fails("a", "server_error", forbidden=True)],
        End("server_error", retryable=False),
    ),
    ("too long: the next, whose window nobody knows", [A, B], [fails("a", "context_length")], Try("b")),
    (
        "too long: only a larger window",
        [Option("a", window=8_000), Option("b", window=8_000), Option("c", window=8_001)],
        [fails("a", "context_length")],
        Try("c"),
    ),
    (
        "too long for all",
        [Option("a", window=8_000), Option("b", window=4_000)],
        [fails("a", "context_length")],
        End("context_length", retryable=False),
    ),
    *(
        (f"{code}: nobody else", [A, B], [fails("a", code)], End(code, retryable=False))
        for code in ["content_filter", "refusal", "bad_request", "too_large", "of no known class"]
    ),
    *(
        (f"{code}: the next", [Option("a", math.inf), B], [fails("a", code)], Try("b"))
        for code in ["auth", "permission", "model_not_found"]
    ),
    (
        "a wrong key and nobody else",
        [Option("a", math.inf, blocked="auth")],
        [fails("a", "auth")],
        End("auth", retryable=False),
    ),
    (
        "a key that was wrong before",
        [Option("a", math.inf, blocked="auth"), Option("b", math.inf, blocked="permission")],
        [],
        End("auth", retryable=False),
    ),
    (
        "a wrong key, and another model comes back",
        [Option("a", math.inf, blocked="auth"), cooling("b", 60)],
        [fails("a", "auth")],
        End("auth", retryable=True, after_s=60),
    ),
    ("what cannot do it is passed over", [Option("a", capable=False), B], [], Try("b")),
    ("nobody can do it", [Option("a", capable=False)], [], End("no_capable_model", retryable=False)),
]


@pytest.mark.parametrize(
    ("options", "failures", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_next_move(options: list[Option], failures: list[Failure], expected: Try | End) -> None:
    assert next_move(options, failures) == expected


def test_every_class_of_error_has_the_rule_of_the_table() -> None:
    """Also those that are added: each must say what it means."""

    def below(cls: type[ModelError]) -> set[type[ModelError]]:
        return {cls, *(each for child in cls.__subclasses__() for each in below(child))}

    module = errors.__name__
    codes = {cls.code for cls in below(ModelError) if cls.__module__ == module and hasattr(cls, "code")}
    assert codes | {"refusal"} == set(RULES)
    assert rule_of("of no known class") == Rule("no", "no", "no")


def test_a_policy_lets_the_next_model_answer_what_one_has_refused() -> None:
    refused = [fails("a", "content_filter")]
    assert next_move([A, B], refused, fallback_on=frozenset({"content_filter"})) == Try("b")
    assert next_move([A, B], refused, fallback_on=frozenset({"refusal"})) == End(
        "content_filter", retryable=False
    )
    broken = [fails("a", "bad_request")]
    assert isinstance(next_move([A, B], broken, fallback_on=frozenset({"bad_request"})), End)


@pytest.mark.parametrize(
    ("need", "expected"),
    [
        (Need(100, 100), Try("small")),
        (Need(500, 1_000), Try("small")),
        (Need(500, 1_001), Try("large")),  # most likely too much, and there is a larger one
        (Need(1_000, 2_000), Try("large")),
        (Need(9_000, 18_000), Try("large")),  # likely too much for both, for none of them surely
        (Need(10_001, 20_000), End("context_length", retryable=False)),
    ],
)
def test_a_window_is_chosen_by_the_size_of_the_prompt(need: Need, expected: Try | End) -> None:
    options = [Option("small", window=1_000), Option("large", window=10_000)]
    assert next_move(options, [], need=need) == expected


def test_a_call_waits_five_seconds_in_all_and_never_past_its_deadline() -> None:
    assert next_move([cooling("a", 2)], [], waited_s=3) == Try("a", 2)
    assert isinstance(next_move([cooling("a", 2)], [], waited_s=3.1), End)
    assert next_move([cooling("a", 2)], [], remaining_s=2) == Try("a", 2)
    assert isinstance(next_move([cooling("a", 2)], [], remaining_s=1.9), End)


@pytest.mark.parametrize(
    ("code", "told", "in_a_row", "failures", "calls", "expected"),
    [
        ("rate_limited", 7, 1, 1, 1, 7),
        ("rate_limited", None, 1, 1, 1, 15),
        ("rate_limited", None, 2, 2, 2, 30),
        ("rate_limited", None, 9, 9, 9, 60),
        ("quota_exhausted", None, 1, 1, 1, QUOTA_COOL_S),
        ("quota_exhausted", 3_600, 1, 1, 1, 3_600),
        ("overloaded", None, 2, 2, 2, 0),  # below the number
        ("overloaded", None, 3, 3, 3, 10),
        ("server_error", None, 5, 5, 5, 30),
        ("connection", None, 9, 9, 9, 30),
        ("timeout", None, 1, 3, 6, 10),
        ("timeout", None, 1, 3, 7, 0),  # most calls succeed
        ("server_error", 20, 1, 1, 1, 20),
        ("transient", None, 9, 9, 9, 0),
        ("context_length", None, 9, 9, 9, 0),
        ("content_filter", None, 9, 9, 9, 0),
        ("bad_request", None, 9, 9, 9, 0),
        ("auth", None, 1, 1, 1, math.inf),
        ("permission", None, 1, 1, 1, math.inf),
        ("model_not_found", None, 1, 1, 1, math.inf),
    ],
)
def test_how_long_a_model_cools(
    code: str, told: float | None, in_a_row: int, failures: int, calls: int, expected: float
) -> None:
    assert cooldown_s(code, told, in_a_row=in_a_row, failures=failures, calls=calls) == expected


NAMES = ["a", "b", "c", "d"]
SECONDS = st.one_of(st.just(0.0), st.just(math.inf), st.floats(0, 1_000))
OPTIONS = st.lists(
    st.builds(
        Option,
        st.sampled_from(NAMES),
        SECONDS,
        st.one_of(st.none(), st.integers(1, 10_000)),
        st.booleans(),
        st.one_of(st.none(), st.just("auth")),
    ),
    max_size=4,
    unique_by=lambda option: option.name,
)
FAILURES = st.lists(
    st.builds(
        Failure, st.sampled_from(NAMES), st.sampled_from(sorted(RULES)), st.floats(0, 1_000), st.booleans()
    ),
    max_size=10,
)


@given(OPTIONS, FAILURES, st.floats(0, 10), st.integers(0, 20_000))
def test_no_decision_breaks_a_rule(
    options: list[Option], failures: list[Failure], waited_s: float, tokens: int
) -> None:
    move = next_move(options, failures, need=Need(tokens, 2 * tokens), waited_s=waited_s)
    if isinstance(move, End):
        assert not move.retryable or any(option.free_in_s < math.inf for option in options)
        assert 0 <= move.after_s < math.inf
        return
    chosen = next(option for option in options if option.name == move.model)
    its = [failure for failure in failures if failure.model == move.model]
    assert chosen.capable
    assert chosen.free_in_s <= move.after_s <= max(0.0, LONGEST_WAIT_S - waited_s)
    assert chosen.window is None or chosen.window >= tokens
    assert len(its) < TRIES
    assert not failures or rule_of(failures[-1].code).next != "no"
    assert all(rule_of(failure.code).same != "no" and not failure.forbidden for failure in its)
    if move.after_s > 1:  # a wait that is worth a fallback is made only when nobody is free
        assert not any(
            o.free_in_s == 0 and o.capable and o.window is None and o.name not in {f.model for f in failures}
            for o in options
        )


@given(st.lists(st.sampled_from(sorted(RULES)), max_size=40))
def test_every_chain_of_failures_ends(codes: list[str]) -> None:
    failures: list[Failure] = []
    for code in codes:
        move = next_move([A, B, C], failures)
        if isinstance(move, End):
            break
        failures.append(fails(move.model, code))
    assert len(failures) <= 3 * TRIES
