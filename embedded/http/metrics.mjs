/** `GET /metrics`: what the host counts, in Prometheus' text form. */

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/**
 * @param {Pick<import("../engine-client.mjs").EngineClient, "ask">} engine
 * @returns {Promise<string>}
 */
export async function metrics(engine) {
  const reply = await engine.ask({ op: "tally" });
  /** @type {{ kind: string, path: string, runs: number }[]} */
  const rows = reply.ok ? JSON.parse(reply.value) : [];
  return [
    "# HELP convex_function_calls_total Runs of a function as Convex would bill them, subscriptions included.",
    "# TYPE convex_function_calls_total counter",
    ...rows.map(
      ({ kind, path, runs }) => `convex_function_calls_total{kind="${kind}",path="${path}"} ${runs}`,
    ),
    "",
  ].join("\n");
}
