/** Tells what functions declare in the words of Convex's deployment API. */

/**
 * @typedef {import("../engine/runtime.mjs").Declared} Declared
 * @typedef {Declared["functions"][number]} DeclaredFunction
 */

/** @type {Record<DeclaredFunction["kind"], "Query" | "Mutation" | "Action">} */
const KINDS = { query: "Query", mutation: "Mutation", action: "Action" };
const HTTP_MODULE = "http";

/**
 * What each function takes and gives, and the routes of HTTP actions: the answer of `_system/cli/modules:apiSpec`.
 *
 * @param {Declared} declared
 * @returns {Record<string, unknown>[]}
 */
export function apiSpec({ functions, routes }) {
  return [
    ...functions.map(({ path, kind, visibility, args, returns }) => ({
      identifier: path.replace(/:([^:]*)$/, ".js:$1"),
      functionType: KINDS[kind],
      visibility: { kind: visibility },
      args: args ?? { type: "any" },
      returns: returns ?? { type: "any" },
    })),
    ...routes.map(({ path, method }) => ({ functionType: "HttpAction", method, path })),
  ];
}

/**
 * What the modules were found to hold: the `analysis` of an app in the answer to a push.
 *
 * @param {Declared} declared
 * @param {readonly string[]} modules  paths
 * @param {string} serverVersion  of npm `convex`, as the client gave it
 * @param {number} now  ms since the epoch
 */
export function analysis({ functions, routes, schema, crons, config }, modules, serverVersion, now) {
  const entries = modules
    .filter((module) => !/(^|\/)(schema|[^/]*\.config)$/.test(module))
    .map((module) => [
      `${module}.js`,
      {
        functions: functions.filter(({ path }) => path.startsWith(`${module}:`)).map(analyzedFunction),
        httpRoutes: module === HTTP_MODULE ? routes.map((route) => ({ route, pos: null })) : null,
        cronSpecs: module === "crons" && crons !== null ? Object.entries(JSON.parse(crons)) : null,
        sourceMapped: null,
      },
    ]);
  return {
    definition: {
      path: "",
      definitionType: { type: "app" },
      childComponents: [],
      httpMounts: {},
      exports: { type: "branch", branch: [] },
      ...(config?.httpPrefix === undefined ? {} : { httpPrefix: config.httpPrefix }),
      ...(config?.envVars === undefined ? {} : { envVars: config.envVars }),
    },
    schema: schema === null ? null : JSON.parse(schema),
    functions: Object.fromEntries(entries),
    udfConfig: {
      serverVersion,
      importPhaseRngSeed: { $bytes: Buffer.alloc(32).toString("base64") },
      importPhaseUnixTimestamp: { $integer: int64(BigInt(Math.trunc(now)) * 1_000_000n) },
    },
  };
}

/** @param {DeclaredFunction} declared */
function analyzedFunction({ path, kind, visibility, args, returns }) {
  return {
    name: path.slice(path.lastIndexOf(":") + 1),
    pos: null,
    udfType: KINDS[kind],
    visibility: { kind: visibility },
    args: JSON.stringify(args ?? { type: "any" }),
    returns: JSON.stringify(returns ?? { type: "any" }),
  };
}

/** @param {bigint} value @returns {string} base64 of 8 bytes */
function int64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return bytes.toString("base64");
}
