/** Checks the file of a host that does not run: `node embedded/check.mjs .signalbox/host/host.sqlite`. */

import { checkFile } from "./engine/file-check.mjs";
import { OperatorError } from "./engine/errors.mjs";

const files = process.argv.slice(2);
if (files.length !== 1) exitWith(2, "usage: node embedded/check.mjs FILE");
try {
  const { documents, indexRows, problems } = checkFile(String(files[0]));
  for (const problem of problems) console.log(problem);
  if (problems.length > 0) process.exit(1);
  console.log(`whole: ${documents} documents, ${indexRows} index rows`);
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  exitWith(1, error.message);
}

/**
 * @param {number} code
 * @param {string} line
 * @returns {never}
 */
function exitWith(code, line) {
  process.stderr.write(`signalbox host: ${line}\n`);
  process.exit(code);
}
