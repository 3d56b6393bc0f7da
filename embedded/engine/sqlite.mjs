/** Opens the one SQLite file of the host, for this process alone. */

import { DatabaseSync } from "node:sqlite";
import { OperatorError } from "./errors.mjs";

/** Version of the file's layout, kept in `user_version`. A host brings older files to its own version, and refuses newer ones. */
export const FILE_FORMAT = 2;

const BUSY_TIMEOUT_MS = 2_000; // a host that is just ending gets this long to let go of the file
const CACHE_KIB = 8 * 1024; // the pages that every call walks through; the rest is in the cache of the system
const CHECKPOINT_PAGES = 10_000; // small checkpoints cost the 99th percentile of commits more than rare large ones

/**
 * @param {string} file
 * @param {"full" | "normal"} synchronous  full: a commit survives a power cut; normal: the last ones may be lost, none is torn
 * @returns {{ database: DatabaseSync, format: number }} format: of the file as it is; 0: it is new
 * @throws {OperatorError} the file is locked, newer than this host, no database, or cannot be written
 */
export function openDatabase(file, synchronous) {
  /** @type {DatabaseSync | undefined} */
  let database;
  try {
    database = new DatabaseSync(file);
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA locking_mode = EXCLUSIVE;`);
    const version = Number(database.prepare("PRAGMA user_version").get()?.user_version);
    if (version > FILE_FORMAT) {
      throw new OperatorError(
        `${file} was written by a newer host (file format ${version}, this host reads ${FILE_FORMAT})`,
      );
    }
    database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = ${synchronous === "full" ? "FULL" : "NORMAL"};
      PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};
      PRAGMA cache_size = -${CACHE_KIB};
      PRAGMA temp_store = MEMORY;
      BEGIN IMMEDIATE;
      COMMIT;
    `);
    return { database, format: version };
  } catch (error) {
    database?.close();
    throw error instanceof OperatorError ? error : new OperatorError(openFailure(file, error));
  }
}

const SQLITE_BUSY = 5;
const SQLITE_READONLY = 8;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

/**
 * @param {string} file
 * @param {unknown} error  of node:sqlite
 */
function openFailure(file, error) {
  const { errcode, message } = /** @type {{ errcode?: number, message: string }} */ (error);
  switch ((errcode ?? 0) & 0xff) {
    case SQLITE_BUSY:
      return `${file} is in use by another host`;
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return `${file} cannot be opened for writing: ${message}`;
    case SQLITE_NOTADB:
      return `${file} is not a database of this host`;
    default:
      return `${file} cannot be opened: ${message}`;
  }
}
