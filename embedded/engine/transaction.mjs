/** The open SQLite transaction and its savepoints, of which SQLite hears at the first write: readers pay nothing. */

/** @typedef {import("./layout.mjs").Statements} Statements */

export class Transaction {
  /**
   * @param {import("node:sqlite").DatabaseSync} database
   * @param {Statements} statements
   */
  constructor(database, statements) {
    this.#database = database;
    this.#statements = statements;
  }

  #database;
  #statements;
  #savepoints = 0;
  /** How many of them, from the outermost, SQLite has been told of. */
  #known = 0;
  /** Whether there is something to commit. */
  isOpen = false;

  /** Before each write: let SQLite know of the transaction and of the open savepoints. */
  begin() {
    if (!this.isOpen) {
      this.#statements.begin.run();
      this.isOpen = true;
    }
    while (this.#known < this.#savepoints) this.#statements.savepoint[this.#known++]?.run();
  }

  savepoint() {
    this.#savepoints += 1;
  }

  /** Keep what was written since the innermost savepoint. */
  release() {
    this.#savepoints -= 1;
    if (this.#known > this.#savepoints) this.#forget();
  }

  /** Undo what was written since the innermost savepoint. @returns {boolean} whether anything was */
  rollback() {
    this.#savepoints -= 1;
    if (this.#known <= this.#savepoints) return false;
    this.#statements.rollbackTo[this.#savepoints]?.run();
    this.#forget();
    return true;
  }

  #forget() {
    this.#known -= 1;
    this.#statements.release[this.#known]?.run();
  }

  commit() {
    this.#statements.commit.run();
    this.isOpen = false;
  }

  /** Drop everything since the last commit. */
  abort() {
    if (this.isOpen) orIgnore(() => this.#database.exec("ROLLBACK")); // a full disk may have made SQLite roll back by itself
    this.isOpen = false;
    this.#savepoints = this.#known = 0;
  }

  /** End a transaction in which nothing is left to commit, without a wait for the disk. */
  drop() {
    this.#database.exec("ROLLBACK");
    this.isOpen = false;
  }
}

/** @param {() => void} attempt */
function orIgnore(attempt) {
  try {
    attempt();
  } catch {
    // what it was for is so already
  }
}
