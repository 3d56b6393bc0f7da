/**
 * Which addresses the control plane may call. Pure: what can be known from the text alone. A name is resolved by Convex, which
 * lets nobody check the address that it connects to, so only names that an operator has chosen are called at all.
 */
import { refuse } from "../errors";

const MAX_URL_CHARS = 1_024;
const PORTS = ["", "8443"]; // "": 443, the scheme's own
const PRINTABLE = /^[!-~]+$/;
const IPV4 = /^\d+\.\d+\.\d+\.\d+$/; // the parser turns every other way to write one into this
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/;
const MAX_HOST_CHARS = 253;

/** Names that never stand for a public address, whatever a resolver says. */
const PRIVATE_SUFFIXES = [
  ...["local", "localhost", "localdomain", "internal", "intranet", "private", "lan", "home", "corp"],
  ...["test", "example", "invalid", "onion", "alt", "arpa", "workgroup", "domain", "mail"],
];
/** Public names that answer with whatever address stands in them, or with the loopback. */
const MIRRORS = [
  "nip.io",
  "sslip.io",
  "xip.io",
  "traefik.me",
  "localtest.me",
  "lvh.me",
  "vcap.me",
  "lacolhost.com",
];

/**
 * An address that may be called: https, a public name, a usual port.
 *
 * @param field - where it stands, for the message
 * @param insecure - the deployment's own machine may be called too, over plain http: for one machine that holds both
 * @returns the address as the parser writes it
 * @throws invalid_argument, with the reason
 */
export function checkAddress(field: string, text: string, insecure: boolean): string {
  const wrong = wrongWith(text, insecure);
  if (wrong !== null) throw refuse("invalid_argument", `${field}: ${wrong}`);
  return new URL(text).href;
}

function wrongWith(text: string, insecure: boolean): string | null {
  if (text.length > MAX_URL_CHARS) return `${text.length} characters; at most ${MAX_URL_CHARS}.`;
  if (!PRINTABLE.test(text)) return "only printable ASCII is allowed; write other names in punycode.";
  if (text.includes("\\")) return "a backslash is not allowed.";
  if (!URL.canParse(text)) return "not an address. Use https://NAME/PATH.";
  const url = new URL(text);
  const host = url.hostname;
  if (url.protocol !== "https:" && url.protocol !== "http:")
    return `the scheme ${url.protocol} is not allowed. Use https:`;
  if (!/^https?:\/\/[^/?#]/i.test(text)) return "not an address. Use https://NAME/PATH.";
  if (/^[^/]*\/\/[^/?#]*@/.test(text)) return "a user name or password is not allowed.";
  if (url.hash !== "" || text.includes("#")) return "a fragment is not allowed.";
  if (isLoopback(host)) {
    return insecure
      ? null
      : "the loopback is called only where the deployment sets SIGNALBOX_PUSH_INSECURE=1, on one machine.";
  }
  if (IPV4.test(host) || host.startsWith("[")) return "a literal address is not allowed. Use a name.";
  if (url.protocol !== "https:") return "http is allowed for the loopback alone. Use https:";
  if (!PORTS.includes(url.port)) return `port ${url.port} is not allowed. Use 443 or 8443.`;
  return wrongWithName(host);
}

const isLoopback = (host: string) =>
  host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);

function wrongWithName(host: string): string | null {
  const labels = host.split(".");
  if (host.length > MAX_HOST_CHARS) return `a name of ${host.length} characters; at most ${MAX_HOST_CHARS}.`;
  if (!labels.every((label) => LABEL.test(label))) return "the name is malformed.";
  if (labels.length < 2) return "a name without a domain is not public.";
  const last = labels.at(-1)!;
  if (PRIVATE_SUFFIXES.includes(last)) return `names under .${last} are not public.`;
  const mirror = MIRRORS.find((name) => host === name || host.endsWith(`.${name}`));
  return mirror === undefined ? null : `names under ${mirror} stand for any address.`;
}
