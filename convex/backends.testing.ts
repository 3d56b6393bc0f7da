/// <reference types="vite/client" />
/** Where the tests of the control plane run: in Convex's official mock, or on the embedded host's engine. Time is vitest's. */
import { convexTest } from "convex-test";
import {
  getFunctionName,
  type FunctionArgs,
  type FunctionReference,
  type FunctionReturnType,
} from "convex/server";
import { ConvexError, convexToJson, jsonToConvex, type JSONValue } from "convex/values";
import { vi } from "vitest";
import schema from "./schema";
import { checkTouched, type Touched } from "./touched.testing";

type Query = FunctionReference<"query", "public" | "internal">;
type Mutation = FunctionReference<"mutation", "public" | "internal">;

export interface Backend {
  query<F extends Query>(fn: F, args: FunctionArgs<F>): Promise<FunctionReturnType<F>>;
  mutation<F extends Mutation>(fn: F, args: FunctionArgs<F>): Promise<FunctionReturnType<F>>;
  /** The same, called by a signed-in user. */
  as(identity: { subject: string; issuer: string }): Pick<Backend, "query" | "mutation">;
  /** Let scheduled functions that are due now run to their end. */
  runDue(): Promise<void>;
  close(): void;
}

/** A fresh deployment on the backend that the vitest project names. */
export async function startBackend(): Promise<Backend> {
  return import.meta.env.SIGNALBOX_TEST_BACKEND === "host" ? HostBackend.start() : new MockBackend();
}

/** The deployment's variables, on either backend. */
export const ENV = {
  SIGNALBOX_PUSH_SECRET: `whsec_${btoa("a".repeat(24))}`,
  SIGNALBOX_WEBHOOK_SECRET: `whsec_${btoa("b".repeat(24))}`,
};

class MockBackend implements Backend {
  readonly #t = convexTest({
    schema,
    modules: {
      ...import.meta.glob(["./**/*.ts", "!./**/*.test.ts", "!./**/*.testing.ts"]),
      "./probe.ts": () => import("./probe.testing"),
    },
    transactionLimits: true,
  });

  constructor() {
    for (const [name, value] of Object.entries(ENV)) vi.stubEnv(name, value);
  }

  query<F extends Query>(fn: F, args: FunctionArgs<F>) {
    return callMock(this.#t, "query", fn, args);
  }

  mutation<F extends Mutation>(fn: F, args: FunctionArgs<F>) {
    return callMock(this.#t, "mutation", fn, args);
  }

  as(identity: { subject: string; issuer: string }): Pick<Backend, "query" | "mutation"> {
    const t = this.#t.withIdentity(identity);
    return {
      query: (fn, args) => callMock(t, "query", fn, args),
      mutation: (fn, args) => callMock(t, "mutation", fn, args),
    };
  }

  async runDue(): Promise<void> {
    vi.advanceTimersByTime(0);
    await this.#t.finishInProgressScheduledFunctions();
  }

  close(): void {
    // Nothing outlives a test.
  }
}

/** The mock's arguments are optional where a function takes none; ours are always given. */
function callMock<F extends Query | Mutation>(
  t: Record<"query" | "mutation", (...args: never) => Promise<unknown>>,
  kind: "query" | "mutation",
  fn: F,
  args: FunctionArgs<F>,
): Promise<FunctionReturnType<F>> {
  return t[kind](...([fn, args] as never));
}

type Reply = { ok: true; value: string } | { ok: false; message: string; data?: string };

/** The part of the engine that is driven here; see docs/embedded-host.md. */
type Engine = {
  serve(messages: object[]): { replies: Reply[] };
  nextWake(): number | null;
  close(): void;
};

type HostModules = {
  touchedTables: (recording: unknown) => Map<string, Touched>;
  bundleProject: () => Promise<object>;
  openEngine: () => { engine: Engine; remove: () => void };
};

const ADMIN = { admin: true, identity: null };
let bundle: object | undefined;

class HostBackend implements Backend {
  private constructor(
    private readonly engine: Engine,
    private readonly remove: () => void,
    private readonly touchedTables: HostModules["touchedTables"],
  ) {}

  static async start(): Promise<HostBackend> {
    const path = "../embedded/convex-tests.mjs"; // plain JavaScript, and Node's own: the mock's runtime never loads it
    const host = (await import(/* @vite-ignore */ path)) as HostModules;
    bundle ??= await host.bundleProject();
    const { engine, remove } = host.openEngine();
    const backend = new HostBackend(engine, remove, host.touchedTables);
    backend.ask({ op: "load", bundle, env: ENV });
    return backend;
  }

  query<F extends Query>(fn: F, args: FunctionArgs<F>) {
    return this.call("query", fn, args, ADMIN);
  }

  mutation<F extends Mutation>(fn: F, args: FunctionArgs<F>) {
    return this.call("mutation", fn, args, ADMIN);
  }

  as(identity: { subject: string; issuer: string }): Pick<Backend, "query" | "mutation"> {
    const caller = { admin: false, identity };
    return {
      query: (fn, args) => this.call("query", fn, args, caller),
      mutation: (fn, args) => this.call("mutation", fn, args, caller),
    };
  }

  runDue(): Promise<void> {
    vi.advanceTimersByTime(0);
    for (
      let wake = this.engine.nextWake();
      wake !== null && wake <= Date.now();
      wake = this.engine.nextWake()
    ) {
      this.engine.serve([]);
    }
    return Promise.resolve();
  }

  close(): void {
    const recording = this.ask({ op: "recording" });
    this.engine.close();
    this.remove();
    if (recording.ok) checkTouched(this.touchedTables(JSON.parse(recording.value)));
  }

  private ask(message: object): Reply {
    return this.engine.serve([{ id: 1, ...message }]).replies[0]!;
  }

  private call<F extends Query | Mutation>(
    kind: "query" | "mutation",
    fn: F,
    args: FunctionArgs<F>,
    caller: object,
  ): Promise<FunctionReturnType<F>> {
    const text = JSON.stringify([convexToJson(args)]);
    const reply = this.ask({ op: "call", kind, path: getFunctionName(fn), args: text, caller });
    if (reply.ok)
      return Promise.resolve(jsonToConvex(JSON.parse(reply.value) as JSONValue) as FunctionReturnType<F>);
    const { message, data } = reply;
    return Promise.reject(
      data === undefined ? new Error(message) : new ConvexError(jsonToConvex(JSON.parse(data) as JSONValue)),
    );
  }
}
