"""What an agent holds while it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Protocol

from worker.llm import Completion
from worker.models import Entry, Fork, Progress
from worker.router import Answer
from worker.runtime import ledger, llm_run
from worker.runtime.approval import Decision
from worker.runtime.calling import check_arguments, perform
from worker.runtime.durable import Durable, DurableHost, Outcome, Told
from worker.runtime.forked import stand_in
from worker.runtime.llm_agent import AgentResult, LlmAgent
from worker.runtime.model import Prompt
from worker.runtime.outcome import Result
from worker.runtime.sandbox import Sandbox
from worker.runtime.stream import OWN_LOG, OWN_TEXT, Label
from worker.runtime.tools import Tool, Toolbox, ToolContext, ToolResult, toolbox
from worker.specs import TaskSpec

MAX_LOOP_CHARS = 64  # of a loop's name, within the keys of its steps


class Host(DurableHost, Protocol):
    """What a run needs from its process; another process can stand in for it."""

    def write(self, text: str, label: Label) -> None:
        """Add text to the run's stream."""

    async def room(self) -> None:
        """Wait while too much text has gathered."""

    async def confirmed(self) -> None:
        """Wait until the control plane has acknowledged a write of this run."""

    async def complete(self, prompt: Prompt) -> Completion:
        """Call the model, streaming what it says."""

    async def answer(self, prompt: Prompt) -> Answer:
        """The same, with who answered and what each attempt has cost."""


