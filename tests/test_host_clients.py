"""The embedded host as Python programs see it: the official client, the official HTTP client, and httpx."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from convex.http_client import ConvexHttpClient

from convex import ConvexClient, ConvexError, ConvexInt64
from tests.host_process import HostProcess

FUNCTIONS = Path(__file__).parent / "host_functions"


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with HostProcess(FUNCTIONS) as process:
        yield process


@pytest.fixture
def client(host: HostProcess) -> ConvexClient:
    return ConvexClient(host.url)


@pytest.fixture
def admin(host: HostProcess) -> ConvexClient:
    client = ConvexClient(host.url)
    client.set_admin_auth(host.admin_key)
    return client


@pytest.fixture
def http(host: HostProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=host.url) as client:
        yield client


def call(http: httpx.Client, kind: str, path: str, args: dict[str, Any], **more: Any) -> Any:
    response = http.post(f"/api/{kind}", json={"path": path, "args": args, **more})
    assert response.status_code == 200, response.text
    return response.json()


@asynccontextmanager
async def follow(client: ConvexClient, path: str, args: dict[str, Any]) -> AsyncIterator[Any]:
    """Yield a function that waits until a subscription delivers a wanted value."""
    subscription = client.subscribe(path, args)

    async def until(wanted: object) -> None:
        with anyio.fail_after(10):
            async for value in subscription:
                if value == wanted:
                    return

    try:
        yield until
    finally:
        subscription.unsubscribe()


class TestTheOfficialClient:
    def test_reads_its_own_writes(self, client: ConvexClient) -> None:
        assert client.query("notes:list", {"list": "own"}) == []
        assert client.mutation("notes:add", {"list": "own", "text": "one"}) is None
        assert client.query("notes:list", {"list": "own"}) == ["one"]

    @pytest.mark.parametrize(
        "value",
        [None, True, "ü 漢 \x00", -0.5, {"": [1.0, {"a": "b"}]}, b"\x00\xff", ConvexInt64(-(2**63))],
        ids=lambda value: type(value).__name__,
    )
    def test_gets_every_kind_of_value_back_as_it_was(self, client: ConvexClient, value: Any) -> None:
        assert client.query("basics:echo", {"value": value}) == value

    def test_gets_special_floats_back_as_they_were(self, client: ConvexClient) -> None:
        assert math.isnan(client.query("basics:echo", {"value": math.nan}))
        assert client.query("basics:echo", {"value": -math.inf}) == -math.inf
        assert math.copysign(1, client.query("basics:echo", {"value": -0.0})) == -1

    def test_gets_a_result_of_six_megabytes_in_one_piece(self, client: ConvexClient) -> None:
        text = "x" * 6_000_000
        assert client.query("basics:echo", {"value": text}) == text

    def test_gets_the_data_of_a_convex_error_and_nothing_stays_written(self, client: ConvexClient) -> None:
        with pytest.raises(ConvexError) as caught:
            client.mutation("notes:refuse", {"list": "refused"})
        assert caught.value.data == {"code": "refused", "size": ConvexInt64(7)}
        assert client.query("notes:list", {"list": "refused"}) == []

    def test_gets_the_text_and_the_frames_of_any_other_error(self, client: ConvexClient) -> None:
        with pytest.raises(Exception, match=r"Uncaught TypeError: broken on purpose\n +at .*basics\.ts:\d+"):
            client.query("basics:breaks")

    def test_may_call_internal_functions_only_with_the_admin_key(
        self, client: ConvexClient, admin: ConvexClient
    ) -> None:
        with pytest.raises(Exception, match="Could not find public function for 'notes:count'"):
            client.query("notes:count", {"list": "internal"})
        assert admin.query("notes:count", {"list": "internal"}) == 0

    def test_runs_actions(self, client: ConvexClient) -> None:
        client.mutation("notes:add", {"list": "from", "text": "a"})
        assert client.action("acts:copy", {"from": "from", "to": "to"}) == 1
        assert client.query("notes:list", {"list": "to"}) == ["a"]

    async def test_is_told_of_another_client_s_write(self, client: ConvexClient, http: httpx.Client) -> None:
        async with follow(client, "notes:list", {"list": "followed"}) as until:
            await until([])
            call(http, "mutation", "notes:add", {"list": "followed", "text": "news"})
            await until(["news"])

    async def test_is_told_of_what_scheduled_functions_write(self, client: ConvexClient) -> None:
        async with follow(client, "notes:list", {"list": "jobs"}) as until:
            await until([])
            client.action("acts:later", {"list": "jobs"})
            await until(["scheduled"])
            client.mutation("acts:scheduleWrite", {"list": "jobs"})
            await until(["scheduled", "by an action"])

    async def test_comes_back_by_itself_after_the_host_was_killed(self, tmp_path: Path) -> None:
        with HostProcess(FUNCTIONS, tmp_path) as host:
            client = ConvexClient(host.url)
            client.mutation("notes:add", {"list": "kept", "text": "before"})
            async with follow(client, "notes:list", {"list": "kept"}) as until:
                await until(["before"])
                host.kill()
                host.start()
                with httpx.Client(base_url=host.url) as http:
                    call(http, "mutation", "notes:add", {"list": "kept", "text": "after"})
                await until(["before", "after"])
            assert client.query("notes:list", {"list": "kept"}) == ["before", "after"]

    def test_calls_of_four_clients_are_serializable(self, host: HostProcess) -> None:
        clients = [ConvexHttpClient(host.url) for _ in range(4)]

        def add_twenty(client: ConvexHttpClient) -> None:
            for _ in range(20):
                client.mutation("notes:number", {"list": "numbered"})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add_twenty, clients))
        texts = clients[0].query("notes:list", {"list": "numbered"})
        assert texts == [str(number) for number in range(80)]

    async def test_sees_its_own_mutation_in_its_subscription(self, client: ConvexClient) -> None:
        async with follow(client, "notes:list", {"list": "mine"}) as until:
            await until([])
            for number in range(1, 4):
                client.mutation("notes:add", {"list": "mine", "text": str(number)})
                assert client.query("notes:list", {"list": "mine"}) == [str(n + 1) for n in range(number)]
                await until([str(n + 1) for n in range(number)])

    async def test_keeps_the_end_of_a_subscribed_page(self, client: ConvexClient) -> None:
        def add(text: str) -> None:
            client.mutation("notes:add", {"list": "paged", "text": text})

        for text in ("b", "d", "f"):
            add(text)
        options = {"numItems": 2, "cursor": None}
        async with follow(client, "notes:page", {"list": "paged", "paginationOpts": options}) as until:
            await until(["b", "d"])
            for text in ("e", "c", "a"):
                add(text)
            await until(["a", "b", "c", "d"])

    async def test_a_failing_subscription_recovers(self, client: ConvexClient) -> None:
        client.mutation("notes:add", {"list": "full", "text": "x"})
        subscription = client.subscribe("notes:emptyOnly", {"list": "full"})
        with anyio.fail_after(10), pytest.raises(ConvexError) as caught:
            await anext(subscription)
        assert caught.value.data == {"first": "x"}
        subscription.unsubscribe()

    def test_prints_the_log_lines_of_functions(
        self, client: ConvexClient, capfd: pytest.CaptureFixture[str]
    ) -> None:
        client.mutation("basics:talk")
        assert "[LOG] 'hello' {\n  a: 1\n}" in capfd.readouterr().out


class TestTheOfficialHttpClient:
    def test_calls_every_kind_of_function(self, host: HostProcess) -> None:
        client = ConvexHttpClient(host.url)
        assert client.mutation("notes:add", {"list": "http", "text": "x"}) is None
        assert client.query("notes:list", {"list": "http"}) == ["x"]
        assert client.action("acts:outer") == {"inner": "down for nobody"}

    def test_gets_the_data_of_a_convex_error(self, host: HostProcess) -> None:
        with pytest.raises(ConvexError) as caught:
            ConvexHttpClient(host.url).mutation("notes:refuse", {"list": "refused"})
        assert caught.value.data["code"] == "refused"

    def test_with_a_wrong_admin_key_raises_the_code(self, host: HostProcess) -> None:
        client = ConvexHttpClient(host.url)
        client.set_admin_auth("wrong")
        with pytest.raises(Exception, match="401 BadAdminKey"):
            client.query("notes:list", {"list": "http"})


class TestHttpx:
    def test_chooses_between_clean_and_encoded_values(self, http: httpx.Client) -> None:
        number = {"$integer": base64.b64encode((5).to_bytes(8, "little")).decode()}
        args = {"value": number}
        assert call(http, "query", "basics:echo", args)["value"] == "5"
        encoded = call(http, "query", "basics:echo", args, format="convex_encoded_json")
        assert encoded["value"] == number

    def test_gets_log_lines_with_the_answer(self, http: httpx.Client) -> None:
        assert call(http, "mutation", "basics:talk", {})["logLines"] == ["[LOG] 'hello' {\n  a: 1\n}"]

    @pytest.mark.parametrize(
        ("kind", "path", "text"),
        [
            ("query", "notes:gone", "Could not find public function for 'notes:gone'."),
            ("query", "gone", "Could not find public function for 'gone'."),
            ("mutation", "notes:count", "Could not find public function for 'notes:count'."),
            ("action", "acts:hidden", "Could not find public function for 'acts:hidden'."),
            ("query", "notes:add", "Trying to execute notes.js:add as Query, but it is defined as Mutation."),
            (
                "action",
                "notes:add",
                "Trying to execute notes.js:add as Action, but it is defined as Mutation.",
            ),
            ("query", "acts:copy", "Trying to execute acts.js:copy as Query, but it is defined as Action."),
        ],
    )
    def test_is_told_which_function_cannot_be_called(
        self, http: httpx.Client, kind: str, path: str, text: str
    ) -> None:
        answer = call(http, kind, path, {})
        assert answer["status"] == "error"
        assert text in answer["errorMessage"]

    def test_is_told_which_argument_is_wrong(self, http: httpx.Client) -> None:
        answer = call(http, "mutation", "notes:add", {"list": "typed", "text": 5})
        assert "ArgumentValidationError" in answer["errorMessage"]
        assert call(http, "query", "notes:list", {"list": "typed"})["value"] == []

    def test_with_the_admin_key_acts_as_a_user(self, http: httpx.Client, host: HostProcess) -> None:
        user = json.dumps({"subject": "u1", "issuer": "https://i", "name": "Zoë"}).encode()
        key = f"Convex {host.admin_key}:{base64.b64encode(user).decode()}"
        answer = http.post("/api/query", json={"path": "basics:whoami"}, headers={"authorization": key})
        assert answer.json()["value"] == "https://i|u1"

    def test_calls_any_kind_of_function_with_the_admin_key(
        self, http: httpx.Client, host: HostProcess
    ) -> None:
        headers = {"authorization": f"Convex {host.admin_key}"}
        for path, value in [
            ("notes:count", 0),
            ("basics:noop", None),
            ("acts:outer", {"inner": "down for nobody"}),
        ]:
            args = {"list": "any"} if path == "notes:count" else {}
            answer = http.post("/api/function", json={"path": path, "args": args}, headers=headers)
            assert answer.json()["value"] == value

    def test_sees_the_host_s_own_address_in_functions(self, http: httpx.Client, host: HostProcess) -> None:
        assert call(http, "query", "basics:cloudUrl", {})["value"] == host.url

    def test_a_function_that_never_ends_is_stopped_and_the_others_are_served(
        self, http: httpx.Client, client: ConvexClient
    ) -> None:
        answer = call(http, "mutation", "basics:spin", {})
        assert answer["errorMessage"].endswith("Function execution timed out (maximum duration: 1s)\n")
        assert call(http, "mutation", "basics:noop", {})["status"] == "success"
        assert client.mutation("basics:noop") is None

    def test_reaches_http_actions_on_both_ports(self, http: httpx.Client, host: HostProcess) -> None:
        call(http, "mutation", "notes:add", {"list": "site", "text": "s"})
        assert httpx.get(f"{host.site_url}/notes?list=site").json() == ["s"]
        assert http.get("/http/notes?list=site").json() == ["s"]
        assert httpx.get(f"{host.site_url}/nothing").status_code == 404
        assert httpx.head(f"{host.site_url}/files/one").status_code == 200

    def test_a_failing_http_action_is_a_500_with_its_data(self, host: HostProcess) -> None:
        response = httpx.get(f"{host.site_url}/fail")
        assert response.status_code == 500
        body = response.json()
        assert body["code"].startswith("[Request ID: ")
        assert "Server Error: Uncaught ConvexError" in body["code"]
        assert body["data"] == {"code": "from http"}
        assert "http.ts" in body["trace"]


def test_what_was_acknowledged_survives_sigkill_and_sigterm(tmp_path: Path) -> None:
    with HostProcess(FUNCTIONS, tmp_path) as host:
        for end in (host.kill, host.stop):
            with httpx.Client(base_url=host.url) as http:
                call(http, "mutation", "notes:add", {"list": "kept", "text": end.__name__})
            end()
            host.start()
        with httpx.Client(base_url=host.url) as http:
            assert call(http, "query", "notes:list", {"list": "kept"})["value"] == ["kill", "stop"]


def test_sigterm_ends_the_host_with_exit_code_0_while_clients_are_connected(tmp_path: Path) -> None:
    host = HostProcess(FUNCTIONS, tmp_path)
    host.start()
    client = ConvexClient(host.url)
    client.query("notes:list", {"list": "any"})
    with httpx.Client(base_url=host.url) as http:
        call(http, "mutation", "basics:noop", {})
        assert host.stop() == 0
    assert host.log_file.read_text() == ""
