"""Webhooks over a real host's site: signatures, replays, refusals; events and triggers by command."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from tests.deployment import Deployment, deployed
from worker.cli import main
from worker.client import AgentSpec
from worker.models import LlmSpec
from worker.triggers import EventTarget, EventTemplate, TaskTarget, TriggerSpec, WebhookSpec

pytestmark = pytest.mark.timeout(120)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the specification's example
NEXT = f"whsec_{base64.b64encode(b'n' * 32).decode()}"
GITHUB = "It's a Secret to Everybody"  # of GitHub's documentation
MIB = 1024 * 1024
LLM = LlmSpec(model=None, prompt="Write.", temperature=None, max_output_tokens=None)
TEMPLATE = EventTemplate(agent="writer", input='"reply"')


def sign(body: bytes, *, id: str = "msg_1", at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    """Return the headers of Standard Webhooks, as its specification says."""
    timestamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def sign_github(body: bytes, *, delivery: str = "d-1", event: str = "push") -> dict[str, str]:
    mac = hmac.new(GITHUB.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={mac}", "x-github-delivery": delivery, "x-github-event": event}


class Site:
    """The host's HTTP actions, and the tasks that calls have made."""

    def __init__(self, at: Deployment, http: httpx.AsyncClient) -> None:
        self.at = at
        self._http = http

    async def post(self, body: bytes, headers: dict[str, str], name: str = "mail") -> int:
        answer = await self._http.post(
            f"{self.at.host.site_url}/webhooks/{name}", content=body, headers=headers
        )
        if body:
            assert body[:40] not in answer.content
        return answer.status_code


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Yield a deployment whose webhooks `mail` (a task), `news` and `hub` (events) are set."""
    env = {"SIGNALBOX_WEBHOOK_SECRET": SECRET, "SIGNALBOX_NEXT": NEXT, "SIGNALBOX_GITHUB": GITHUB}
    async with deployed(folder, env=env) as at, httpx.AsyncClient() as http:
        await at.with_writer()
        variables = ["SIGNALBOX_NEXT", "SIGNALBOX_WEBHOOK_SECRET"]
        specs = [
            WebhookSpec(name="mail", target=TaskTarget(template=TEMPLATE), secret_variables=variables),
            WebhookSpec(name="news", target=EventTarget(event="news")),
            WebhookSpec(
                name="hub",
                target=EventTarget(event="hub"),
                scheme="github",
                secret_variables=["SIGNALBOX_GITHUB"],
            ),
        ]
        for spec in specs:
            assert await at.client.set_webhook(spec)
            assert not await at.client.set_webhook(spec)
        for event in ("news", "hub.push"):
            await at.client.set_trigger(TriggerSpec(name=event, event=event, template=TEMPLATE))
        yield Site(at, http)


async def test_a_signed_call_does_what_its_webhook_says_once(tmp_path: Path) -> None:
    async with site(tmp_path) as to:
        body = b'{"from": "\xc3\xa4", "n":  1}'
        headers = sign(body)
        assert await to.post(body, headers) == 200
        assert await to.post(body, headers) == 200  # a replay, word for word
        later = sign(body, at=time.time() + 60)
        assert await to.post(body, later) == 200  # the sender tries the same message again
        to.at.host.kill()
        await anyio.to_thread.run_sync(to.at.host.start)
        assert await to.post(body, headers) == 200  # and the host has been away meanwhile
        (task,) = await to.at.all_tasks()
        assert "webhook_received" in await to.at.types(task.task)
        assert await to.post(body, sign(body, id="msg_2")) == 200
        assert await to.post(body, sign(body, id="msg_1"), name="news") == 200  # an id of another webhook
        assert len(await to.at.all_tasks()) == 3


async def test_an_event_whose_trigger_was_refused_its_task_is_to_be_sent_again(tmp_path: Path) -> None:
    async with site(tmp_path) as to:
        able = AgentSpec(name="able", description="", llm=LLM, capabilities=["reply"])
        await to.at.client.sync_agents([able])
        template = EventTemplate(capability="reply", input="1")
        await to.at.client.set_trigger(TriggerSpec(name="more", event="news", template=template))
        await to.at.client.sync_agents([able.model_copy(update={"capabilities": []})])
        body = b"1"
        assert await to.post(body, sign(body), name="news") == 503
        assert await to.post(body, sign(body), name="news") == 503
        assert [task.agent for task in await to.at.all_tasks()] == ["writer"]
        await to.at.client.sync_agents([able])
        assert await to.post(body, sign(body), name="news") == 200
        assert await to.post(body, sign(body), name="news") == 200
        assert sorted(task.agent for task in await to.at.all_tasks()) == ["able", "writer"]


async def test_what_is_signed_wrongly_is_refused_and_does_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as to:
        body = b'{"a": 1}'
        good = sign(body)
        now = time.time()
        for code, headers, sent in [
            (401, good, b'{"a":1}'),  # the same JSON, written anew
            (401, sign(body, secret=f"whsec_{base64.b64encode(b'x' * 24).decode()}"), body),
            (401, {**good, "webhook-id": "msg_2"}, body),
            (401, {**good, "webhook-signature": "v1a,AAAA"}, body),
            (401, {k: v for k, v in good.items() if k != "webhook-signature"}, body),
            (400, {k: v for k, v in good.items() if k != "webhook-id"}, body),
            (400, {k: v for k, v in good.items() if k != "webhook-timestamp"}, body),
            (400, sign(body, id="a.b"), body),
            (400, sign(body, at=now - 310), body),
            (400, sign(body, at=now + 310), body),
            (400, sign(b'{"broken'), b'{"broken'),
            (400, sign(b"\xff"), b"\xff"),
            (400, {}, body),
        ]:
            assert await to.post(sent, headers) == code, headers
        assert await to.post(body, good, name="ghost") == 404
        assert await to.post(body, good, name="a/b") == 404
        assert await to.at.all_tasks() == []
        assert await to.post(body, sign(body, at=now - 290)) == 200
        two = sign(body, id="msg_2", secret=NEXT)
        two["webhook-signature"] = f"v1,AAAA {two['webhook-signature']}"
        assert await to.post(body, two) == 200
        assert len(await to.at.all_tasks()) == 2


async def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async with site(tmp_path) as to:
        for name, limit in (("mail", MIB), ("news", 128 * 1024)):
            for size, code in ((limit + 1, 413), (limit, 200)):
                body = b'"' + b"x" * (size - 2) + b'"'
                assert await to.post(body, sign(body, id=f"{name}{limit}"), name) == code
        assert len(await to.at.all_tasks()) == 2


async def test_github_signs_its_own_way(tmp_path: Path) -> None:
    async with site(tmp_path) as to:
        body = b'{"ref": "refs/heads/main"}'
        good = sign_github(body)
        for code, headers, sent in [
            (401, good, body + b" "),
            (401, {**good, "x-hub-signature-256": "sha256=" + "0" * 64}, body),
            (401, {**good, "x-hub-signature-256": "sha1=" + "0" * 40}, body),
            (401, {k: v for k, v in good.items() if k != "x-hub-signature-256"}, body),
            (400, {k: v for k, v in good.items() if k != "x-github-delivery"}, body),
            (400, {**good, "x-github-delivery": "a.b"}, body),
        ]:
            assert await to.post(sent, headers, "hub") == code, headers
        assert await to.at.all_tasks() == []
        for _ in range(2):
            assert await to.post(body, good, "hub") == 200
        other = sign_github(body, delivery="d-2", event="issues")
        assert await to.post(body, other, "hub") == 200  # hub.issues has no trigger
        assert len(await to.at.all_tasks()) == 1


async def test_a_webhook_without_a_secret_is_not_set(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        for variable, text in (
            ("SIGNALBOX_WEBHOOK_SECRET", "is not set to whsec_"),
            ("PATH", "use names of"),
        ):
            spec = WebhookSpec(name="w", target=EventTarget(event="e"), secret_variables=[variable])
            with pytest.raises(Exception, match=text):
                await at.client.set_webhook(spec)
        assert (await at.client.webhooks()).webhooks == []


async def test_events_triggers_and_webhooks_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deployed(tmp_path, env={"SIGNALBOX_WEBHOOK_SECRET": SECRET}) as at:
        await at.with_writer()
        monkeypatch.setenv("CONVEX_URL", at.host.url)
        monkeypatch.setenv("SIGNALBOX_KEY", at.keys["operator"])

        async def run(*arguments: str) -> tuple[int, str, str]:
            code = await anyio.to_thread.run_sync(main, arguments)
            return code, *capsys.readouterr()

        setting = ["triggers", "set", "reply", "mail", "writer", "--where", "paid=false", "--where", "kind=x"]
        setting += [
            "--stack",
            "shop",
            "--budget",
            "0.50",
            "--timeout",
            "60",
            "--max-attempts",
            "1",
            "--label",
            "x",
        ]
        assert await run(*setting) == (0, "reply: changed\n", "")
        assert await run(*setting) == (0, "reply: as it was\n", "")
        assert 'paid=false, kind="x"' in (await run("triggers", "list"))[1]
        (listed,) = json.loads((await run("triggers", "list", "--json"))[1])
        assert (listed["template"]["stack"], listed["template"]["budget"]["micros"]) == ("shop", 500_000)
        assert (listed["template"]["timeoutMs"], listed["template"]["labels"]) == (60_000, ["x"])
        assert listed["template"]["retry"]["maxAttempts"] == 1
        assert await run("emit", "mail", "--data", '{"kind": "x"}') == (0, "", "")
        code, task, _ = await run("emit", "mail", "--data", '{"kind": "x", "paid": false}', "--id", "1")
        assert (await at.task(task.strip())).agent == "writer"
        assert "has come before" in (await run("emit", "mail", "--id", "1"))[1]
        assert await run("triggers", "pause", "reply") == (0, "reply: paused\n", "")
        assert await run("triggers", "resume", "reply") == (0, "reply: on\n", "")
        assert await run("triggers", "remove", "reply") == (0, "removed\n", "")
        assert await run("webhooks", "set", "in", "--event", "mail") == (0, "in: changed\n", "")
        assert "emits mail" in (await run("webhooks", "list"))[1]
        assert await run("webhooks", "set", "in", "--agent", "writer") == (0, "in: changed\n", "")
        assert json.loads((await run("webhooks", "list", "--json"))[1])[0]["target"]["kind"] == "task"
        assert await run("webhooks", "remove", "in") == (0, "removed\n", "")
        several = ["triggers", "set", "several", "mail", "writer"]
        assert await run(*several, "--batch", "mails", "2", "60") == (0, "several: changed\n", "")
        first = (await run("emit", "mail", "--data", "1"))[1]
        assert (await at.task(first.strip())).status == "delayed"
        assert await run("emit", "mail", "--data", "2") == (0, first, "")
        assert (await at.task(first.strip())).status != "delayed"
        assert await run(*several, "--debounce", "mails", "1.5", "--debounce-max", "9") == (
            0,
            "several: changed\n",
            "",
        )
        (listed,) = json.loads((await run("triggers", "list", "--json"))[1])
        assert listed["template"]["debounce"] == {"key": "mails", "forMs": 1_500, "maxMs": 9_000}
        assert listed["template"]["batch"] is None
        code, _, said = await run(*several, "--batch", "mails", "none", "60")
        assert code == 2
        assert "--batch: 'none' is not a whole number from 1 on" in said
        able = AgentSpec(name="able", description="", llm=LLM, capabilities=["reply"])
        await at.client.sync_agents([able])
        template = EventTemplate(capability="reply", input="1")
        await at.client.set_trigger(TriggerSpec(name="more", event="news", template=template))
        await at.client.sync_agents([able.model_copy(update={"capabilities": []})])
        code, told, _ = await run("emit", "news", "--id", "2")
        assert (code, told.startswith("more: refused: capability: no agent has")) == (1, True)
        code, told, _ = await run("emit", "news", "--id", "2")
        assert (code, "what was refused then is tried again" in told) == (1, True)
        code, _, said = await run("emit", "mail", "--data", "{")
        assert code == 2
        assert "--data is not JSON" in said
        code, _, said = await run("webhooks", "set", "in", "--event", "e", "--secret", "SIGNALBOX_NONE")
        assert code == 1
        assert "SIGNALBOX_NONE of the deployment is not set" in said
