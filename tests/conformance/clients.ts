/** A host for a spec file, and the official JavaScript clients that talk to it. */

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { ConvexReactClient } from "convex/react";
import { anyApi } from "convex/server";
import type { FunctionReference } from "convex/server";
import { afterAll, beforeAll } from "vitest";
import { WebSocket } from "ws";
import { Host } from "./host";
import type { HostOptions } from "./host";

/** Every function of the folder, public or not, of any kind; what it gives is looked at by `expect`. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export const api: any = anyApi;

export const CLIENTS = ["http", "websocket", "react"] as const;
type ClientName = (typeof CLIENTS)[number];

/* eslint-disable @typescript-eslint/no-explicit-any -- functions of any kind are called with any arguments, wrong ones too */
export interface Caller {
  query(query: any, args?: any): Promise<any>;
  mutation(mutation: any, args?: any): Promise<any>;
  action(action: any, args?: any): Promise<any>;
}
/* eslint-enable @typescript-eslint/no-explicit-any */

/** Keeps what a client would print, line by line. */
export class Lines {
  readonly lines: string[] = [];
  readonly #take = (...parts: unknown[]) => void this.lines.push(parts.map(String).join(" "));
  readonly log = this.#take;
  readonly warn = this.#take;
  readonly error = this.#take;
  readonly logVerbose = () => {};
}

/** The clients of one spec file; all of them are closed when its host ends. */
export class Clients {
  #host: Host | null = null;
  readonly #open: (ConvexClient | ConvexReactClient)[] = [];
  readonly #shared = new Map<ClientName, Caller>();

  get host(): Host {
    if (this.#host === null) throw new Error("the host runs only inside of tests");
    return this.#host;
  }

  async start(options: HostOptions): Promise<void> {
    this.#host = await Host.serve(options);
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#open.map((client) => client.close()));
    await this.#host?.[Symbol.asyncDispose]();
  }

  http(logger: Lines | false = false): ConvexHttpClient {
    return new ConvexHttpClient(this.host.url, { logger: logger as never });
  }

  socket(logger: Lines | false = false, webSocket: typeof WebSocket = WebSocket): ConvexClient {
    const options = {
      webSocketConstructor: webSocket as never,
      logger: logger as never,
      unsavedChangesWarning: false,
    };
    return this.#keep(new ConvexClient(this.host.url, options));
  }

  react(logger: Lines | false = false): ConvexReactClient {
    const options = {
      webSocketConstructor: WebSocket as never,
      logger: logger as never,
      unsavedChangesWarning: false,
    };
    return this.#keep(new ConvexReactClient(this.host.url, options));
  }

  /** A new client of a kind. */
  open(name: ClientName, logger: Lines | false = false): Caller {
    return name === "http"
      ? this.http(logger)
      : name === "websocket"
        ? this.socket(logger)
        : this.react(logger);
  }

  /** A new client with the admin key, which may act as a user. */
  admin(name: ClientName, identity?: object): Caller {
    const client = this.open(name);
    const holder = (client instanceof ConvexClient ? client.client : client) as unknown as {
      setAdminAuth(key: string, identity?: object): void;
    };
    holder.setAdminAuth(this.host.adminKey, identity);
    return client;
  }

  /** The client of a kind that the tests of a file share. */
  shared(name: ClientName): Caller {
    const client = this.#shared.get(name) ?? this.open(name);
    this.#shared.set(name, client);
    return client;
  }

  #keep<Client extends ConvexClient | ConvexReactClient>(client: Client): Client {
    this.#open.push(client);
    return client;
  }
}

/** One host process for the spec file that calls this. */
export function useHost(options: HostOptions = {}): Clients {
  const clients = new Clients();
  beforeAll(() => clients.start(options));
  afterAll(() => clients.dispose());
  return clients;
}

/** The error of a call that must fail. */
export async function failure(call: Promise<unknown>): Promise<Error> {
  const outcome = await call.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ("error" in outcome) return outcome.error as Error;
  throw new Error(`the call should have failed, and gave ${JSON.stringify(outcome.value)}`);
}

/** The errors of calls that were made together and must all fail. */
export async function failures(calls: Promise<unknown>[]): Promise<Error[]> {
  return await Promise.all(calls.map(failure));
}

/** Follows a subscription: every value and error in the order they came. */
export class Follower<Value = unknown> {
  readonly seen: ({ value: Value } | { error: Error })[] = [];
  readonly #waiting = new Set<() => void>();
  readonly stop: () => void;

  constructor(client: ConvexClient, query: FunctionReference<"query">, args: Record<string, unknown> = {}) {
    const subscription = client.onUpdate(
      query,
      args,
      (value: Value) => this.#add({ value }),
      (error) => this.#add({ error }),
    );
    this.stop = () => subscription.unsubscribe();
  }

  get last(): Value | Error | undefined {
    const last = this.seen.at(-1);
    return last === undefined ? undefined : "value" in last ? last.value : last.error;
  }

  /** Resolves with the newest outcome once it is as wanted; the test's own time limit ends a wait in vain. */
  async until(isWanted: (newest: Value | Error) => boolean): Promise<Value | Error> {
    for (;;) {
      const { last } = this;
      if (last !== undefined && isWanted(last)) return last;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #add(outcome: { value: Value } | { error: Error }) {
    this.seen.push(outcome);
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
