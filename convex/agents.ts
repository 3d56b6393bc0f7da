import { v } from "convex/values";
import { operatorMutation, viewerQuery } from "./functions";
import * as Agents from "./model/agents";
import { vAgentSpec, vExecutor, vLlm, vRetry, vRunKind } from "./validators";

export const sync = operatorMutation({
  args: { agents: v.array(vAgentSpec) },
  returns: v.array(v.object({ name: v.string(), changed: v.boolean() })),
  handler: (ctx, { agents }) => Agents.syncAgents(ctx, agents),
});

export const list = viewerQuery({
  args: {},
  returns: v.array(
    v.object({
      name: v.string(),
      kind: vRunKind,
      description: v.string(),
      llm: v.union(vLlm, v.null()),
      retry: vRetry,
      timeoutMs: v.union(v.number(), v.null()),
      capabilities: v.array(v.string()),
      executor: vExecutor,
    }),
  ),
  handler: async (ctx) =>
    (await Agents.listAgents(ctx)).map(
      ({ name, kind, description, llm, retry, timeoutMs, capabilities = [], executor }) => ({
        name,
        kind,
        description,
        llm,
        retry,
        timeoutMs,
        capabilities,
        executor: executor ?? { kind: "poll" as const },
      }),
    ),
});
