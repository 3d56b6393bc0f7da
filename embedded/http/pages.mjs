/** Serves a folder of built files, the dashboard: index.html at `/`, and what lies beside it at its own path. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 * @typedef {{ type: string, body: Buffer, packed: Buffer | null }} File  packed: with gzip, once somebody has asked for it
 */

const INDEX = "/index.html";
const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_FILES = 500;
const PACKED_FROM_BYTES = 1_000; // smaller ones fit a packet as they are

/** @type {Record<string, string>} */
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".json": "application/json",
};

// Scripts and styles of these files alone, calls to this host alone: a page that was tricked cannot take its key elsewhere.
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const pack = promisify(gzip);

export class Pages {
  /** @param {string | null} folder  null, or one without an index.html: there are no pages */
  constructor(folder) {
    this.#folder = folder;
  }

  /** @type {string | null} */
  #folder;
  /** By the path of the URL. Nothing but what is named here is served. @type {Map<string, File>} */
  #files = new Map();
  /** When index.html was written that #files belong to. */
  #writtenAt = 0;

  /**
   * Answer a request for a page or one of its files.
   *
   * @param {Request} request
   * @param {Response} response
   * @returns {Promise<boolean>} false: it is for somebody else
   */
  async serve(request, response) {
    const { method, url = "/", headers } = request;
    if (this.#folder === null || (method !== "GET" && method !== "HEAD")) return false;
    const [target = "/"] = url.split("?", 1);
    // Clients that ask what runs here are told in a line, as on Convex; browsers are shown it.
    if (target === "/" && !/\btext\/html\b/.test(headers.accept ?? "")) return false;
    if (target === "/" || this.#files.size === 0) this.#load(this.#folder);
    const name = target === "/" ? INDEX : target;
    const file = this.#files.get(name);
    if (file === undefined) return false;
    const packs = file.body.length >= PACKED_FROM_BYTES && /\bgzip\b/.test(headers["accept-encoding"] ?? "");
    if (packs && file.packed === null) file.packed = await pack(file.body, { level: 9 });
    const body = packs && file.packed !== null ? file.packed : file.body;
    response.writeHead(200, {
      "content-type": file.type,
      "content-length": body.length,
      ...(packs ? { "content-encoding": "gzip" } : {}),
      vary: "accept, accept-encoding",
      "cache-control": name.startsWith("/assets/") ? "public, max-age=31536000, immutable" : "no-cache",
      "content-security-policy": POLICY,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cross-origin-opener-policy": "same-origin",
    });
    response.end(method === "HEAD" ? undefined : body);
    return true;
  }

  /**
   * Read the folder, unless it is as it was: a new build shows at the next visit.
   *
   * @param {string} folder
   */
  #load(folder) {
    /** @type {Map<string, File>} */
    const files = new Map();
    let writtenAt;
    try {
      writtenAt = statSync(path.join(folder, INDEX), { throwIfNoEntry: false })?.mtimeMs ?? 0;
      if (writtenAt === this.#writtenAt) return;
      for (const entry of writtenAt === 0
        ? []
        : readdirSync(folder, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || files.size === MAX_FILES) continue; // a link is no file, so nothing leads out of the folder
        const place = path.join(entry.parentPath, entry.name);
        if (statSync(place).size > MAX_FILE_BYTES) continue;
        const type = TYPES[path.extname(entry.name)] ?? "application/octet-stream";
        const name = `/${path.relative(folder, place).split(path.sep).join("/")}`;
        files.set(name, { type, body: readFileSync(place), packed: null });
      }
    } catch {
      return; // it is being built anew: what was there stays until that is done
    }
    this.#files = files;
    this.#writtenAt = writtenAt;
  }
}
