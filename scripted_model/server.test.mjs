import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createScriptedModelServer } from "./http.mjs";

const PROGRAM = fileURLToPath(new URL("./server.mjs", import.meta.url));
const server = createScriptedModelServer();
let url = "";

beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
});

afterAll(() => {
  server.close();
  server.closeAllConnections();
});

/** @param {object} fields @param {RequestInit} [init] */
function ask(fields, init = {}) {
  const body = JSON.stringify({
    model: "scripted-instant",
    messages: [{ role: "user", content: "Explain tides." }],
    ...fields,
  });
  return fetch(`${url}/v1/chat/completions`, { method: "POST", body, ...init });
}

/** @param {string} prompt */
const says = (prompt) => ({ messages: [{ role: "user", content: prompt }] });

/** @param {string} body */
function events(body) {
  return body
    .split("\n\n")
    .filter((event) => event.startsWith("data: ") && event !== "data: [DONE]")
    .map((event) => JSON.parse(event.slice(6)));
}

/** @param {any[]} chunks */
const textOf = (chunks) => chunks.map((chunk) => chunk.choices?.[0]?.delta.content ?? "").join("");

/** @returns {Promise<any>} the newest entry of the request log, once `ready` holds for it */
async function newest(/** @type {(entry: any) => boolean} */ ready) {
  for (;;) {
    const { requests } = /** @type {any} */ (await (await fetch(`${url}/requests`)).json());
    if (ready(requests.at(-1))) return requests.at(-1);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("an agent", () => {
  const tool = {
    type: "function",
    function: { name: "t", parameters: { required: ["n"], properties: { n: { type: "integer" } } } },
  };
  const asked = { ...says("Go. [[script: agent turns=2 calls=2 stall=2 key=one]]"), tools: [tool] };

  it("asks for tools, the same in a stream and in one piece, and stalls where it is told to, once", async () => {
    const chunks = events(await (await ask({ ...asked, stream: true })).text());
    const whole = /** @type {any} */ (await (await ask(asked)).json());
    expect(chunks.at(-1).choices[0].finish_reason).toBe("tool_calls");
    expect(whole.choices[0].finish_reason).toBe("tool_calls");
    const pieces = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
    const text = (/** @type {number} */ at) =>
      pieces
        .filter(({ index }) => index === at)
        .map((piece) => piece.function.arguments)
        .join("");
    expect([text(0), text(1)]).toEqual(['{"n":1}', '{"n":2}']);
    expect(
      whole.choices[0].message.tool_calls.map((/** @type {any} */ call) => call.function.arguments),
    ).toEqual([text(0), text(1)]);

    const messages = [...asked.messages, { role: "assistant", content: null }];
    const leave = new AbortController();
    const stalled = await ask({ ...asked, messages, stream: true }, { signal: leave.signal });
    expect(await newest((entry) => entry.turn === 2 && entry.chunks === 3)).toMatchObject({ done: false });
    leave.abort();
    await stalled.body?.cancel().catch(() => {});
    const again = events(await (await ask({ ...asked, messages, stream: true })).text());
    expect(textOf(again)).toBe("All 2 turns are done.");
  });
});

describe("a stream", () => {
  it("carries the same text and usage as the answer in one piece", async () => {
    const whole = /** @type {any} */ (await (await ask({})).json());
    const response = await ask({ stream: true, stream_options: { include_usage: true } });
    const body = await response.text();
    const chunks = events(body);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    expect(textOf(chunks)).toBe(whole.choices[0].message.content);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
    expect(chunks.at(-2).choices[0].finish_reason).toBe("stop");
    expect(chunks[0].choices[0].delta.role).toBe("assistant");
    expect(whole.usage.completion_tokens).toBe(chunks.length - 2);
    expect(body.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  it("tells no usage unless it is asked to", async () => {
    const chunks = events(await (await ask({ stream: true })).text());
    expect(chunks.every((chunk) => !("usage" in chunk) && chunk.choices.length === 1)).toBe(true);
  });

  it.each(["max_tokens", "max_completion_tokens"])("ends with `length` at %s", async (field) => {
    const chunks = events(await (await ask({ stream: true, [field]: 3 })).text());
    expect(chunks.at(-1).choices[0].finish_reason).toBe("length");
    expect(chunks).toHaveLength(4);
  });

  it("ends without a finish reason when truncated, and with an error object when it fails", async () => {
    const cut = await (await ask({ stream: true, ...says("[[script: truncate after=2 first=0]]") })).text();
    expect(events(cut).map((chunk) => chunk.choices[0].finish_reason)).toEqual([null, null]);
    expect(cut).not.toContain("[DONE]");
    const failed = await (await ask({ stream: true, ...says("[[script: error after=1 first=0]]") })).text();
    expect(events(failed)[1].error.code).toBe(502);
    expect(failed).not.toContain("[DONE]");
  });

  it("sends comments and no token, and the log tells when the client has left", async () => {
    const leave = new AbortController();
    const response = await ask(
      { stream: true, ...says("[[script: comments every=5]]") },
      { signal: leave.signal },
    );
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    for (let count = 0; count < 3; count++) {
      const { value } = await reader.read();
      expect(new TextDecoder().decode(value)).toMatch(/^(: keep-alive\n\n)+$/);
    }
    expect(await newest((entry) => entry.script === "comments")).toMatchObject({
      status: 200,
      done: false,
      chunks: 0,
    });
    leave.abort();
    expect(await newest((entry) => entry.done)).toMatchObject({ aborted: true });
  });

  it("stalls after its tokens until the client leaves", async () => {
    const leave = new AbortController();
    await ask({ stream: true, ...says("[[script: stall after=2 first=0]]") }, { signal: leave.signal });
    expect(await newest((entry) => entry.chunks === 2)).toMatchObject({ script: "stall", done: false });
    leave.abort();
    expect(await newest((entry) => entry.done)).toMatchObject({ aborted: true, chunks: 2 });
  });

  it("reaches 500 clients at once, each in full", async () => {
    const bodies = await Promise.all(
      Array.from({ length: 500 }, async () =>
        (await ask({ model: "scripted-bench-10x5ms", stream: true })).text(),
      ),
    );
    expect(new Set(bodies.map((body) => textOf(events(body)))).size).toBe(1);
    expect(textOf(events(bodies[0] ?? ""))).toBe(
      "1     2     3     4     5     6     7     8     9     10    ",
    );
  });

  it("waits for a client that reads slowly instead of gathering the text", async () => {
    const response = await ask({ stream: true, ...says("[[script: chunks n=600 bytes=65536 every=0]]") });
    const stuck = await newest((entry) => entry.chunks > 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect((await newest(() => true)).id).toBe(stuck.id);
    expect((await newest(() => true)).chunks).toBeLessThan(400); // the sockets hold a few MB of the 39
    expect(events(await response.text())).toHaveLength(601);
    expect(await newest((entry) => entry.done)).toMatchObject({ aborted: false, chunks: 600 });
  });
});

describe("a scripted failure", () => {
  it("fails the stated number of times for its key and then succeeds", async () => {
    const request = says("Tides. [[script: fail key=twice times=2 status=500 first=0 every=0]]");
    const statuses = [];
    for (let count = 0; count < 3; count++) statuses.push((await ask(request)).status);
    expect(statuses).toEqual([500, 500, 200]);
  });

  it("counts by model and messages where no key is given", async () => {
    const [one, two] = [
      says("One. [[script: fail first=0 every=0]]"),
      says("Two. [[script: fail first=0 every=0]]"),
    ];
    expect((await ask(one)).status).toBe(503);
    expect((await ask({ ...one, model: "scripted-fail" })).status).toBe(503);
    expect((await ask(two)).status).toBe(503);
    expect((await ask(one)).status).toBe(200);
  });

  it("limits the rate with Retry-After", async () => {
    const response = await ask(says("[[script: rate-limit key=slow after=7]]"));
    expect([response.status, response.headers.get("retry-after")]).toEqual([429, "7"]);
    expect(await response.json()).toMatchObject({ error: { code: "rate_limit_exceeded" } });
  });

  it("is an HTTP error or a broken connection where the answer comes in one piece", async () => {
    expect((await ask(says("[[script: error first=0]]"))).status).toBe(502);
    await expect(ask(says("[[script: truncate first=0]]"))).rejects.toThrow();
  });
});

describe("a bad request", () => {
  it.each([
    [{ model: "gpt-4o" }, 404, /no model 'gpt-4o'/],
    [{ model: 5 }, 400, /'model' must be a text/],
    [{ messages: [] }, 400, /'messages' must be a list/],
    [{ messages: ["hello"] }, 400, /messages\[0\] must be an object with a 'role'/],
    [{ messages: [{ role: "user", content: 5 }] }, 400, /messages\[0\]\.content must be a text/],
    [{ max_tokens: 0 }, 400, /'max_tokens' must be a whole number/],
    [says("[[script: dance]]"), 400, /No script is called 'dance'/],
  ])("%j is told what is wrong", async (fields, status, reason) => {
    const response = await ask(fields);
    expect(response.status).toBe(status);
    expect(/** @type {any} */ (await response.json()).error.message).toMatch(reason);
  });

  it("is refused when it is not JSON, or larger than 8 MiB", async () => {
    expect((await ask({}, { body: "{" })).status).toBe(400);
    const most = 8 * 1024 * 1024;
    const filled = (/** @type {number} */ bytes) => "{}".padEnd(bytes, " ");
    expect((await ask({}, { body: filled(most) })).status).toBe(400); // read, and found to lack a model
    expect((await ask({}, { body: filled(most + 1) })).status).toBe(413);
  });

  it("to an unknown path names the page that tells what there is", async () => {
    const response = await fetch(`${url}/v1/embeddings`);
    expect(response.status).toBe(404);
    expect(/** @type {any} */ (await response.json()).error.message).toContain("GET /");
  });
});

it("says what it is in its page, its header, its fingerprint and its models' names", async () => {
  const page = await fetch(`${url}/`);
  expect(await page.text()).toContain("It is not a language model");
  expect(page.headers.get("server")).toBe("scripted-model-server");
  expect(await (await ask({})).json()).toMatchObject({ system_fingerprint: "scripted-model-server" });
  const models = /** @type {any} */ (await (await fetch(`${url}/v1/models`)).json()).data;
  expect(models.length).toBeGreaterThan(5);
  expect(models.every((/** @type {any} */ model) => model.id.startsWith("scripted-"))).toBe(true);
  for (const { id } of models) {
    const prompt = { role: "user", content: "[[script: write first=0 every=0]]" };
    expect((await ask({ model: id, messages: [prompt] })).status).toBe(200);
  }
});

it("reads messages whose content is a list of parts", async () => {
  const parts = [{ type: "text", text: "Explain " }, { type: "image_url" }, { type: "text", text: "tides." }];
  const [listed, plain] = await Promise.all([ask({ messages: [{ role: "user", content: parts }] }), ask({})]);
  expect(/** @type {any} */ (await listed.json()).choices).toEqual(
    /** @type {any} */ (await plain.json()).choices,
  );
});

describe("the program", () => {
  /** @param {string[]} args */
  function run(args) {
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let errors = "";
    child.stderr.on("data", (part) => (errors += part));
    return { child, ended: once(child, "close").then(([code]) => ({ code, errors })) };
  }

  it("prints one readiness line and leaves with 0 on SIGTERM, also in mid-stream", async () => {
    const { child, ended } = run(["--port", "0"]);
    const [line] = await once(child.stdout, "data");
    const ready = JSON.parse(line);
    expect(ready).toMatchObject({ ready: true, server: "scripted-model-server", pid: child.pid });
    const body = JSON.stringify({ model: "scripted-stall", stream: true, ...says("Tides.") });
    await fetch(`${ready.baseUrl}/chat/completions`, { method: "POST", body });
    child.kill("SIGTERM");
    expect(await ended).toEqual({ code: 0, errors: "" });
  });

  it("says in one line that its port is in use", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = /** @type {import("node:net").AddressInfo} */ (other.address());
    const { code, errors } = await run(["--port", String(port)]).ended;
    other.close();
    expect(code).toBe(1);
    expect(errors).toBe(
      `scripted-model-server: port ${port} is in use; give another with --port, or 0 for a free one\n`,
    );
  });

  it.each([
    [["--port", "65536"], "--port takes a number from 0 to 65535, not '65536'"],
    [["--colour"], "Unknown option '--colour'"],
  ])("refuses %j with code 2 and one line", async (args, reason) => {
    const { code, errors } = await run(args).ended;
    expect(code).toBe(2);
    expect(errors.trimEnd().split("\n")).toHaveLength(1);
    expect(errors).toContain(reason);
  });
});
