import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { DEVELOPMENT_ADMIN_KEY } from "./admin-key.mjs";
import { parseOptions, UsageError } from "./options.mjs";

test("without flags the host serves ./convex on the loopback address with the development key", () => {
  expect(parseOptions([], "/app")).toEqual({
    functions: "/app/convex",
    explicit: false,
    watch: true,
    data: "/app/.signalbox/host",
    port: 3210,
    sitePort: 3211,
    host: "127.0.0.1",
    adminKey: DEVELOPMENT_ADMIN_KEY,
    synchronous: "normal",
    record: false,
    strict: false,
    dashboard: fileURLToPath(new URL("../dashboard/dist", import.meta.url)),
  });
});

test("every flag is read, and both ports may be free ones", () => {
  const argv = ["--functions", "f", "--data", "/d", "--port", "0", "--site-port=0", "--host", "0.0.0.0"];
  expect(
    parseOptions(
      [
        ...argv,
        "--admin-key",
        "own",
        "--synchronous",
        "full",
        "--no-watch",
        "--strict",
        "--dashboard",
        "none",
      ],
      "/app",
    ),
  ).toEqual({
    functions: "/app/f",
    explicit: true,
    watch: false,
    data: "/d",
    port: 0,
    sitePort: 0,
    host: "0.0.0.0",
    adminKey: "own",
    synchronous: "full",
    record: false,
    strict: true,
    dashboard: null,
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
  [["--admin-key", "own|"], /--admin-key has nothing behind its '|'/],
  [["--host", "0.0.0.0"], /development admin key lets anybody in/],
  [
    ["--host", "0.0.0.0", "--admin-key", "own|development-admin-key"],
    /development admin key lets anybody in/,
  ],
])("%j is refused with one line", (argv, line) => {
  expect(() => parseOptions(argv, "/app")).toThrow(UsageError);
  expect(() => parseOptions(argv, "/app")).toThrow(line);
  expect(() => parseOptions(argv, "/app")).toThrow(/^[^\n]+$/);
});

test("the highest port is taken", () => {
  expect(parseOptions(["--port", "65535"], "/app").port).toBe(65535);
});

test.each([
  ["real", undefined],
  ["virtual", {}],
  ["virtual:2026-01-01", { startMs: Date.UTC(2026, 0, 1) }],
  ["virtual:2026-01-01T12:00:00+01:00", { startMs: Date.UTC(2026, 0, 1, 11) }],
  ["virtual:2262-01-01", { startMs: Date.UTC(2262, 0, 1) }],
])("--clock %s", (text, clock) => {
  expect(parseOptions(["--clock", text], "/app").clock).toEqual(clock);
});

test.each([
  "fast",
  "virtual:",
  "virtual:tomorrow",
  "virtual:2026-01-01T12:00:00",
  "virtual:2262-01-02",
  "virtual:1969-01-01",
])("--clock %s is refused", (text) => {
  expect(() => parseOptions(["--clock", text], "/app")).toThrow(
    new UsageError(`--clock takes real, virtual or virtual:2026-01-01T00:00:00Z, not '${text}'`),
  );
});

test.each([
  ["0", undefined],
  ["0.2", { rate: 0.2, seed: 1 }],
  [".5:7", { rate: 0.5, seed: 7 }],
  ["1:0", { rate: 1, seed: 0 }],
])("--conflicts %s", (text, conflicts) => {
  expect(parseOptions(["--conflicts", text], "/app").conflicts).toEqual(conflicts);
});

test.each(["1.01", "-0.1", "often", "0.2:", "0.2:x", "0.2:-1"])("--conflicts %s is refused", (text) => {
  expect(() => parseOptions([`--conflicts=${text}`], "/app")).toThrow(
    new UsageError(
      `--conflicts takes RATE or RATE:SEED, a share from 0 to 1 and a whole number, not '${text}'`,
    ),
  );
});

test("--faults and --record", () => {
  const { faults, record } = parseOptions(["--faults", "delay=20,drop=0.01", "--record"], "/app");
  expect({ faults, record }).toEqual({
    faults: { delay: 20, drop: 0.01, disconnect: 0, seed: 1 },
    record: true,
  });
  expect(() => parseOptions(["--faults", "drop=2"], "/app")).toThrow(
    new UsageError(
      "--faults takes delay=MS,drop=SHARE,disconnect=SHARE,seed=N: drop must be a share from 0 to 1",
    ),
  );
});