class Context:
    """The run that an agent plays.

    Attributes:
        run: Id of this attempt.
        task: Id of the task, the same for each attempt: the right key to make effects idempotent.
        attempt: 1 for the first run of the task, then 2, 3, ...
        agent: The agent's name.
    """

    def __init__(
        self,
        *,
        run: str,
        task: str,
        attempt: int,
        agent: str,
        host: Host,
        earlier: bool = False,
        changed: bool = False,
        tools: Toolbox = toolbox,
        fork: Fork | None = None,
    ) -> None:
        self.run = run
        self.task = task
        self.attempt = attempt
        self.agent = agent
        self._host = host
        self._toolbox = tools
        sandbox = None if fork is None else Sandbox(fork)
        self._durable = Durable(host, earlier=earlier, changed=changed, sandbox=sandbox)

    async def stream(self, text: str, kind: str = "text") -> None:
        """Show `text` to whoever follows the run; `kind` is "text" or "reasoning"."""
        if kind not in {"text", "reasoning"}:
            raise ValueError(f"kind must be 'text' or 'reasoning', not {kind!r}")
        self._host.write(_text(text), OWN_TEXT if kind == "text" else OWN_TEXT._replace(kind="reasoning"))
        await self._host.room()

    def log(self, message: str, **facts: object) -> None:
        """Add a line to the run's log, with facts beside it."""
        beside = "".join(f" {name}={value!r}" for name, value in facts.items())
        self._host.write(f"{_text(message)}{beside}\n", OWN_LOG)

    async def play(
        self,
        agent: LlmAgent,
        input: Any,  # noqa: ANN401 - the word of every agent; any JSON
        *,
        name: str | None = None,
    ) -> AgentResult:
        """Let a model play an agent: turns and tool calls until it has its output.

        Each turn and each call is a step of the task (`turn#1`, `turn#1/0:search`, ...): a later run goes on
        behind the last one, and asks for none again.

        Args:
            agent: What plays.
            input: A text, `{"prompt": text}` or `{"messages": [...]}`.
            name: Tells its steps from those of another that plays at the same time; 1 to 64 characters.

        Raises:
            LoopStoppedError: A limit is reached, or the output does not fit. The task fails for good.
            ModelError: No model has answered.
        """
        if name is not None and not 1 <= len(name) <= MAX_LOOP_CHARS:
            raise ValueError(f"name must have 1 to {MAX_LOOP_CHARS} characters, not {len(name)}")
        with self._durable.alone(name or ""):
            return await llm_run.play(agent, input, self.place(), name)

    def place(self, post: Callable[[Entry], None] | None = None) -> llm_run.Place:
        """Return where the loops of this run play."""
        return llm_run.Place(self._host, self._durable, self, self.task, self.run, self._toolbox, post)

    async def complete(
        self,
        messages: str | Iterable[Mapping[str, Any]],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_output_tokens: int | None = None,
    ) -> Completion:
        """Call the model, stream what it says into the run, and return the whole answer.

        A call that fails in a way that passes is tried again; the new text then replaces the old.

        Args:
            messages: Messages such as `{"role": "user", "content": "..."}`, or the user's text alone.
            model: The worker's default model unless given.
            temperature: The provider's default unless given.
            max_output_tokens: The provider's default unless given.

        Raises:
            ModelError: The last failure.
        """
        chat = (
            [{"role": "user", "content": messages}]
            if isinstance(messages, str)
            else [dict(m) for m in messages]
        )
        return await self._host.complete(Prompt(chat, model, temperature, max_output_tokens))

    async def step(
        self,
        name: str,
        work: Callable[..., Any],
        /,
        *args: object,
        **named: object,
    ) -> Any:  # noqa: ANN401 - any JSON
        """Return the result of `work(*args, **named)`, which is kept: a later run does not call it again.

        When this returns, the control plane has acknowledged the result, and no other worker owned the task
        meanwhile. A crash before that makes the next run call `work` again, so an effect on the outside
        carries `self.task` and the step's name as its key. Steps have the same names in the same order in
        each run of a task; a name that comes again counts as `name#2`, `name#3`, ...

        Args:
            name: 1 to 180 characters.
            work: A function, sync or async. A sync one blocks every run of the worker, so it must be quick.
            args: Passed on.
            named: Passed on.

        Returns:
            What JSON makes of the result: a tuple comes back as a list, in the first run too.

        Raises:
            InvalidStepError: The result is no JSON or too large. The task fails for good.
            StepMismatchError: An earlier run did something else here. The task fails for good.
        """
        sandbox = self._durable.sandbox
        called = work if sandbox is None else sandbox.guarded(name, work)
        return await self._durable.step(name, called, *args, **named)

    async def call(self, tool: Tool, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool as a model does, as a step: at most as often as its `effect` allows.

        Its intent is kept before the call and its result behind it. When a run dies in between, the next one
        calls it again, reads back what became of it, or waits for a person to say so, by its class. One that
        needs approval waits for it first.

        Args:
            tool: What is called; it need not be one of the worker's.
            arguments: JSON, the same in each run of a task.

        Returns:
            What a model would be given. It is not `ok` when the tool failed or a person refused the call.

        Raises:
            ValueError: The tool does not take these arguments.
            InDoubtError: Nobody knows whether it happened, and a person did not let it run. The task fails.
            ArgumentsChangedError: People approved other arguments. The task fails.
        """
        given = dict(arguments or {})
        check_arguments(tool, given)
        key = self._durable.numbered(f"call:{tool.name}")
        context = ToolContext(f"{self.task}:{key}", self.task, self.run, self)
        if await self._durable.find(key, "tool") is None:
            result = await stand_in(self._durable, tool, key, given)
            if result is not None:
                return result

        async def now() -> ToolResult:
            return (await perform(tool, given, context)).without(self._durable.clean)

        return await ledger.perform(self._durable, tool, key, given, context, now)

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass, up to a year.

        A sleep of more than 5 s ends the run and frees the worker: this call does not return. What is inside
        `finally` runs, as in a cancellation, and the next run comes here again behind the finished steps.
        """
        await self._durable.sleep(seconds)

    async def wait_for(self, event: str, timeout: float | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the data of the next event of this name in the task's tenant, or of a signal to the task.

        A signal that has come already is taken at once; an event counts only while the task waits. Unless it
        is there, the run ends as in `sleep`, and the next run finds it. A run waits for one thing at a time.

        Args:
            event: Its name.
            timeout: In seconds.

        Raises:
            TimeoutError: It did not come in time.
        """
        return await self._durable.wait_for(event, timeout)

    async def approve(
        self,
        what: str,
        arguments: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout: float | None = None,
    ) -> Decision:
        """Return once a person has approved `what` with exactly these arguments.

        Unless that was decided in an earlier run, the run ends as in `sleep`, and the next one comes here
        again. Several that are asked at the same time, in a task group, are asked together.

        Args:
            what: What is to be done, 1 to 256 characters: people see it with the arguments.
            arguments: JSON of at most 64 KiB. A later run must ask with the same.
            timeout: In seconds; seven days unless given.

        Raises:
            ApprovalRefusedError: A person refused. The task fails for good unless the agent catches it.
            ApprovalExpiredError: Nobody decided in time; it is a TimeoutError, too.
            ArgumentsChangedError: An earlier run asked with other arguments.
            InvalidApprovalError: It cannot be asked.
        """
        return await self._durable.approve("approve", what, arguments, timeout_s=timeout)

    async def spawn(self, tasks: Iterable[TaskSpec]) -> list[str]:
        """Submit tasks as children of this one, once for the task, all or none; return their ids.

        A child has this task's tenant unless it says otherwise, and is cancelled with it when the whole
        subtree is. 200 at most in a call.
        """
        return await self._durable.spawn([_spec(task) for task in tasks])

    async def gather(self, tasks: Iterable[TaskSpec]) -> list[Outcome]:
        """Submit tasks as children, wait until all have ended, and return how, in their order.

        Unless they have ended already the run ends meanwhile, as in `sleep`. A child that fails raises
        nothing: look at its `status`.
        """
        return await self._durable.gather([_spec(task) for task in tasks])

    async def emit(self, event: str, data: Any = None) -> int:  # noqa: ANN401 - any JSON
        """Tell the task's tenant that something has happened, once for the task.

        Triggers submit their tasks and waiting tasks go on in the same transaction that keeps this step.

        Args:
            event: Its name.
            data: At most 128 KiB of JSON.

        Returns:
            How many tasks it has started or woken, as far as they were looked at at once.
        """
        return await self._durable.emit(event, data)

    async def upstream(self) -> list[Outcome]:
        """Return how the tasks have ended that this task comes after (`TaskSpec.after`), in that order."""
        return await self._durable.upstream()

    def signals(self) -> AsyncIterator[Told]:
        """Yield the signals to the task as they come, each once for the task; `name` and `data`.

        The run stays live meanwhile. A later run is given again those that the earlier ones took, first.
        """
        return self._durable.signals()

    def set_state(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Let those who ask for the task's state see `value`: JSON of at most 8 KiB, the newest alone."""
        self._durable.tell(None, value)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the run has come; at most once a second it goes out unless somebody watches."""
        self._durable.tell(Progress(done=done, total=total, message=_text(message)), None)

    async def confirmed(self) -> None:
        """Wait until the control plane has acknowledged a write of this run.

        Until then another worker may own the task, so an agent waits for this before effects on the outside.
        """
        await self._host.confirmed()


async def concluded(ctx: Context, value: Any) -> Any:  # noqa: ANN401 - what the agent returned
    """Return what an agent's run ends with; a fork without effects brings no tasks with it.

    Raises:
        StepMismatchError: The code no longer takes the steps that other code has taken.
    """
    durable = ctx._durable
    await durable.check_end()
    closed = durable.sandbox is not None and durable.sandbox.closed
    if not closed or not isinstance(value, Result) or not value.next:
        return value
    ctx.log("a fork without effects: left out what was to come next", tasks=len(value.next))
    return value.value


def _spec(task: TaskSpec) -> dict[str, Any]:
    return task.model_dump(by_alias=True, exclude_none=True)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text must be a str, not {type(value).__name__}")
    return value
