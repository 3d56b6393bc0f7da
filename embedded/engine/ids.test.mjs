import { describe, expect, test } from "vitest";
import { decodeId, encodeId, idProblem, tableNumberOf } from "./ids.mjs";
import { Random } from "./random-values.mjs";

// The number of bits grows with the table number: each pair stands at a border of the VInt.
const TABLE_NUMBERS = [
  1,
  127,
  128,
  10_001,
  16_383,
  16_384,
  2_097_151,
  2_097_152,
  268_435_455,
  268_435_456,
  2 ** 32 - 1,
];
const LENGTHS = [31, 31, 32, 32, 32, 34, 34, 36, 36, 37, 37];

/** Spells bytes with the checksum that belongs to them, whatever they say. */
function spell(...bytes) {
  let [low, high] = [0, 0];
  for (const byte of bytes) high = (high + (low = (low + byte) % 256)) % 256;
  const bits = [...bytes, low, high].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const digits = bits.match(/.{1,5}/g) ?? [];
  return digits
    .map((digit) => "0123456789abcdefghjkmnpqrstvwxyz"[parseInt(digit.padEnd(5, "0"), 2)])
    .join("");
}

function randomBytes(random) {
  return Uint8Array.from({ length: 16 }, () => random.below(256));
}

describe("ids", () => {
  test("come back as they were written, at every length", () => {
    const random = new Random(1);
    for (const [i, tableNumber] of TABLE_NUMBERS.entries()) {
      for (let round = 0; round < 50; round++) {
        const internal = randomBytes(random);
        const id = encodeId(tableNumber, internal);
        expect(id).toMatch(/^[0-9a-hjkmnp-tv-z]+$/);
        expect(id).toHaveLength(LENGTHS[i]);
        expect(decodeId(id)).toEqual({ tableNumber, internal });
        expect(tableNumberOf(id)).toBe(tableNumber);
      }
    }
  });

  test.each([
    ["kg204m40v9m1bmkthp86n486mh85s0rc", 540, "025080da6815d27a8d906a9106a4505c"],
    ["k570e9j5cj1t5gf0zwf3tq3vkawxhqr0", 10_009, "0726456483a2c1e0ff1e3d5c7b9ab9d8"],
    ["nx70paj9d23tdhf40ch42r3zktyxrddc", 10_031, "0b2a496887a6c5e4032241607f9ebddc"],
  ])("%s, which Convex made, is read and written as Convex does", (id, tableNumber, hex) => {
    const internal = Uint8Array.from(Buffer.from(hex, "hex"));
    expect(decodeId(id)).toEqual({ tableNumber, internal });
    expect(encodeId(tableNumber, internal)).toBe(id);
  });

  test("of one table share their first characters", () => {
    const random = new Random(2);
    const ids = Array.from({ length: 20 }, () => encodeId(10_001, randomBytes(random)));
    expect(new Set(ids.map((id) => id.slice(0, 3))).size).toBe(1);
  });

  test("changed in any one character are no ids, at every length", () => {
    const random = new Random(3);
    for (const tableNumber of TABLE_NUMBERS) {
      const id = encodeId(tableNumber, randomBytes(random));
      for (let i = 0; i < id.length; i++) {
        for (const character of "0123456789abcdefghjkmnpqrstvwxyzilouA é") {
          if (character === id[i]) continue;
          const changed = id.slice(0, i) + character + id.slice(i + 1);
          expect(decodeId(changed), changed).toBeNull();
        }
      }
    }
  });

  test("write the table number in its one shortest form, in 32 bits", () => {
    const internal = new Array(16).fill(5);
    expect(decodeId(spell(0x91, 0x4e, ...internal))?.tableNumber).toBe(10_001);
    expect(decodeId(spell(0xff, 0xff, 0xff, 0xff, 0x0f, ...internal))?.tableNumber).toBe(2 ** 32 - 1);
    expect(decodeId(spell(0x81, 0x00, ...internal))).toBeNull();
    expect(decodeId(spell(0xff, 0xff, 0xff, 0xff, 0x1f, ...internal))).toBeNull();
    expect(decodeId(spell(0x00, ...internal))).toBeNull();
    expect(decodeId(spell(0x91, 0x4e, ...internal, 5))).toBeNull();
  });

  test.each([
    ["the empty text", ""],
    ["a sentence", "this is not an id at all, is it?"],
    ["upper case", encodeId(10_001, new Uint8Array(16)).toUpperCase()],
    ["one character less", encodeId(10_001, new Uint8Array(16)).slice(1)],
    ["one character more", `${encodeId(10_001, new Uint8Array(16))}0`],
    ["lengths that no number of bytes has", "0".repeat(33)],
    ["table number zero", "0".repeat(31)],
    ["a huge text", "0".repeat(100_000)],
  ])("%s is no id", (_, text) => {
    expect(decodeId(text)).toBeNull();
    expect(tableNumberOf(text)).toBeNull();
  });
});

describe("the problem of a text that is no id is", () => {
  const id = encodeId(10_001, new Uint8Array(16).fill(7));

  test.each([
    ["none", id, null],
    ["that it is too short", id.slice(0, 30), "Invalid ID length 30"],
    ["that it is too long", "0".repeat(38), "Invalid ID length 38"],
    ["that no id has its length", "0".repeat(33), "Invalid ID length 33"],
    ["a character", `${id.slice(0, -1)}!`, "ID wasn't valid base32"],
    ["a capital", id.toUpperCase(), "ID wasn't valid base32"],
    ["table 0", spell(0, ...new Uint8Array(16)), "Invalid table number"],
    [
      "its checksum",
      id.slice(0, 10) + (id[10] === "0" ? "1" : "0") + id.slice(11),
      /^Invalid ID version \d+ \(expected \d+\)$/,
    ],
  ])("%s", (_what, text, problem) => {
    if (problem instanceof RegExp) expect(idProblem(text)).toMatch(problem);
    else expect(idProblem(text)).toBe(problem);
    expect(idProblem(text) === null).toBe(decodeId(text) !== null);
  });
});
