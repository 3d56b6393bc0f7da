/** Inputs and outputs up to their limit, and how they are read. */
import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import { INLINE_BYTES, MAX_PAYLOAD_BYTES, MAX_SUBMIT_BYTES, MAX_TEXT_BYTES } from "./constants";
import { inParts, utf8Bytes } from "./model/text";
import { KEYS, useDeployment } from "./setup.testing";

const at = useDeployment();

/** JSON text of that many bytes. */
const json = (bytes: number) => `"${"x".repeat(bytes - 2)}"`;

async function whole(task: string, of: "input" | "output") {
  const texts: string[] = [];
  for (let parts = 1; texts.length < parts;) {
    const part = await at.t.query(api.tasks.part, { key: KEYS.submit, task, of, index: texts.length });
    ({ parts } = part!);
    texts.push(part!.text);
  }
  expect(await at.t.query(api.tasks.part, { key: KEYS.submit, task, of, index: texts.length })).toBeNull();
  return texts;
}

async function begun(input = "null") {
  const worker = await at.worker();
  const task = await at.submit({ input });
  await at.pass();
  const { run, input: given } = (await worker.inbox()).assigned[0]!;
  const upload = (text: string) =>
    at.t.mutation(api.worker.output, { key: KEYS.worker, session: worker.session, run, text });
  return { worker, task, run, given, upload };
}

describe("parts", () => {
  test.each([
    ["nothing", "", 4],
    ["what fits", "abcd", 4],
    ["one more", "abcde", 4],
    ["two-byte characters", "éééé", 5],
    ["pairs", "😀😀😀", 4],
    ["pairs that do not fill a part", "a😀b😀c", 5],
    ["a mix", "aé€😀".repeat(50), 17],
  ])("%s: no part is too large, none cuts a character, together they are the text", (_, text, bytes) => {
    const parts = inParts(text, bytes);
    expect(parts.join("")).toBe(text);
    for (const part of parts) {
      expect(utf8Bytes(part)).toBeLessThanOrEqual(bytes);
      expect(new TextDecoder().decode(new TextEncoder().encode(part))).toBe(part);
    }
    expect(parts.length).toBeLessThanOrEqual(Math.max(1, Math.ceil(utf8Bytes(text) / (bytes - 3))));
  });
});

describe("an input", () => {
  test.each([
    ["inline", INLINE_BYTES, 1],
    ["one part", INLINE_BYTES + 1, 1],
    ["a full part", MAX_TEXT_BYTES, 1],
    ["two parts", MAX_TEXT_BYTES + 1, 2],
    ["the largest", MAX_PAYLOAD_BYTES, 9],
  ])("of %s reaches the worker whole", async (_, bytes, parts) => {
    const input = json(bytes);
    const { worker, task, run, given } = await begun(input);
    expect(given).toBe(bytes <= INLINE_BYTES ? input : null);
    const args = { key: KEYS.worker, session: worker.session, run };
    expect((await at.t.query(api.worker.input, args)) === input).toBe(true);
    const texts = await whole(task, "input");
    expect(texts).toHaveLength(parts);
    expect(texts.join("") === input).toBe(true);
  });

  test("of a call is bounded together too", async () => {
    const submit = (...sizes: number[]) =>
      at.t.mutation(api.tasks.submit, {
        key: KEYS.submit,
        tasks: sizes.map((size) => ({ agent: "echo", input: json(size) })),
      });
    const half = MAX_SUBMIT_BYTES / 2;
    await expect(submit(half, half + 1)).rejects.toThrow(`${MAX_SUBMIT_BYTES + 1} characters of input`);
    expect(await submit(half, half)).toMatchObject([{ ok: true }, { ok: true }]);
  });
});

describe("an output", () => {
  test.each([
    ["of a full part", MAX_TEXT_BYTES, 1],
    ["the largest", MAX_PAYLOAD_BYTES, 9],
  ])("%s is uploaded ahead of the end and read in parts", async (_, bytes, parts) => {
    const { worker, task, run, upload } = await begun();
    const output = json(bytes);
    await upload(output);
    await upload('"again"'); // the answer was lost
    expect(await at.task(task)).toMatchObject({ status: "running", output: null, largeOutput: false });
    await worker.finish(run);
    const seen = await at.task(task);
    expect(seen).toMatchObject({ status: "succeeded", largeOutput: parts > 1 });
    expect(seen.output === (parts > 1 ? null : output)).toBe(true);
    expect((await whole(task, "output")).join("") === output).toBe(true);
    const { tasks } = await at.t.query(api.tasks.list, { key: KEYS.submit });
    expect(tasks[0]).toMatchObject({ output: null, largeOutput: true });
    await expect(upload("1")).rejects.toThrow("session_ended");
  });

  test("over the limit, or that is no JSON, is refused and its size named", async () => {
    const { upload } = await begun();
    await expect(upload(json(MAX_PAYLOAD_BYTES + 1))).rejects.toThrow(
      "output: 8388609 bytes; at most 8388608",
    );
    await expect(upload("[".repeat(200_000))).rejects.toThrow("output: not JSON");
    await expect(upload("nope")).rejects.toThrow("output: not JSON");
  });

  test("that was uploaded by a run which then failed is not the task's", async () => {
    const { worker, task, run, upload } = await begun();
    await upload('"early"');
    const error = { code: "late", message: "after all" };
    await worker.finish(run, { kind: "failed", error, retryable: true, notBeforeMs: 0 });
    await at.pass(1_500);
    const [again] = (await worker.inbox()).assigned;
    await worker.finish(again!.run, { kind: "succeeded", output: "2" });
    expect(await at.task(task)).toMatchObject({ status: "succeeded", output: "2", largeOutput: false });
  });

  test("that is none leaves nothing to read", async () => {
    const { worker, task, run } = await begun();
    await worker.finish(run);
    expect(await at.task(task)).toMatchObject({ output: null, largeOutput: false });
    const part = { key: KEYS.submit, task, of: "output" as const, index: 0 };
    expect(await at.t.query(api.tasks.part, part)).toBeNull();
  });
});
