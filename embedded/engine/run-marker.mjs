/** Notes in shared memory which function the engine runs, for the guard on the main thread. See docs/embedded-host.md, "The guard". */

const RUN = 0;
const KIND = 1;
const NUMBER = 2;
const JOB_OFFSET = 12;
const KINDS = { call: 1, update: 2, job: 3 };

export class RunMarker {
  /** @param {SharedArrayBuffer} memory */
  constructor(memory) {
    this.#words = new Int32Array(memory);
    this.#job = new Uint8Array(memory, JOB_OFFSET);
  }

  #words;
  #job;
  #last = 0;

  /** @param {"call" | "update"} kind @param {number} number  the call's `id`, or the subscription's `sub` */
  begin(kind, number) {
    this.#words[KIND] = KINDS[kind];
    this.#words[NUMBER] = number;
    this.#show();
  }

  /** @param {string} job */
  beginJob(job) {
    this.#words[KIND] = KINDS.job;
    this.#words[NUMBER] = job.length;
    this.#job.set(Buffer.from(job, "latin1"));
    this.#show();
  }

  end() {
    Atomics.store(this.#words, RUN, 0);
  }

  #show() {
    this.#last = this.#last === 0x7fffffff ? 1 : this.#last + 1;
    Atomics.store(this.#words, RUN, this.#last);
  }
}
