/**
 * Holds what mutations read and write to the table of docs/architecture.md: every test that runs on the host's engine does,
 * since that records it.
 */
import architecture from "../docs/architecture.md?raw";

/** Tables, by name. */
export type Touched = { read: string[]; written: string[] };

const BEGIN = "<!-- reads and writes of mutations -->";
const ROW = /^\| `([\w:]+)` \| (.*?) \| (.*?) \|$/;

/** The table of the document, by the path of the mutation. */
export function documented(text: string = architecture): Map<string, Touched> {
  const rows = new Map<string, Touched>();
  for (const line of text.slice(text.indexOf(BEGIN)).split("\n")) {
    const [, path, read, written] = ROW.exec(line) ?? [];
    if (path !== undefined) rows.set(path, { read: names(read!), written: names(written!) });
  }
  return rows;
}

function names(cell: string): string[] {
  return cell
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

/** Fail on a table that a mutation touched and the document does not name. */
export function checkTouched(touched: Map<string, Touched>, rows = documented()): void {
  const unsaid: string[] = [];
  for (const [path, { read, written }] of touched) {
    if (path.startsWith("probe:")) continue;
    const row = rows.get(path) ?? { read: [], written: [] };
    const more = (found: string[], said: string[]) => found.filter((table) => !said.includes(table));
    const [reads, writes] = [more(read, row.read), more(written, row.written)];
    if (reads.length > 0) unsaid.push(`${path} reads ${reads.join(", ")}`);
    if (writes.length > 0) unsaid.push(`${path} writes ${writes.join(", ")}`);
  }
  if (unsaid.length > 0) throw new Error(`docs/architecture.md does not say that ${unsaid.join("; ")}`);
}
