import { describe, expect, test } from "vitest";
import { flaw, secretsOf, signed, TOLERANCE_MS } from "./signing";

// The example of the Standard Webhooks specification.
const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcg==";
const ID = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT = 1_614_265_330_000;
const BODY = '{"test": 2432232314}';

const sign = async (secret = SECRET, id = ID, body = BODY, now = AT) => {
  const headers = await signed(secretsOf(secret)!, id, body, now);
  return {
    id: headers["webhook-id"]!,
    timestamp: headers["webhook-timestamp"]!,
    signature: headers["webhook-signature"]!,
  };
};
const check = async (changes: object = {}, body = BODY, now = AT, secrets = SECRET) =>
  flaw(secretsOf(secrets)!, { ...(await sign()), ...changes }, body, now);

describe("signatures", () => {
  test("agree with the specification's example", async () => {
    expect((await sign()).signature).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    expect(await check()).toBeNull();
  });

  test("one of several holds, under one of several secrets", async () => {
    const { signature } = await sign();
    expect(await check({ signature: `v1a,x v1,AAAA ${signature}` })).toBeNull();
    expect(await check({}, BODY, AT, `${OTHER} ${SECRET}`)).toBeNull();
    expect(await check({}, BODY, AT, OTHER)).toContain("does not match");
  });

  test("hold within five minutes either way", async () => {
    for (const side of [-1, 1]) {
      expect(await check({}, BODY, AT + side * TOLERANCE_MS)).toBeNull();
      expect(await check({}, BODY, AT + side * (TOLERANCE_MS + 1))).toContain("tolerance");
    }
  });

  test.each([
    ["another body", {}, '{"test":2432232314}', "does not match"],
    ["another id", { id: "msg_other" }, BODY, "does not match"],
    ["another time", { timestamp: "1614265331" }, BODY, "does not match"],
    ["no id", { id: null }, BODY, "webhook-id"],
    ["an id with a dot", { id: "a.1614265330" }, BODY, "webhook-id"],
    ["a long id", { id: "a".repeat(129) }, BODY, "webhook-id"],
    ["no time", { timestamp: null }, BODY, "webhook-timestamp"],
    ["a time that is none", { timestamp: "now" }, BODY, "webhook-timestamp"],
    ["a negative time", { timestamp: "-1" }, BODY, "webhook-timestamp"],
    ["no signature", { signature: null }, BODY, "webhook-signature"],
    ["an empty signature", { signature: "" }, BODY, "does not match"],
    ["a signature of another kind", { signature: "v2,AAAA" }, BODY, "does not match"],
    ["base64 that is none", { signature: "v1,%%%" }, BODY, "does not match"],
  ])("do not hold with %s", async (_, changes, body, reason) => {
    expect(await check(changes, body)).toContain(reason);
  });
});

test.each([
  [undefined, false],
  ["", false],
  ["secret", false],
  ["whsec_", false],
  ["whsec_%%%%", false],
  [`whsec_${btoa("a".repeat(23))}`, false],
  [`whsec_${btoa("a".repeat(24))}`, true],
  [`whsec_${btoa("a".repeat(64))}`, true],
  [`whsec_${btoa("a".repeat(65))}`, false],
  [`${SECRET} ${OTHER}`, true],
  [`${SECRET} other`, false],
])("%s is a secret: %s", (text, holds) => expect(secretsOf(text) !== null).toBe(holds));
