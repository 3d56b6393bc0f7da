import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { readBody, Unfinished } from "./body.mjs";

/** @returns {any} */
const request = () => Object.assign(new PassThrough(), { headers: {} });

test("bodies that have not come whole may hold so much together, and no more", async () => {
  const unfinished = new Unfinished(10);
  const [first, second, third] = [request(), request(), request()];
  const [whole, refused] = [readBody(first, 8, unfinished), readBody(second, 8, unfinished)];
  first.write("123456");
  second.write("1234");
  await expect.poll(() => unfinished.bytes).toBe(10);
  second.write("5");
  await expect(refused).rejects.toMatchObject({ status: 503, code: "TooManyConcurrentRequests" });
  first.end("78");
  expect(String(await whole)).toBe("12345678");
  expect(unfinished.bytes).toBe(0);
  const cutOff = readBody(third, 8, unfinished);
  third.write("123");
  await expect.poll(() => unfinished.bytes).toBe(3);
  third.destroy(new Error("gone"));
  await expect(cutOff).rejects.toMatchObject({ status: 400 });
  expect(unfinished.bytes).toBe(0);
});

test("a body may be as large as its limit, and not one byte larger", async () => {
  const unfinished = new Unfinished(100);
  for (const [text, outcome] of [
    ["12345678", "12345678"],
    ["123456789", 413],
  ]) {
    const sent = request();
    const read = readBody(sent, 8, unfinished).then(String, ({ status }) => status);
    sent.end(text);
    expect(await read).toBe(outcome);
    expect(unfinished.bytes).toBe(0);
  }
});
