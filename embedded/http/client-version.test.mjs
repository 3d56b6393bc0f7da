import { expect, test } from "vitest";
import {
  clientVersion,
  clientVersionInPath,
  defaultFormat,
  deprecation,
  takesChunks,
} from "./client-version.mjs";

test.each([
  ["npm-1.48.0", "npm", [1, 48, 0]],
  ["npm-cli-1.48.0", "npm-cli", [1, 48, 0]],
  ["python-convex-0.6.0", "python", [0, 6, 0]],
  ["python-0.8.1", "python", [0, 8, 1]],
  ["my-own-client-1.0.0-alpha.1", "my-own-client", [1, 0, 0]],
  ["actions-nightly", "actions", null],
])("%s is the client %s", (header, client, version) => {
  expect(clientVersion(header)).toMatchObject({ client, version });
});

test.each([
  ["npm-0.19.1", "Unsupported"],
  ["npm-0.19.2", undefined],
  ["npm-nightly", "Unsupported"],
  ["python-0.0.2", "Unsupported"],
  ["python-0.2.0", "UpgradeRequired"],
  ["python-0.2.1", undefined],
  ["rust-0.0.1", "Unsupported"],
  ["rust-0.10.4", undefined],
  ["swift-0.0.1", undefined],
])("%s is %s", (header, state) => {
  expect(deprecation(clientVersion(header))?.state).toBe(state);
});

test.each([
  ["npm-1.4.0", "convex_encoded_json"],
  ["npm-1.4.1", "json"],
  ["python-0.4.9", "convex_encoded_json"],
  [undefined, "json"],
])("%s is answered in the format %s", (header, format) => {
  expect(defaultFormat(clientVersion(header))).toBe(format);
});

test("only npm clients that put chunks together get them", () => {
  expect(["npm-1.27.9", "npm-1.28.0", "python-1.28.0"].map((one) => takesChunks(clientVersion(one)))).toEqual(
    [false, true, false],
  );
  expect(takesChunks(clientVersionInPath("1.48.0"))).toBe(true);
});

test.each([() => clientVersion("npm"), () => clientVersionInPath("banana")])(
  "what is no version is a 400",
  (read) => {
    expect(read).toThrow(expect.objectContaining({ status: 400, code: "InvalidClientVersion" }));
  },
);
