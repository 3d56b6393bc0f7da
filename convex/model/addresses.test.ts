import { describe, expect, test } from "vitest";
import { checkAddress } from "./addresses";

const long = (chars: number) => `https://agents.example.com/${"a".repeat(chars - 27)}`;

describe("addresses that may be called", () => {
  test.each([
    ["https://agents.example.com", "https://agents.example.com/"],
    ["https://agents.example.com/run?code=1", "https://agents.example.com/run?code=1"],
    ["https://agents.example.com:443/", "https://agents.example.com/"],
    ["https://agents.example.com:8443/", "https://agents.example.com:8443/"],
    ["HTTPS://Agents.Example.COM/", "https://agents.example.com/"],
    ["https://me--app-serve.modal.run/", "https://me--app-serve.modal.run/"],
    ["https://xn--bcher-kva.de/", "https://xn--bcher-kva.de/"],
    ["https://localhost.example.com/", "https://localhost.example.com/"],
    [long(1024), long(1024)],
  ])("%s", (given, kept) => expect(checkAddress("url", given, false)).toBe(kept));

  test.each(["http://127.0.0.1:8000/", "http://localhost:9/x", "http://[::1]:8000/", "https://127.8.9.1/"])(
    "%s, where one machine holds both",
    (given) => {
      expect(checkAddress("url", given, true)).toBe(given);
      expect(() => checkAddress("url", given, false)).toThrow("SIGNALBOX_PUSH_INSECURE");
    },
  );
});

describe("addresses that may not be called, with or without the loopback allowed", () => {
  test.each([
    ["", "printable"],
    ["agents.example.com", "not an address"],
    ["//agents.example.com", "not an address"],
    ["https:agents.example.com", "not an address"],
    ["https:///agents.example.com", "not an address"],
    ["https://", "not an address"],
    ["ftp://agents.example.com/", "scheme ftp:"],
    ["file:///etc/passwd", "scheme file:"],
    ["gopher://agents.example.com/", "scheme gopher:"],
    ["javascript:alert(1)", "scheme javascript:"],
    ["data:text/plain,x", "scheme data:"],
    ["http://agents.example.com/", "http is allowed for the loopback alone"],
    ["https://user@agents.example.com/", "user name"],
    ["https://user:secret@agents.example.com/", "user name"],
    ["https://@agents.example.com/", "user name"],
    ["https://agents.example.com@10.0.0.1/", "user name"],
    ["https://agents.example.com/#x", "fragment"],
    ["https://agents.example.com\\@10.0.0.1/", "backslash"],
    ["https://agents.example.com/\n", "printable"],
    ["https://agents.example.com /", "printable"],
    ["https://ägents.example.com/", "punycode"],
    ["https://①②⑦.⓪.⓪.①/", "printable"],
    ["https://10.0.0.1/", "literal address"],
    ["https://192.168.1.1/", "literal address"],
    ["https://169.254.169.254/latest/meta-data/", "literal address"],
    ["https://100.64.0.1/", "literal address"],
    ["https://0.0.0.0/", "literal address"],
    ["https://0/", "literal address"],
    ["https://8.8.8.8/", "literal address"],
    ["https://167772161/", "literal address"],
    ["https://0x0a000001/", "literal address"],
    ["https://012.0.0.1/", "literal address"],
    ["https://10.1/", "literal address"],
    ["https://[fe80::1]/", "literal address"],
    ["https://[fd00::1]/", "literal address"],
    ["https://[::ffff:10.0.0.1]/", "literal address"],
    ["https://[::ffff:127.0.0.1]/", "literal address"],
    ["https://[64:ff9b::a00:1]/", "literal address"],
    ["https://[2002:a00:1::]/", "literal address"],
    ["https://[::]/", "literal address"],
    ["https://agents.example.com:22/", "port 22"],
    ["https://agents.example.com:80/", "port 80"],
    ["https://agents.example.com:6379/", "port 6379"],
    ["https://agents.example.com:99999/", "not an address"],
    ["https://intranet/", "without a domain"],
    ["https://printer.local/", "under .local"],
    ["https://metadata.google.internal/", "under .internal"],
    ["https://db.corp/", "under .corp"],
    ["https://a.localhost/", "under .localhost"],
    ["https://1.0.0.127.in-addr.arpa/", "under .arpa"],
    ["https://agents.example.com./", "malformed"],
    ["https://agents..example.com/", "malformed"],
    ["https://-agents.example.com/", "malformed"],
    ["https://my_agents.example.com/", "malformed"],
    ["https://10.0.0.1.nip.io/", "under nip.io"],
    ["https://app.localtest.me/", "under localtest.me"],
    [`https://${"a".repeat(64)}.example.com/`, "malformed"],
    [`https://${`${"a".repeat(60)}.`.repeat(5)}example.com/`, "at most 253"],
    [long(1025), "at most 1024"],
  ])("%s: %s", (given, reason) => {
    for (const insecure of [false, true]) {
      expect(() => checkAddress("endpoints.url", given, insecure)).toThrow(`endpoints.url: `);
      expect(() => checkAddress("endpoints.url", given, insecure)).toThrow(reason);
    }
  });
});
