/** Writes metrics in Prometheus' text form. */

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/**
 * @typedef {Record<string, string | number>} Labels
 * @typedef {{ labels?: Labels, value: number }} Sample
 * @typedef {object} Histogram
 * @property {Labels} [labels]
 * @property {readonly number[]} bounds  upper ends of the buckets, rising, without +Inf
 * @property {readonly number[]} counts  of each bucket alone, the one above the last bound too
 * @property {number} sum
 */

/**
 * @param {"counter" | "gauge"} type
 * @param {string} name  of a counter: ends in `_total`
 * @param {string} help
 * @param {number | readonly Sample[]} samples  none: the metric is left out
 * @returns {string} lines, each with its end
 */
export function metric(type, name, help, samples) {
  const all = typeof samples === "number" ? [{ value: samples }] : samples;
  return family(
    type,
    name,
    help,
    all.map(({ labels = {}, value }) => line(name, labels, value)),
  );
}

/**
 * @param {string} name
 * @param {string} help
 * @param {readonly Histogram[]} histograms
 * @returns {string} lines, each with its end
 */
export function histogram(name, help, histograms) {
  const lines = histograms.flatMap(({ labels = {}, bounds, counts, sum }) => {
    let below = 0;
    const buckets = counts.map((count, i) => {
      below += count;
      return line(`${name}_bucket`, { ...labels, le: i < bounds.length ? String(bounds[i]) : "+Inf" }, below);
    });
    return [...buckets, line(`${name}_sum`, labels, sum), line(`${name}_count`, labels, below)];
  });
  return family("histogram", name, help, lines);
}

/**
 * @param {string} type
 * @param {string} name
 * @param {string} help
 * @param {readonly string[]} lines
 */
function family(type, name, help, lines) {
  if (lines.length === 0) return "";
  const told = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return `# HELP ${name} ${told}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

/**
 * @param {string} name
 * @param {Labels} labels
 * @param {number} value
 */
function line(name, labels, value) {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(String(text))}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${formatNumber(value)}\n`;
}

/** @param {string} text */
function escapeLabel(text) {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** @param {number} value */
function formatNumber(value) {
  if (Number.isFinite(value) || Number.isNaN(value)) return String(value);
  return value > 0 ? "+Inf" : "-Inf";
}
