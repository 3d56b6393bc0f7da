/** One call of an endpoint: bounded in time and in size, and never redirected. */
import { env } from "../_generated/server";
import type { Reply } from "./answers";
import { secretsOf, signed } from "./signing";

export type Call = {
  url: string;
  method: "GET" | "POST";
  id: string; // its webhook-id
  body: string;
  secretVariable: string;
  timeoutMs: number;
  maxBytes: number; // of the answer
};

/**
 * Call an endpoint. Redirects are not followed, since they lead where the operator never said. Convex resolves the name, and
 * offers no way to check the address that it stands for.
 */
export async function call({
  url,
  method,
  id,
  body,
  secretVariable,
  timeoutMs,
  maxBytes,
}: Call): Promise<Reply> {
  const secrets = secretsOf(env[secretVariable]);
  if (secrets === null) {
    return { failure: "unreachable", message: `${secretVariable} of the deployment holds no secret` };
  }
  const headers = { ...(await signed(secrets, id, body, Date.now())), "content-type": "application/json" };
  const giveUp = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tooLate = new Promise<Reply>((resolve) => {
    timer = setTimeout(() => {
      resolve({ failure: "timeout", message: `the endpoint did not answer within ${timeoutMs} ms` });
      giveUp.abort();
    }, timeoutMs);
  });
  const answer = async (): Promise<Reply> => {
    try {
      const sent = method === "GET" ? {} : { body };
      const response = await fetch(url, {
        method,
        headers,
        ...sent,
        redirect: "manual",
        signal: giveUp.signal,
      });
      const text = await readBounded(response, maxBytes);
      return { status: response.status, retryAfter: response.headers.get("retry-after"), text };
    } catch (error) {
      return { failure: "unreachable", message: `the endpoint cannot be reached: ${reasonOf(error)}` };
    }
  };
  try {
    return await Promise.race([answer(), tooLate]); // Convex passes over the signal, so time is kept here
  } finally {
    clearTimeout(timer);
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error).slice(0, 200);
  const { cause } = error;
  return (cause instanceof Error ? `${error.message}: ${cause.message}` : error.message).slice(0, 200);
}

/** @returns the text, or null when it is larger than `maxBytes`: the rest is not read */
async function readBounded(response: Response, maxBytes: number): Promise<string | null> {
  if (response.body === null) return "";
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.length;
    if (bytes > maxBytes) {
      await reader.cancel();
      return null;
    }
    text += decoder.decode(value, { stream: true });
  }
}
