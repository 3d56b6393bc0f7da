import { expect, test } from "vitest";
import { failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./relations/convex/_generated/api";
import type { Id } from "./relations/convex/_generated/dataModel";

const clients = useApp("relations");
const join = (name: string): Promise<Id<"users">> =>
  clients.http().mutation(api.library.join, { name, bio: `I am ${name}` });

test("what belongs together is found in every direction", async () => {
  const http = clients.http();
  const [ada, mary] = [await join("Ada"), await join("Mary")];
  const notes = await http.mutation(api.library.publish, {
    author: ada,
    title: "Notes",
    tags: ["maths", "machines"],
  });
  await http.mutation(api.library.publish, { author: ada, title: "Letters", tags: [] });
  const novel = await http.mutation(api.library.publish, {
    author: mary,
    title: "Frankenstein",
    tags: ["machines"],
  });
  await http.mutation(api.library.read, { user: mary, book: notes, stars: 4 });
  await http.mutation(api.library.read, { user: ada, book: novel });
  await http.mutation(api.library.read, { user: ada, book: notes, stars: 2 });
  expect(await http.query(api.library.profile, { user: ada })).toEqual({
    bio: "I am Ada",
    written: [
      { title: "Notes", tags: ["maths", "machines"] },
      { title: "Letters", tags: [] },
    ],
    read: ["Frankenstein", "Notes"],
  });
  expect(await http.query(api.library.readers, { book: notes })).toEqual([
    ["Ada", 2],
    ["Mary", 4],
  ]);
  expect(await http.query(api.library.readers, { book: notes, atLeast: 3 })).toEqual([["Mary", 4]]);
});

test("a missing field sorts before every value, and is not null", async () => {
  const http = clients.http();
  const [author, silent, loud] = await Promise.all(["A", "Silent", "Loud"].map(join));
  const book = await http.mutation(api.library.publish, { author: author!, title: "T", tags: [] });
  await http.mutation(api.library.read, { user: loud!, book, stars: -1 });
  await http.mutation(api.library.read, { user: silent!, book });
  expect(await http.query(api.library.readers, { book })).toEqual([
    ["Silent", null],
    ["Loud", -1],
  ]);
  expect(await http.query(api.library.readers, { book, atLeast: -5 })).toEqual([["Loud", -1]]);
  await http.mutation(api.library.read, { user: loud!, book }); // takes its stars back
  expect(await http.query(api.library.readers, { book, atLeast: -5 })).toEqual([]);
});

test("ranges of texts follow their bytes", async () => {
  const http = clients.http();
  const author = await join("Range");
  for (const title of ["b", "a", "é", "aa", "B", "𝄞", "z"])
    await http.mutation(api.library.publish, { author, title, tags: [] });
  expect(await http.query(api.library.titles, { author, from: "a", before: "b" })).toEqual(["aa", "a"]);
  expect(await http.query(api.library.titles, { author, from: "", before: "\u{10ffff}" })).toEqual([
    "𝄞",
    "é",
    "z",
    "b",
    "aa",
    "a",
    "B",
  ]);
});

test("a user goes with all that hangs on it, and others see it go", async () => {
  const http = clients.http();
  const [author, reader] = [await join("Leaver"), await join("Reader")];
  const book = await http.mutation(api.library.publish, { author, title: "Gone", tags: [] });
  await http.mutation(api.library.read, { user: reader, book, stars: 5 });
  const profile = new Follower<{ read: string[] }>(clients.socket(), api.library.profile, { user: reader });
  await profile.until((now) => (now as { read: string[] }).read.length === 1);
  await http.mutation(api.library.leave, { user: author });
  await profile.until((now) => (now as { read: string[] }).read.length === 0);
  expect(await http.query(api.library.profile, { user: author })).toEqual({
    bio: null,
    written: [],
    read: [],
  });
  expect((await failure(http.mutation(api.library.leave, { user: author }))).message).toContain(
    `Delete on nonexistent document ID ${author}`,
  );
});

test("an id is checked against its table, in arguments and as text", async () => {
  const http = clients.http();
  const user = await join("Typed");
  const book = await http.mutation(api.library.publish, { author: user, title: "T", tags: [] });
  const wrong = await failure(http.mutation(api.library.read, { user: book as never, book }));
  expect(wrong.message).toContain("ArgumentValidationError");
  expect(wrong.message).toContain("books");
  expect(await http.query(api.library.byText, { id: user })).toBe("Typed");
  expect(await http.query(api.library.byText, { id: book })).toBeNull();
  expect(await http.query(api.library.byText, { id: "no id" })).toBeNull();
});
