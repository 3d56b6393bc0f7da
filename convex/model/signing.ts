/** Standard Webhooks signatures (standardwebhooks.com), made and checked: HMAC-SHA256 over `id.timestamp.body`. */

export const TOLERANCE_MS = 300_000; // between a signature's time and ours, either way

const SECRET = /^whsec_[A-Za-z0-9+/]+={0,2}$/;
const MIN_SECRET_BYTES = 24; // as Standard Webhooks has it
const MAX_SECRET_BYTES = 64;
const ID = /^[A-Za-z0-9_-]{1,128}$/; // no dot: it separates what is signed
const SECONDS = /^\d{1,12}$/;

export type SignedHeaders = { id: string | null; timestamp: string | null; signature: string | null };

/**
 * The keys of a secret as an operator writes it: `whsec_` and base64. Several, with spaces between them, let a secret be
 * changed while both sides run: the first signs, all of them are accepted.
 *
 * @returns null when the text is no such secret
 */
export function secretsOf(text: string | undefined): Uint8Array<ArrayBuffer>[] | null {
  const parts = (text ?? "").split(" ").filter((part) => part !== "");
  const keys: Uint8Array<ArrayBuffer>[] = [];
  for (const part of parts) {
    if (!SECRET.test(part)) return null;
    let bytes: string;
    try {
      bytes = atob(part.slice("whsec_".length));
    } catch {
      return null;
    }
    if (bytes.length < MIN_SECRET_BYTES || bytes.length > MAX_SECRET_BYTES) return null;
    keys.push(Uint8Array.from(bytes, (char) => char.charCodeAt(0)));
  }
  return keys.length === 0 ? null : keys;
}

/** @returns the three headers that go with `body` */
export async function signed(
  secrets: readonly Uint8Array<ArrayBuffer>[],
  id: string,
  body: string,
  now: number,
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(now / 1000));
  const key = await keyOf(secrets[0]!, "sign");
  const mac = await crypto.subtle.sign("HMAC", key, content(id, timestamp, body));
  const text = btoa(String.fromCharCode(...new Uint8Array(mac)));
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${text}` };
}

/**
 * Check a signature over the body exactly as it came.
 *
 * @returns null when it holds, else what is wrong with it: for logs, not for the sender
 */
export async function flaw(
  secrets: readonly Uint8Array<ArrayBuffer>[],
  { id, timestamp, signature }: SignedHeaders,
  body: string,
  now: number,
): Promise<string | null> {
  if (id === null || !ID.test(id)) return "webhook-id is missing or malformed";
  if (timestamp === null || !SECONDS.test(timestamp)) return "webhook-timestamp is missing or malformed";
  if (signature === null) return "webhook-signature is missing";
  if (Math.abs(Number(timestamp) * 1000 - now) > TOLERANCE_MS)
    return "webhook-timestamp is outside the tolerance";
  const given = signature.split(" ").flatMap(macOf).slice(0, 8);
  for (const secret of secrets) {
    const key = await keyOf(secret, "verify");
    for (const mac of given) {
      // The comparison takes the same time wherever the first difference is.
      if (await crypto.subtle.verify("HMAC", key, mac, content(id, timestamp, body))) return null;
    }
  }
  return "webhook-signature does not match";
}

function macOf(text: string): Uint8Array<ArrayBuffer>[] {
  if (!text.startsWith("v1,")) return [];
  try {
    return [Uint8Array.from(atob(text.slice(3)), (char) => char.charCodeAt(0))];
  } catch {
    return [];
  }
}

const content = (id: string, timestamp: string, body: string) =>
  new TextEncoder().encode(`${id}.${timestamp}.${body}`);

const keyOf = (secret: Uint8Array<ArrayBuffer>, use: "sign" | "verify") =>
  crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, [use]);
