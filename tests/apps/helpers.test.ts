import { ConvexError } from "convex/values";
import { beforeEach, expect, test } from "vitest";
import { failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./helpers/convex/_generated/api";
import type { Id } from "./helpers/convex/_generated/dataModel";

const clients = useApp("helpers");
let round = 0;
let ada: ReturnType<typeof clients.admin>;
let bob: ReturnType<typeof clients.admin>;
let adaId: Id<"users">;

beforeEach(async () => {
  round++;
  const user = async (name: string) => {
    const subject = `${name} ${round}`;
    const id = await clients.http().mutation(api.notes.join, { subject, role: "member" });
    return { id, client: clients.admin("websocket", { subject, issuer: "https://helpers.test" }) };
  };
  ({ id: adaId, client: ada } = await user("ada"));
  ({ client: bob } = await user("bob"));
});

test("rules decide what a user sees, writes and deletes", async () => {
  const secret = await ada.mutation(api.notes.write, { text: "secret", shared: false });
  const shared = await ada.mutation(api.notes.write, { text: `shared ${round}`, shared: true });
  const bobs = await bob.query(api.notes.list);
  expect(bobs).toContain(`shared ${round}`);
  expect(bobs).not.toContain("secret");
  expect((await failure(bob.mutation(api.notes.change, { id: shared, text: "mine now" }))).message).toContain(
    "write access not allowed",
  );
  expect((await failure(bob.mutation(api.notes.remove, { id: secret }))).message).toMatch(
    /no read access|not allowed/,
  );
  expect(
    (await failure(bob.mutation(api.notes.writeAs, { owner: adaId, text: "forged" }))).message,
  ).toContain("insert access not allowed");
  await ada.mutation(api.notes.remove, { id: secret });
});

test("who is not known is refused with data", async () => {
  const error = await failure(clients.http().query(api.notes.list));
  expect(error).toBeInstanceOf(ConvexError);
  expect((error as ConvexError<never>).data).toEqual({ code: "unauthorized" });
});

test("triggers keep counts and derived fields whatever writes", async () => {
  const seen = new Follower<number>(ada as never, api.notes.count);
  const id = await ada.mutation(api.notes.write, { text: "four", shared: false });
  await ada.mutation(api.notes.write, { text: "sixsix", shared: false });
  await seen.until((count) => count === 2);
  expect(await ada.query(api.notes.longOnes, { atLeast: 5 })).toEqual([["sixsix", 6]]);
  await ada.mutation(api.notes.change, { id, text: "now it is long" });
  expect(await ada.query(api.notes.longOnes, { atLeast: 5 })).toEqual([
    ["now it is long", 14],
    ["sixsix", 6],
  ]);
  await ada.mutation(api.notes.remove, { id });
  await seen.until((count) => count === 1);
});

test("streams of two indexes are merged in order, page by page", async () => {
  const written: string[] = [];
  for (let n = 0; n < 6; n++) {
    const text = `${round} ${n}`;
    await (n % 2 === 0 ? ada : bob).mutation(api.notes.write, { text, shared: n % 3 !== 0 });
    if (n % 2 === 0 || n % 3 !== 0) written.unshift(text);
  }
  const seen: string[] = [];
  let cursor: string | null = null;
  for (let pages = 0; pages < 20; pages++) {
    const result: { page: string[]; isDone: boolean; continueCursor: string } = await ada.query(
      api.notes.feed,
      {
        paginationOpts: { numItems: 2, cursor },
      },
    );
    seen.push(...result.page.filter((text) => text.startsWith(`${round} `)));
    if (result.isDone) break;
    cursor = result.continueCursor;
  }
  expect(seen).toEqual(written);
});

test("zod checks and completes arguments", async () => {
  const http = clients.http();
  expect(await http.query(api.notes.greet, { name: "  Ada ", times: 2 })).toEqual({
    greeting: "hello hello Ada",
  });
  expect(await http.query(api.notes.greet, { name: "Ada" })).toEqual({ greeting: "hello Ada" });
  const error = (await failure(
    http.query(api.notes.greet, { name: "Ada", times: -1 }),
  )) as ConvexError<never>;
  expect(error.data).toMatchObject({ ZodError: [{ path: ["times"] }] });
  expect(await http.mutation(api.notes.rename, { id: adaId, email: "ada@example.test" })).toBe(
    "ada@example.test",
  );
  expect(await failure(http.mutation(api.notes.rename, { id: adaId, email: "nobody" }))).toBeInstanceOf(
    ConvexError,
  );
});
