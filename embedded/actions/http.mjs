/** Runs an HTTP action: from a plain request to a plain answer, both of which can cross threads. */

/**
 * @typedef {import("./client.mjs").HttpCall} HttpCall
 * @typedef {import("./client.mjs").HttpAnswer} HttpAnswer
 */

/**
 * @param {{ lookup: (path: string, method: string) => [{ invokeHttpAction: (request: Request) => Promise<Response> }, string, string] | null } | undefined} router
 *   the default export of `http.ts`
 * @param {Omit<HttpCall, "caller">} request
 * @returns {Promise<HttpAnswer>}
 */
export async function answerRequest(router, { method, url, headers, body }) {
  const match = router?.lookup(new URL(url).pathname, method) ?? null; // exact paths before prefixes, HEAD through GET
  if (match === null) return plain(404, "No matching routes found");
  const hasBody = body !== null && method !== "GET" && method !== "HEAD";
  const response = await match[0].invokeHttpAction(
    new Request(url, { method, headers, ...(hasBody ? { body } : {}) }),
  );
  if (!(response instanceof Response)) throw new TypeError("An HTTP action must return a Response");
  return {
    status: response.status,
    headers: [...response.headers],
    body: new Uint8Array(await response.arrayBuffer()),
  };
}

/**
 * @param {number} status
 * @param {string} text
 * @returns {HttpAnswer}
 */
function plain(status, text) {
  return {
    status,
    headers: [["content-type", "text/plain; charset=utf-8"]],
    body: new TextEncoder().encode(text),
  };
}
