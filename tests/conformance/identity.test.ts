import type { ConvexClient } from "convex/browser";
import { expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, Follower, useHost } from "./clients";

const clients = useHost();
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
});
