/* eslint-disable */
/**
 * Generated `api` utility.
 *
 * THIS CODE IS AUTOMATICALLY GENERATED.
 *
 * To regenerate, run `npx convex dev`.
 * @module
 */

import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from "convex/server";
import type * as agents from "../agents.js";
import type * as approvals from "../approvals.js";
import type * as autoscale from "../autoscale.js";
import type * as budgets from "../budgets.js";
import type * as callbacks from "../callbacks.js";
import type * as constants from "../constants.js";
import type * as crons from "../crons.js";
import type * as dashboard from "../dashboard.js";
import type * as dispatch from "../dispatch.js";
import type * as endpoints from "../endpoints.js";
import type * as errors from "../errors.js";
import type * as events from "../events.js";
import type * as functions from "../functions.js";
import type * as groups from "../groups.js";
import type * as health from "../health.js";
import type * as http from "../http.js";
import type * as limits from "../limits.js";
import type * as model_addresses from "../model/addresses.js";
import type * as model_after from "../model/after.js";
import type * as model_agents from "../model/agents.js";
import type * as model_alarms from "../model/alarms.js";
import type * as model_allot from "../model/allot.js";
import type * as model_answers from "../model/answers.js";
import type * as model_approvals from "../model/approvals.js";
import type * as model_archive from "../model/archive.js";
import type * as model_asking from "../model/asking.js";
import type * as model_attending from "../model/attending.js";
import type * as model_autoscale from "../model/autoscale.js";
import type * as model_budgets from "../model/budgets.js";
import type * as model_bulk from "../model/bulk.js";
import type * as model_calling from "../model/calling.js";
import type * as model_cancelling from "../model/cancelling.js";
import type * as model_capabilities from "../model/capabilities.js";
import type * as model_catchup from "../model/catchup.js";
import type * as model_children from "../model/children.js";
import type * as model_collect from "../model/collect.js";
import type * as model_compare from "../model/compare.js";
import type * as model_controls from "../model/controls.js";
import type * as model_cooling from "../model/cooling.js";
import type * as model_counters from "../model/counters.js";
import type * as model_cron from "../model/cron.js";
import type * as model_dashboard from "../model/dashboard.js";
import type * as model_deadlines from "../model/deadlines.js";
import type * as model_deps from "../model/deps.js";
import type * as model_draws from "../model/draws.js";
import type * as model_endpoints from "../model/endpoints.js";
import type * as model_events from "../model/events.js";
import type * as model_expiry from "../model/expiry.js";
import type * as model_explain from "../model/explain.js";
import type * as model_forks from "../model/forks.js";
import type * as model_groups from "../model/groups.js";
import type * as model_json from "../model/json.js";
import type * as model_keeping from "../model/keeping.js";
import type * as model_keys from "../model/keys.js";
import type * as model_limits from "../model/limits.js";
import type * as model_lines from "../model/lines.js";
import type * as model_links from "../model/links.js";
import type * as model_llm from "../model/llm.js";
import type * as model_look from "../model/look.js";
import type * as model_loops from "../model/loops.js";
import type * as model_modelReports from "../model/modelReports.js";
import type * as model_models from "../model/models.js";
import type * as model_nonces from "../model/nonces.js";
import type * as model_numbers from "../model/numbers.js";
import type * as model_outputs from "../model/outputs.js";
import type * as model_owned from "../model/owned.js";
import type * as model_periods from "../model/periods.js";
import type * as model_plan from "../model/plan.js";
import type * as model_progress from "../model/progress.js";
import type * as model_purse from "../model/purse.js";
import type * as model_push from "../model/push.js";
import type * as model_redo from "../model/redo.js";
import type * as model_registration from "../model/registration.js";
import type * as model_reports from "../model/reports.js";
import type * as model_restart from "../model/restart.js";
import type * as model_retention from "../model/retention.js";
import type * as model_retry from "../model/retry.js";
import type * as model_ring from "../model/ring.js";
import type * as model_rollup from "../model/rollup.js";
import type * as model_room from "../model/room.js";
import type * as model_rules from "../model/rules.js";
import type * as model_runs from "../model/runs.js";
import type * as model_sandbox from "../model/sandbox.js";
import type * as model_schedules from "../model/schedules.js";
import type * as model_scope from "../model/scope.js";
import type * as model_send from "../model/send.js";
import type * as model_sessions from "../model/sessions.js";
import type * as model_settlements from "../model/settlements.js";
import type * as model_sharedTexts from "../model/sharedTexts.js";
import type * as model_shares from "../model/shares.js";
import type * as model_signals from "../model/signals.js";
import type * as model_signing from "../model/signing.js";
import type * as model_spawn from "../model/spawn.js";
import type * as model_steer from "../model/steer.js";
import type * as model_steps from "../model/steps.js";
import type * as model_stickies from "../model/stickies.js";
import type * as model_submit from "../model/submit.js";
import type * as model_sync from "../model/sync.js";
import type * as model_tasks from "../model/tasks.js";
import type * as model_templates from "../model/templates.js";
import type * as model_text from "../model/text.js";
import type * as model_triggers from "../model/triggers.js";
import type * as model_upkeep from "../model/upkeep.js";
import type * as model_usage from "../model/usage.js";
import type * as model_versions from "../model/versions.js";
import type * as model_waiting from "../model/waiting.js";
import type * as model_waits from "../model/waits.js";
import type * as model_webhooks from "../model/webhooks.js";
import type * as model_why from "../model/why.js";
import type * as modelLoop from "../modelLoop.js";
import type * as models from "../models.js";
import type * as operator from "../operator.js";
import type * as push from "../push.js";
import type * as runs from "../runs.js";
import type * as schedules from "../schedules.js";
import type * as settle from "../settle.js";
import type * as spawns from "../spawns.js";
import type * as stats from "../stats.js";
import type * as tasks from "../tasks.js";
import type * as timers from "../timers.js";
import type * as triggers from "../triggers.js";
import type * as upkeep from "../upkeep.js";
import type * as validators from "../validators.js";
import type * as webhooks from "../webhooks.js";
import type * as worker from "../worker.js";

