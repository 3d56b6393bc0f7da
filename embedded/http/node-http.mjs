/** What the host uses of `node:http`. An import looks at every one of its exports, and one of them loads all that is behind `fetch`. */

export const { createServer, STATUS_CODES } = process.getBuiltinModule("node:http");
