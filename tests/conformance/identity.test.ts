import type { ConvexClient } from "convex/browser";
import { expect, test } from "vitest";
import { section } from "./checklist";
import { AUTH_CONFIG, ISSUERS, token } from "./tokens";
import { api, CLIENTS, failure, Follower, useHost } from "./clients";

const clients = useHost({ files: { "auth.config.ts": AUTH_CONFIG } });
const { identity } = api;

const ADA = {
  subject: "ada",
  issuer: "https://i.example.org",
  name: "Zoë 漢 😀",
  email: "ada@example.org",
  emailVerified: true,
};

function actAs(client: ConvexClient, user: object) {
  const holder = client.client as unknown as { setAdminAuth(key: string, user: object): void };
  holder.setAdminAuth(clients.host.adminKey, user);
}

section("Identity", (line) => {
  line(
    "Admin key with attributes: subject, issuer, name (non-ASCII too); tokenIdentifier = issuer|subject",
    () => {
      test.each(CLIENTS)("%s", async (name) => {
        const client = clients.admin(name, ADA);
        const expected = { ...ADA, tokenIdentifier: "https://i.example.org|ada" };
        expect(await client.query(identity.ofQuery, {})).toEqual(expected);
        expect(await client.mutation(identity.ofMutation, {})).toEqual(expected);
        expect(await client.action(identity.ofAction, {})).toEqual(expected);
      });

      test("and internal functions may be called", async () => {
        expect(await clients.admin("websocket", ADA).query(api.addressing.hiddenQuery, {})).toBe(
          "hidden query",
        );
      });
    },
  );

  line("Admin key alone: null identity", () => {
    test.each(CLIENTS)("%s", async (name) => {
      for (const client of [clients.admin(name), clients.open(name)]) {
        expect(await client.query(identity.ofQuery, {})).toBeNull();
        expect(await client.mutation(identity.ofMutation, {})).toBeNull();
        expect(await client.action(identity.ofAction, {})).toBeNull();
      }
    });
  });

  line("A change of identity runs the queries of a socket again", () => {
    test("from nobody to a user, to another, and to nobody", async () => {
      const client = clients.socket();
      const followed = new Follower<{ subject: string } | null>(client, identity.ofQuery);
      await followed.until((newest) => newest === null);
      for (const subject of ["a", "b"]) {
        actAs(client, { subject, issuer: "https://i" });
        await followed.until(
          (newest) => newest !== null && "subject" in newest && newest.subject === subject,
        );
      }
      client.client.clearAuth();
      await followed.until((newest) => newest === null);
    });
  });

  line(
    "Authentication racing an action on the same socket: each call has the identity of its place in the order",
    () => {
      test("users one after the other", async () => {
        const client = clients.socket();
        await client.query(identity.ofQuery, {}); // on a new socket all calls would go with the last identity
        const calls = ["a", "b", "c"].map((subject) => {
          actAs(client, { subject, issuer: "https://i" });
          return Promise.all([
            client.action(api.acts.whoSlowly, { wait: 50 }),
            client.mutation(api.acts.whoThroughMutation, {}),
          ]);
        });
        client.client.clearAuth();
        const nobody = client.action(api.acts.whoSlowly, { wait: 50 });
        expect(await Promise.all(calls)).toEqual(
          ["a", "b", "c"].map((each) => [
            [`https://i|${each}`, `https://i|${each}`],
            [`https://i|${each}`, `https://i|${each}`],
          ]),
        );
        expect(await nobody).toEqual([null, null]);
      });
    },
  );

  /** The code and the text with which the host refuses a token. */
  async function refusal(value: string): Promise<{ code: string; message: string }> {
    const client = clients.http();
    client.setAuth(value);
    return JSON.parse((await failure(client.query(identity.ofQuery, {}))).message) as {
      code: string;
      message: string;
    };
  }
  async function identityOf(value: string): Promise<unknown> {
    const client = clients.http();
    client.setAuth(value);
    return client.query(identity.ofQuery, {});
  }
  const now = () => Math.floor(Date.now() / 1000);

  line("JWT: RS256/ES256, issuer and audience match, optional audience, kid", () => {
    test.each([
      ["RS256", ISSUERS.rsa],
      ["ES256", ISSUERS.ec],
      ["no audience asked for", ISSUERS.anyAudience],
    ])("%s on every client", async (_, issuer) => {
      const value = token({ issuer, claims: { sub: "ada", name: "Zoë 漢", email: "ada@example.org" } });
      const expected = {
        subject: "ada",
        issuer,
        tokenIdentifier: `${issuer}|ada`,
        name: "Zoë 漢",
        email: "ada@example.org",
      };
      const http = clients.http();
      http.setAuth(value);
      const socket = clients.socket();
      socket.setAuth(async () => value);
      const react = clients.react();
      react.setAuth(async () => value);
      for (const client of [http, socket, react]) {
        expect(await client.query(identity.ofQuery, {})).toMatchObject(expected);
        expect(await client.mutation(identity.ofMutation, {})).toMatchObject(expected);
        expect(await client.action(identity.ofAction, {})).toMatchObject(expected);
      }
    });

    test("one of several audiences is enough", async () => {
      const value = token({ issuer: ISSUERS.rsa, claims: { aud: ["elsewhere", "conformance"] } });
      expect(await identityOf(value)).toMatchObject({ issuer: ISSUERS.rsa });
    });

    test("a user's token gives no right to internal functions", async () => {
      const client = clients.http();
      client.setAuth(token({ issuer: ISSUERS.rsa }));
      const { message } = await failure(client.query(api.addressing.hiddenQuery, {}));
      expect(message).toContain("Could not find public function");
    });

    test("an HTTP action has it too", async () => {
      const authorization = `Bearer ${token({ issuer: ISSUERS.ec, claims: { sub: "ada" } })}`;
      const response = await fetch(`${clients.host.siteUrl}/whoami`, { headers: { authorization } });
      expect(await response.json()).toMatchObject({ identity: { subject: "ada", issuer: ISSUERS.ec } });
    });

    test("a key that is not of the set, and one of another set", async () => {
      const unknown = await refusal(token({ issuer: ISSUERS.rsa, header: { kid: "unknown" } }));
      expect(unknown).toEqual({
        code: "InvalidAuthHeader",
        message:
          "Could not decode token. The JWT's 'kid' (key ID) header is 'unknown', does this key match any key in the provider's JWKS?",
      });
      const forged = await refusal(token({ issuer: ISSUERS.rsa, signedBy: "other" }));
      expect(forged.code).toBe("InvalidAuthHeader");
    });
  });

  line("JWT: 5 s clock tolerance, expired and not yet valid", () => {
    test("within it", async () => {
      expect(await identityOf(token({ issuer: ISSUERS.rsa, claims: { exp: now() - 1 } }))).not.toBeNull();
      expect(await identityOf(token({ issuer: ISSUERS.rsa, claims: { nbf: now() + 4 } }))).not.toBeNull();
    });

    test("behind it", async () => {
      for (const claims of [{ exp: now() - 8 }, { nbf: now() + 30 }]) {
        const { code, message } = await refusal(token({ issuer: ISSUERS.rsa, claims }));
        expect([code, message]).toEqual([
          "InvalidAuthHeader",
          expect.stringMatching(/^Could not validate token: /),
        ]);
      }
    });

    test("a socket's client is told that it is not authenticated", async () => {
      const client = clients.socket();
      const changes: boolean[] = [];
      const value = token({ issuer: ISSUERS.rsa, claims: { iat: now() - 3600, exp: now() - 1800 } });
      await new Promise<void>((resolve) => {
        client.setAuth(
          async () => value,
          (isAuthenticated) => {
            changes.push(isAuthenticated);
            resolve();
          },
        );
      });
      expect(changes).toEqual([false]);
      expect(await client.query(identity.ofQuery, {})).toBeNull();
    });
  });

  line("JWT: no provider, malformed and bad key set each with its own code and a helpful text", () => {
    test.each([
      ["an unknown issuer", () => token({ issuer: "https://unknown.example.org" })],
      ["another audience", () => token({ issuer: ISSUERS.rsa, claims: { aud: "elsewhere" } })],
      [
        "no audience where one is asked for",
        () => token({ issuer: ISSUERS.rsa, claims: { aud: undefined } }),
      ],
    ])("%s", async (_, make) => {
      const { code, message } = await refusal(make());
      expect(code).toBe("NoAuthProvider");
      expect(message).toMatch(/^No auth provider found matching the given token/);
    });

    test.each(["x", "a.b.c", "..", "eyJhbGciOiJSUzI1NiJ9.bm90IGpzb24.x"])(
      "'%s' is no token",
      async (value) => {
        expect(await refusal(value)).toEqual({
          code: "InvalidAuthHeader",
          message: expect.stringContaining("Could not parse JWT payload."),
        });
      },
    );

    test("no issuer", async () => {
      const { code, message } = await refusal(token({ issuer: ISSUERS.rsa, claims: { iss: undefined } }));
      expect([code, message]).toEqual([
        "InvalidAuthHeader",
        expect.stringContaining("Missing issuer claim ('iss')"),
      ]);
    });

    test("a key set that is none", async () => {
      const { code, message } = await refusal(token({ issuer: ISSUERS.badKeySet }));
      expect([code, message]).toEqual([
        "InvalidAuthHeader",
        expect.stringContaining("Invalid JWKS response body"),
      ]);
    });

    test("the status is 401", async () => {
      const response = await fetch(`${clients.host.url}/api/query`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer x" },
        body: JSON.stringify({ path: "identity:ofQuery", args: {} }),
      });
      expect(response.status).toBe(401);
    });
  });
});
