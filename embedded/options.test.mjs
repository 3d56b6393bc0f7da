import { expect, test } from "vitest";
import { DEVELOPMENT_ADMIN_KEY } from "./auth.mjs";
import { parseOptions, UsageError } from "./options.mjs";

test("without flags the host serves ./convex on the loopback address with the development key", () => {
  expect(parseOptions([], "/app")).toEqual({
    functions: "/app/convex",
    watch: true,
    data: "/app/.signalbox/host",
    port: 3210,
    sitePort: 3211,
    host: "127.0.0.1",
    adminKey: DEVELOPMENT_ADMIN_KEY,
    synchronous: "normal",
  });
});

test("every flag is read, and both ports may be free ones", () => {
  const argv = ["--functions", "f", "--data", "/d", "--port", "0", "--site-port=0", "--host", "0.0.0.0"];
  expect(
    parseOptions([...argv, "--admin-key", "own", "--synchronous", "full", "--no-watch"], "/app"),
  ).toEqual({
    functions: "/app/f",
    watch: false,
    data: "/d",
    port: 0,
    sitePort: 0,
    host: "0.0.0.0",
    adminKey: "own",
    synchronous: "full",
  });
});

test.each([
  [["--unknown"], /--unknown.*flags: --functions/],
  [["stray"], /stray/],
  [["--port", "65536"], /--port takes a number from 0 to 65535, not '65536'/],
  [["--port", "-1"], /--port/],
  [["--site-port", "x"], /--site-port takes a number/],
  [["--port", "3211"], /both 3211/],
  [["--synchronous", "off"], /full or normal, not 'off'/],
  [["--functions", ""], /--functions must not be empty/],
  [["--admin-key", "a b"], /--admin-key must be printable ASCII/],
  [["--host", "0.0.0.0"], /development admin key lets anybody in/],
])("%j is refused with one line", (argv, line) => {
  expect(() => parseOptions(argv, "/app")).toThrow(UsageError);
  expect(() => parseOptions(argv, "/app")).toThrow(line);
  expect(() => parseOptions(argv, "/app")).toThrow(/^[^\n]+$/);
});

test("the highest port is taken", () => {
  expect(parseOptions(["--port", "65535"], "/app").port).toBe(65535);
});
