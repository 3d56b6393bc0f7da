/**
 * Gives what a bundle has at its top the names that its authors chose. The bundler calls the second `NotFound` of two modules `NotFound2`, and
 * errors, their frames and `constructor.name` would say so. The bundler's own `keepNames` names each closure whenever it is made, which
 * costs a call a third of its time; here each function of the top is named once, after the modules are evaluated.
 *
 * What installed packages call their own stays as it is: to read the source map takes 20 ms of a start and 10 MB, and npm convex alone
 * would have it read for every folder.
 */

/** A declaration at the top of the bundle's one function, and the class's own name, which the bundler adds with "_" before it. */
const DECLARATION =
  /^( {2}(?:(?:async )?function\*? ?|var |let |const |class ))([\w$]+)(?: = class (?!extends )([\w$]+))?(?![\w$])/;
const FILE = "  // "; // begins the line above what comes from a file
const INSTALLED = "node_modules/";
const NUMBERED = /\d$/;
const DIGITS = new Uint8Array(128).fill(255);
for (const [i, digit] of [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].entries()) {
  DIGITS[digit.charCodeAt(0)] = i;
}
const LONGEST = 300; // characters of a line that are looked at
const COMMA = ",".charCodeAt(0);
const SEMICOLON = ";".charCodeAt(0);
const FIELDS = 5; // of a segment that has a name: column, source, line, column, name; all relative to the segment before

/**
 * @param {string} code  the bundler's output in its format "iife"; it ends with the line that closes the function
 * @param {string} map  its source map, JSON text, which stays true
 * @returns {string} the code, which names its functions at its end
 */
export function withNames(code, map) {
  const declared = declarations(code);
  if (declared.size === 0) return code;
  const { mappings, names } = JSON.parse(map);
  takeOriginalNames(mappings, names, declared);
  const renamed = [...declared.values()]
    .filter(({ made, original }) => made !== original)
    .map(
      ({ variable, made, original }) => `[${variable}, ${JSON.stringify(made)}, ${JSON.stringify(original)}]`,
    );
  if (renamed.length === 0) return code;
  // A function that its module has frozen keeps the bundler's name.
  const naming = `  for (const [value, made, name] of [${renamed.join(", ")}]) {
    if (typeof value === "function" && value.name === made) Reflect.defineProperty(value, "name", { value: name, configurable: true });
  }
`;
  const end = code.lastIndexOf("})();");
  return code.slice(0, end) + naming + code.slice(end);
}

/** @typedef {{ variable: string, column: number, made: string, original: string }} Declared  made: how a function that it holds is named */

/**
 * @param {string} code
 * @returns {Map<number, Declared>} by line, from 0
 */
function declarations(code) {
  const found = new Map();
  let isInstalled = false;
  let line = 0;
  for (let start = 0; start < code.length; line++) {
    const next = code.indexOf("\n", start);
    const end = next < 0 ? code.length : next;
    const text = code.slice(start, Math.min(end, start + LONGEST));
    if (text.startsWith(FILE)) isInstalled = text.includes(INSTALLED);
    const [, before = "", variable, own] = (!isInstalled && DECLARATION.exec(text)) || [];
    if (variable !== undefined && (own !== undefined || NUMBERED.test(variable))) {
      found.set(line, { variable, column: before.length, made: own ?? variable, original: variable });
    }
    start = end + 1;
  }
  return found;
}

/**
 * @param {string} mappings  of a source map: for each line, between ";", its segments, between ","
 * @param {string[]} names
 * @param {Map<number, Declared>} declared  gets the authors' names
 */
function takeOriginalNames(mappings, names, declared) {
  let [line, column, name, field, value, shift] = [0, 0, 0, 0, 0, 0];
  for (let at = 0; at < mappings.length; at++) {
    const character = mappings.charCodeAt(at);
    if (character === COMMA || character === SEMICOLON) {
      field = 0;
      if (character === SEMICOLON) [line, column] = [line + 1, 0];
      continue;
    }
    const digit = DIGITS[character] ?? 0;
    value |= (digit & 31) << shift;
    if ((digit & 32) !== 0) {
      shift += 5;
      continue;
    }
    const delta = (value & 1) === 1 ? -(value >>> 1) : value >>> 1;
    [value, shift, field] = [0, 0, field + 1];
    if (field === 1) column += delta;
    if (field !== FIELDS) continue;
    name += delta;
    const declaration = declared.get(line);
    if (declaration?.column === column) declaration.original = names[name] ?? declaration.original;
  }
}
