/** Puts the parts of the host together and takes them apart in order. */

import { isDevelopmentKey } from "./admin-key.mjs";
import { ActionsClient } from "./actions/client.mjs";
import { actionSeconds } from "./actions/limits.mjs";
import { Authenticator } from "./auth.mjs";
import { Calls } from "./calls.mjs";
import { reader } from "./clock.mjs";
import { openCore, StartError } from "./core.mjs";
import { withoutRequestId } from "./failures.mjs";
import { ofHost } from "./request-context.mjs";
import { Faults } from "./faults.mjs";
import { watchPresence } from "./file-presence.mjs";
import { serveApi } from "./http/api.mjs";
import { Pages } from "./http/pages.mjs";
import { createHttpServer } from "./http/server.mjs";
import { serveSite } from "./http/site.mjs";
import { FunctionLog } from "./push/function-log.mjs";
import { Pushes } from "./push/pushes.mjs";
import { Serving } from "./serving.mjs";
import { SyncServer } from "./sync.mjs";
import { TimeControl } from "./time-control.mjs";

/**
 * @typedef {import("./options.mjs").Options} Options
 * @typedef {import("node:http").Server} Server
 * @typedef {object} Host
 * @property {Record<string, unknown>} ready  the readiness line
 * @property {() => Promise<void>} stop  resolves when the running batch is committed and every socket is closed
 */

const VERSION = "0.1.0";
const ENGINE_STOP_MS = 5_000;
const SITE_PREFIX = "/http";

/**
 * @param {Options} options
 * @param {import("./core.mjs").Operator} operator
 * @param {import("./core.mjs").Core} [core]  if it was opened before
 * @param {import("./bundle.mjs").Building} [building]  of the functions folder, if it was begun before
 * @returns {Promise<Host>}
 * @throws {StartError}
 */
export async function startHost(options, operator, core = openCore(options, operator), building) {
  const { log } = operator;
  const { engine, file, clock } = core;
  const actions = new ActionsClient({ engine, log, clock, limits: { seconds: readActionSeconds() } });
  const calls = new Calls(engine, actions);
  const authenticator = new Authenticator(options.adminKey, {
    providers: () => engine.description.auth,
    now: reader(clock),
  });
  const faults = new Faults(options.faults);
  const sync = new SyncServer({ engine, calls, authenticator }, log, faults);

  const pages = new Pages(options.dashboard ?? null);

  const loaded = Promise.withResolvers();
  const siteServer = createHttpServer(async (request, response) => {
    await loaded.promise;
    if (faults.loses(request, response)) return;
    void serveSite(host, request, response, request.url ?? "/");
  });
  const apiServer = createHttpServer(async (request, response) => {
    await loaded.promise;
    if (faults.loses(request, response, { exempt: true })) return;
    const { url = "/" } = request;
    if (url === SITE_PREFIX || url.startsWith(`${SITE_PREFIX}/`))
      void serveSite(host, request, response, url.slice(SITE_PREFIX.length) || "/");
    else if (!(await pages.serve(request, response))) void serveApi(host, request, response);
  });
  apiServer.on(
    "upgrade",
    (request, stream, head) => void loaded.promise.then(() => sync.upgrade(request, stream, head)),
  );
  const url = await listen(apiServer, options.host, options.port, "--port");
  const siteUrl = await listen(siteServer, options.host, options.sitePort, "--site-port");
  const environment = { ...process.env, CONVEX_CLOUD_URL: url, CONVEX_SITE_URL: siteUrl };
  const serving = new Serving({ engine, actions, environment, log });
  const pushes = new Pushes({ serving });
  const functionLog = new FunctionLog(reader(clock));
  engine.onRun((run) => functionLog.add(run));
  actions.onRun((run) => functionLog.add(run));
  const time = clock === null ? null : new TimeControl(engine, clock);
  const host = {
    engine,
    actions,
    calls,
    authenticator,
    serving,
    pushes,
    functionLog,
    url,
    siteUrl,
    log,
    time,
    faults,
    sources: { engine, actions, sync, faults, file },
  };

  engine.onScheduledAction(({ job, path, args, isCron }) => {
    const request = ofHost(isCron ? null : job);
    const caller = { admin: true, identity: null };
    calls.run({ kind: "action", path, args, caller, job, request }, (reply) => {
      for (const line of reply.logLines) log(`${path}: ${line}`); // there is no caller to tell
      if (reply.ok) return void engine.finishAction(job, { ok: true });
      const message = withoutRequestId(reply.message);
      log(`${path}: [ERROR] ${message.trimEnd()}`);
      void engine.finishAction(job, { ok: false, message });
    });
  });
  await serving.start(options, building).catch((/** @type {Error} */ error) => {
    throw new StartError(error.message);
  });
  loaded.resolve(undefined);
  const endPresence = watchPresence(file, operator.onFatal);

  return {
    ready: {
      ready: true,
      url,
      siteUrl,
      developmentKey: isDevelopmentKey(options.adminKey),
      pid: process.pid,
      functions: serving.folder,
      data: options.data,
      version: VERSION,
    },
    stop: async () => {
      endPresence();
      serving.close();
      const servers = [apiServer, siteServer];
      for (const server of servers) server.close();
      for (const server of servers) server.closeIdleConnections();
      await engine.stop(ENGINE_STOP_MS); // what was taken is committed and answered
      await sync.close();
      await actions.stop();
      for (const server of servers) server.closeAllConnections();
    },
  };
}

/**
 * @param {Server} server
 * @param {string} host
 * @param {number} port
 * @param {string} flag
 * @returns {Promise<string>} the base URL
 * @throws {StartError}
 */
function listen(server, host, port, flag) {
  return new Promise((resolve, reject) => {
    server.once("error", (/** @type {NodeJS.ErrnoException} */ error) => {
      const reason =
        error.code === "EADDRINUSE"
          ? `port ${port} is in use: stop the program that has it or give another ${flag}`
          : error.message;
      reject(new StartError(`cannot listen on ${host}: ${reason}`));
    });
    server.listen(port, host, () => {
      const address = /** @type {import("node:net").AddressInfo} */ (server.address());
      const name = address.family === "IPv6" ? `[${address.address}]` : address.address;
      resolve(`http://${name}:${address.port}`);
    });
  });
}

/** @throws {StartError} */
function readActionSeconds() {
  try {
    return actionSeconds(process.env);
  } catch (error) {
    throw new StartError(/** @type {Error} */ (error).message);
  }
}
