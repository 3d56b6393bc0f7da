/** Reads the filters of Convex's dashboard: those that hold fields against values. */

import { CallError } from "../engine/errors.mjs";

/**
 * @typedef {object} Filters
 * @property {"asc" | "desc"} order
 * @property {object[]} operators  of a query
 * @property {unknown} [id]  of the one document that is looked for
 */

/** What the dashboard sends where it means no value, since no value says so. */
export const UNSET =
  "__CONVEX_PLACEHOLDER_undefined_I23atX0jcndVbFgXoQZffsih7eAqktCyFjgUuAeNBtfr3ySOljPSPSEOPFgprkdBO3zXNiGEJxmJ5ZFPc5C5qKesG80QRPvlJe8vgSxAt9feLTwxTg4PHfVwUaTEJU67FDwldWmTxp1guMPwxQ2jOuhEryTBf3mQ";

const COMPARISONS = ["eq", "neq", "gt", "gte", "lt", "lte"];
const LISTS = ["anyOf", "noneOf"];

/**
 * @param {string | null} encoded  base64 of the JSON text of `{ clauses, order }`
 * @returns {Filters}
 * @throws {CallError} it is something else, or asks for an index or for types of values
 */
export function readFilters(encoded) {
  if (encoded === null || encoded === "") return { order: "desc", operators: [] };
  const { clauses, order = "desc", index } = parse(encoded);
  if (!Array.isArray(clauses) || (order !== "asc" && order !== "desc")) throw invalid();
  if (index !== undefined) throw new CallError("filters: this host filters tables without their indexes");
  if (!clauses.every((clause) => typeof clause === "object" && clause !== null)) throw invalid();
  const used = clauses.filter(({ field, enabled }) => field !== undefined && enabled !== false);
  const compared = used.map(compare);
  if (compared.length === 0) return { order, operators: [] };
  const [{ field, op, value }] = used;
  const operators = [{ filter: { $and: compared } }];
  return used.length === 1 && field === "_id" && op === "eq"
    ? { order, operators, id: value }
    : { order, operators };
}

/** @param {string} encoded @returns {any} */
function parse(encoded) {
  try {
    return Object(JSON.parse(Buffer.from(encoded, "base64").toString()));
  } catch {
    throw invalid();
  }
}

/** @param {{ field: string, op: string, value: any }} clause */
function compare({ field, op, value }) {
  const against = (/** @type {string} */ operator, /** @type {unknown} */ one) => ({
    [operator]: [
      { $field: field },
      { $literal: one === undefined || one === UNSET ? { $undefined: null } : one },
    ],
  });
  if (COMPARISONS.includes(op)) return against(`$${op}`, value);
  if (!LISTS.includes(op))
    throw new CallError(
      `filters: this host has no filter ${JSON.stringify(op)}, only ${[...COMPARISONS, ...LISTS].join(", ")}`,
    );
  if (!Array.isArray(value)) throw invalid();
  if (value.length === 0) return { $literal: true };
  return op === "anyOf"
    ? { $or: value.map((one) => against("$eq", one)) }
    : { $and: value.map((one) => against("$neq", one)) };
}

function invalid() {
  return new CallError(
    "filters: expected base64 of the JSON text of { clauses: [{ field, op, value }], order }",
  );
}
