/** A host process for a spec file, with the functions of this suite. */

import { cp, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { HostProcess } from "../host_process.mjs";

const FUNCTIONS = path.join(import.meta.dirname, "functions");

const PACKAGES = path.join(import.meta.dirname, "../../node_modules");

/**
 * A project with a copy of the suite's functions and more files beside them.
 *
 * @param files  their text by their path in the functions folder
 * @returns the functions folder, and what removes the project
 */
async function copyFunctions(files: Record<string, string>) {
  const project = await mkdtemp(path.join(tmpdir(), "project-"));
  const functions = path.join(project, "convex");
  await cp(FUNCTIONS, functions, { recursive: true });
  await symlink(PACKAGES, path.join(project, "node_modules"));
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(functions, name), text);
  return { functions, remove: () => rm(project, { recursive: true }) };
}

export interface HostOptions {
  /** The functions folder; by default the one of this suite. */
  functions?: string;
  /** Files that a copy of this suite's folder gets, their text by their path. */
  files?: Record<string, string>;
  /** More flags of the command line. */
  flags?: string[];
  env?: Record<string, string>;
}

/** A host process on this suite's functions, or others, and files beside them; removed with it. */
export class Host extends HostProcess {
  readonly #removeFunctions: () => Promise<void>;

  private constructor(functions: string, { flags = [], env = {} }: HostOptions, remove: () => Promise<void>) {
    super({ functions, flags, env });
    this.#removeFunctions = remove;
  }

  /** Resolves when it serves; rejects with what it said when it does not start. */
  static async serve(options: HostOptions = {}): Promise<Host> {
    const { functions, remove } =
      options.files === undefined
        ? { functions: options.functions ?? FUNCTIONS, remove: async () => {} }
        : await copyFunctions(options.files);
    const host = new Host(functions, options, remove);
    try {
      return await host.start();
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
  }

  override async [Symbol.asyncDispose]() {
    await super[Symbol.asyncDispose]();
    await this.#removeFunctions();
  }
}
