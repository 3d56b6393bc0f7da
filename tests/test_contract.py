"""Holds the models to the validators of the Convex functions, as tests/contract.json exports them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.wire_shapes import CONTRACT, answer_of, arguments_of, only, shape_of, union
from worker import (
    api,
    approvals,
    budgets,
    bulk,
    client,
    endpoints,
    forks,
    groups,
    limits,
    model_limits,
    models,
    schedules,
    submits,
    triggers,
    upkeep,
)

CLIENT = (  # where the client's calls stand
    approvals,
    budgets,
    bulk,
    client,
    endpoints,
    forks,
    groups,
    limits,
    model_limits,
    schedules,
    submits,
    triggers,
    upkeep,
)


@pytest.mark.parametrize(
    ("function", "request_model", "reply_model"),
    [
        ("worker:register", models.RegisterRequest, models.Registered),
        ("worker:sync", models.SyncRequest, models.SyncReply),
        ("worker:inbox", None, models.Inbox),
        ("worker:drain", None, models.DrainReply),
        ("tasks:list", None, client.TaskPage),
        ("tasks:cancelMany", None, bulk.BulkPage),
        ("tasks:failures", None, bulk.Failures),
        ("tasks:children", None, client.TaskPage),
        ("tasks:links", None, client.TaskLinks),
        ("groups:list", None, groups.GroupPage),
        ("worker:upstream", None, models.UpstreamPage),
        ("tasks:state", None, client.TaskState),
        ("worker:steps", None, models.StepsPage),
        ("worker:spawn", None, models.Spawned),
        ("worker:emit", None, models.Emitted),
        ("worker:gathered", None, models.GatheredPage),
        ("schedules:set", None, schedules.ScheduleSet),
        ("limits:set", None, limits.Limit),
        ("tasks:fork", None, forks.Forked),
        ("limits:list", None, limits.LimitPage),
        ("approvals:list", None, approvals.ApprovalPage),
        ("approvals:get", None, approvals.ApprovalView),
        ("approvals:decide", None, approvals.ApprovalView),
        ("models:set", None, model_limits.ModelView),
        ("models:clear", None, model_limits.ModelView),
        ("models:list", None, model_limits.ModelPage),
        ("models:calls", None, model_limits.CallsPage),
        ("budgets:set", None, budgets.Budget),
        ("budgets:list", None, budgets.BudgetPage),
        ("budgets:get", None, budgets.Statement),
    ],
)
def test_a_model_and_its_validator_say_the_same(
    function: str, request_model: type[BaseModel] | None, reply_model: type[BaseModel]
) -> None:
    if request_model is not None:
        assert shape_of(request_model) == arguments_of(function)
    assert shape_of(reply_model) == answer_of(function)


def test_a_submitted_task_and_its_view_say_the_same() -> None:
    tasks, _ = only(arguments_of("tasks:submit"), "object")["tasks"]
    assert shape_of(client.TaskSpec, omits_none=True) == only(tasks, "array")
    assert union([shape_of(client.TaskView), "null"]) == answer_of("tasks:get")


def test_a_fork_and_a_comparison_say_the_same() -> None:
    change, _ = only(arguments_of("tasks:fork"), "object")["change"]
    assert shape_of(forks.ForkChanges, omits_none=True) == change
    compared, _ = only(answer_of("tasks:compare"), "object")["tasks"]
    assert shape_of(forks.Compared) == only(compared, "array")


def test_a_new_group_says_the_same() -> None:
    on_complete, _ = only(arguments_of("groups:create"), "object")["onComplete"]
    given = [shape_of(model, omits_none=True) for model in (groups.Callback, groups.FollowUpTask)]
    assert union(given) == on_complete
    assert union([shape_of(groups.GroupView), "null"]) == answer_of("groups:get")


def test_bulk_operations_say_the_same() -> None:
    for function in ("tasks:cancelMany", "tasks:retryMany"):
        chosen, _ = only(arguments_of(function), "object")["filter"]
        assert shape_of(bulk.Filter, omits_none=True) == chosen
        assert shape_of(bulk.BulkPage) == answer_of(function)
    ours = only(shape_of(bulk.Cause), "object")
    theirs = only(only(answer_of("tasks:causes"), "array"), "object")
    # A state that this version does not know is still shown.
    assert {k: v for k, v in ours.items() if k != "state"} == {
        k: v for k, v in theirs.items() if k != "state"
    }


def test_agents_history_and_streams_say_the_same() -> None:
    agents, _ = only(arguments_of("agents:sync"), "object")["agents"]
    assert shape_of(client.AgentSpec, omits_none=True) == only(agents, "array")
    events, _ = only(answer_of("tasks:history"), "object")["events"]
    ours = only(shape_of(client.Event), "object")
    theirs = only(only(events, "array"), "object")
    # An event type that this version does not know is still shown.
    assert {k: v for k, v in ours.items() if k != "type"} == {k: v for k, v in theirs.items() if k != "type"}
    for function in ("runs:tail", "runs:follow"):
        chunks, _ = only(answer_of(function), "object")["chunks"]
        assert only(chunks, "array") == shape_of(models.Chunk)
    listed = only(only(answer_of("agents:list"), "array"), "object")
    assert only(shape_of(client.AgentView), "object").items() <= listed.items()


def test_the_counters_of_a_minute_say_the_same() -> None:
    assert shape_of(upkeep.Minute) == only(answer_of("stats:read"), "array")
    assert shape_of(upkeep.Demand) == answer_of("autoscale:read")


def test_schedules_say_the_same() -> None:
    schedule, _ = only(arguments_of("schedules:set"), "object")["schedule"]
    assert shape_of(schedules.ScheduleSpec, omits_none=True) == schedule
    timing, _ = only(arguments_of("schedules:preview"), "object")["of"]
    assert only(shape_of(schedules.Timing, omits_none=True), "object") in [member[1] for member in timing]
    # A template that is shown leaves out what was not given, as one that is set does.
    view, page = (
        only(shape_of(model, omits_none=True), "object")
        for model in (schedules.ScheduleView, schedules.SchedulePage)
    )
    assert union([("object", view), "null"]) == answer_of("schedules:get")
    assert page.keys() == only(answer_of("schedules:list"), "object").keys()


def test_endpoints_say_the_same() -> None:
    assert shape_of(endpoints.EndpointSpec, omits_none=True) == arguments_of("endpoints:set")
    assert shape_of(endpoints.EndpointView) == only(answer_of("endpoints:list"), "array")


def test_events_triggers_and_webhooks_say_the_same() -> None:
    for function, field, model in (
        ("events:emit", "event", triggers.EventSpec),
        ("triggers:set", "trigger", triggers.TriggerSpec),
        ("webhooks:set", "webhook", triggers.WebhookSpec),
    ):
        given, _ = only(arguments_of(function), "object")[field]
        assert shape_of(model, omits_none=True) == given
    assert shape_of(triggers.Emission) == answer_of("events:emit")
    assert shape_of(triggers.TriggerView, omits_none=True) == answer_of("triggers:pause")
    page = only(shape_of(triggers.WebhookPage, omits_none=True), "object")
    assert ("object", page) in answer_of("webhooks:list")


def test_every_public_function_is_called_by_one_of_the_two_clients() -> None:
    sources = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (*CLIENT, api)]
    python = [name for name in CONTRACT if not name.startswith("dashboard:")]
    unused = [name for name in python if not any(f'"{name}"' in source for source in sources)]
    assert unused == []


def test_every_function_of_the_dashboard_is_called_by_it() -> None:
    folder = Path(__file__).resolve().parent.parent / "dashboard" / "src"
    source = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.ts*"))
    own = [name for name in CONTRACT if name.startswith("dashboard:")]
    assert [name for name in own if f"api.{name.replace(':', '.')}" not in source] == []


def test_the_architecture_names_every_field_between_worker_and_control_plane() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    wire_text = text.partition("## The wire between worker and control plane")[2].partition("\n## ")[0]
    inbox = CONTRACT["worker:inbox"]["returns"]["value"]
    said = [
        CONTRACT[f"worker:{name}"][side]
        for name in ("register", "inbox", "sync")
        for side in ("args", "returns")
    ]
    said += [inbox[name]["fieldType"]["value"] for name in ("assigned", "controls")]
    names = {name for shape in said for name in shape["value"]}
    assert {name for name in names if not re.search(rf"\b{name}\b", wire_text)} == set()


def test_a_difference_is_found() -> None:
    class Wrong(models.Wire):
        live: bool
        extra: str

    assert shape_of(Wrong) != answer_of("worker:drain")