/**
 * A utility for referencing Convex functions in your app's API.
 *
 * Usage:
 * ```js
 * const myFunctionReference = api.myModule.myFunction;
 * ```
 */
declare const fullApi: ApiFromModules<{
  agents: typeof agents;
  approvals: typeof approvals;
  autoscale: typeof autoscale;
  budgets: typeof budgets;
  callbacks: typeof callbacks;
  constants: typeof constants;
  crons: typeof crons;
  dashboard: typeof dashboard;
  dispatch: typeof dispatch;
  endpoints: typeof endpoints;
  errors: typeof errors;
  events: typeof events;
  functions: typeof functions;
  groups: typeof groups;
  health: typeof health;
  http: typeof http;
  limits: typeof limits;
  "model/addresses": typeof model_addresses;
  "model/after": typeof model_after;
  "model/agents": typeof model_agents;
  "model/alarms": typeof model_alarms;
  "model/allot": typeof model_allot;
  "model/answers": typeof model_answers;
  "model/approvals": typeof model_approvals;
  "model/archive": typeof model_archive;
  "model/asking": typeof model_asking;
  "model/attending": typeof model_attending;
  "model/autoscale": typeof model_autoscale;
  "model/budgets": typeof model_budgets;
  "model/bulk": typeof model_bulk;
  "model/calling": typeof model_calling;
  "model/cancelling": typeof model_cancelling;
  "model/capabilities": typeof model_capabilities;
  "model/catchup": typeof model_catchup;
  "model/children": typeof model_children;
  "model/collect": typeof model_collect;
  "model/compare": typeof model_compare;
  "model/controls": typeof model_controls;
  "model/cooling": typeof model_cooling;
  "model/counters": typeof model_counters;
  "model/cron": typeof model_cron;
  "model/dashboard": typeof model_dashboard;
  "model/deadlines": typeof model_deadlines;
  "model/deps": typeof model_deps;
  "model/draws": typeof model_draws;
  "model/endpoints": typeof model_endpoints;
  "model/events": typeof model_events;
  "model/expiry": typeof model_expiry;
  "model/explain": typeof model_explain;
  "model/forks": typeof model_forks;
  "model/groups": typeof model_groups;
  "model/json": typeof model_json;
  "model/keeping": typeof model_keeping;
  "model/keys": typeof model_keys;
  "model/limits": typeof model_limits;
  "model/lines": typeof model_lines;
  "model/links": typeof model_links;
  "model/llm": typeof model_llm;
  "model/look": typeof model_look;
  "model/loops": typeof model_loops;
  "model/modelReports": typeof model_modelReports;
  "model/models": typeof model_models;
  "model/nonces": typeof model_nonces;
  "model/numbers": typeof model_numbers;
  "model/outputs": typeof model_outputs;
  "model/owned": typeof model_owned;
  "model/periods": typeof model_periods;
  "model/plan": typeof model_plan;
  "model/progress": typeof model_progress;
  "model/purse": typeof model_purse;
  "model/push": typeof model_push;
  "model/redo": typeof model_redo;
  "model/registration": typeof model_registration;
  "model/reports": typeof model_reports;
  "model/restart": typeof model_restart;
  "model/retention": typeof model_retention;
  "model/retry": typeof model_retry;
  "model/ring": typeof model_ring;
  "model/rollup": typeof model_rollup;
  "model/room": typeof model_room;
  "model/rules": typeof model_rules;
  "model/runs": typeof model_runs;
  "model/sandbox": typeof model_sandbox;
  "model/schedules": typeof model_schedules;
  "model/scope": typeof model_scope;
  "model/send": typeof model_send;
  "model/sessions": typeof model_sessions;
  "model/settlements": typeof model_settlements;
  "model/sharedTexts": typeof model_sharedTexts;
  "model/shares": typeof model_shares;
  "model/signals": typeof model_signals;
  "model/signing": typeof model_signing;
  "model/spawn": typeof model_spawn;
  "model/steer": typeof model_steer;
  "model/steps": typeof model_steps;
  "model/stickies": typeof model_stickies;
  "model/submit": typeof model_submit;
  "model/sync": typeof model_sync;
  "model/tasks": typeof model_tasks;
  "model/templates": typeof model_templates;
  "model/text": typeof model_text;
  "model/triggers": typeof model_triggers;
  "model/upkeep": typeof model_upkeep;
  "model/usage": typeof model_usage;
  "model/versions": typeof model_versions;
  "model/waiting": typeof model_waiting;
  "model/waits": typeof model_waits;
  "model/webhooks": typeof model_webhooks;
  "model/why": typeof model_why;
  modelLoop: typeof modelLoop;
  models: typeof models;
  operator: typeof operator;
  push: typeof push;
  runs: typeof runs;
  schedules: typeof schedules;
  settle: typeof settle;
  spawns: typeof spawns;
  stats: typeof stats;
  tasks: typeof tasks;
  timers: typeof timers;
  triggers: typeof triggers;
  upkeep: typeof upkeep;
  validators: typeof validators;
  webhooks: typeof webhooks;
  worker: typeof worker;
}>;
export declare const api: FilterApi<
  typeof fullApi,
  FunctionReference<any, "public">
>;
export declare const internal: FilterApi<
  typeof fullApi,
  FunctionReference<any, "internal">
>;
