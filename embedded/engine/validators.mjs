/** Compiles validators from their JSON into checkers that speak Convex's error texts. */

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {{ type: string, [key: string]: any }} ValidatorJson
 * @typedef {object} TableNumbers  tables as v.id() knows them, system tables included
 * @property {(name: string) => number | null} tableNumberOf
 * @property {(number: number) => string | null} tableNameOf
 * @typedef {object} Validator
 * @property {(value: Encoded, ctx: TableNumbers) => string | null} check  Convex's error text, null when the value fits
 * @property {string} text  as printed in errors
 * @property {ValidatorJson} json
 */

/** The validator JSON has no such form; the message is one line. */
export class ValidatorError extends Error {}

/** @param {ValidatorJson} json @param {{ document?: boolean }} [options] document: top-level `_id` and `_creationTime` are left alone @returns {Validator} @throws {ValidatorError} */
export function compileValidator(json, options) { return { check: () => null, text: "", json }; }
/** @param {ValidatorJson} json @returns {string} */
export function printValidator(json) { return ""; }
