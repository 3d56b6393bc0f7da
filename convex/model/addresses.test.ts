import { describe, expect, test } from "vitest";
import addresses from "../../tests/data/addresses.json"; // the tools of the worker keep to the same rules
import { checkAddress } from "./addresses";

const long = (chars: number) => `https://agents.example.com/${"a".repeat(chars - 27)}`;

describe("addresses that may be called", () => {
  test.each([...addresses.called, [long(1024), long(1024)]] as [string, string][])("%s", (given, kept) =>
    expect(checkAddress("url", given, false)).toBe(kept),
  );

  test.each(addresses.loopback)("%s, where one machine holds both", (given) => {
    expect(checkAddress("url", given, true)).toBe(given);
    expect(() => checkAddress("url", given, false)).toThrow("SIGNALBOX_PUSH_INSECURE");
  });
});

describe("addresses that may not be called, with or without the loopback allowed", () => {
  test.each([
    ...(addresses.refused as [string, string][]),
    [`https://${"a".repeat(64)}.example.com/`, "malformed"],
    [`https://${`${"a".repeat(60)}.`.repeat(5)}example.com/`, "at most 253"],
    [long(1025), "at most 1024"],
  ])("%s: %s", (given, reason) => {
    for (const insecure of [false, true]) {
      expect(() => checkAddress("endpoints.url", given, insecure)).toThrow(`endpoints.url: `);
      expect(() => checkAddress("endpoints.url", given, insecure)).toThrow(reason);
    }
  });
});
