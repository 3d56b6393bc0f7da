/** Compares two schemas as Convex's deployment API tells of it: which indexes come, go and change their stage. */

/**
 * @typedef {import("../engine/schema.mjs").Schema} Schema
 * @typedef {{ name: string, staged: boolean } & Record<string, unknown>} IndexConfig  as the API has it; name: "table.index"
 * @typedef {object} IndexDiff
 * @property {IndexConfig[]} added_indexes
 * @property {IndexConfig[]} removed_indexes
 * @property {IndexConfig[]} enabled_indexes  were staged
 * @property {IndexConfig[]} disabled_indexes  are staged from now on
 */

/**
 * @param {Schema} before
 * @param {Schema} after
 * @returns {IndexDiff}
 */
export function diffIndexes(before, after) {
  const [old, next] = [indexConfigs(before), indexConfigs(after)];
  const changed = [...next].filter(([key, { staged }]) => old.has(key) && old.get(key)?.staged !== staged);
  return {
    added_indexes: [...next].filter(([key]) => !old.has(key)).map(([, config]) => config),
    removed_indexes: [...old].filter(([key]) => !next.has(key)).map(([, config]) => config),
    enabled_indexes: changed.filter(([, { staged }]) => !staged).map(([, config]) => config),
    disabled_indexes: changed.filter(([, { staged }]) => staged).map(([, config]) => config),
  };
}

/**
 * @param {Schema} schema
 * @returns {Map<string, IndexConfig>} by what makes an index another one
 */
export function indexConfigs({ tables }) {
  /** @type {Map<string, IndexConfig>} */
  const configs = new Map();
  const add = (/** @type {Record<string, unknown>} */ config, /** @type {boolean} */ staged) =>
    configs.set(JSON.stringify(config), /** @type {IndexConfig} */ ({ ...config, staged }));
  for (const [table, { indexes, stagedIndexes, searchIndexes, vectorIndexes }] of tables) {
    const named = (/** @type {string} */ name) => `${table}.${name}`;
    for (const [group, staged] of /** @type {const} */ ([
      [indexes, false],
      [stagedIndexes, true],
    ])) {
      for (const { name, fields } of group)
        add({ name: named(name), type: "database", fields: [...fields, "_creationTime"] }, staged);
    }
    for (const { name, searchField, filterFields, staged } of searchIndexes)
      add({ name: named(name), type: "search", searchField, filterFields }, staged);
    for (const { name, vectorField, dimensions, filterFields, staged } of vectorIndexes)
      add({ name: named(name), type: "vector", vectorField, dimensions, filterFields }, staged);
  }
  return configs;
}
