/**
 * Ranges of keys and who holds them: finds all holders of the ranges around a key in logarithmic time.
 *
 * A treap ordered by range, every node knowing the farthest end below it. Holders of the same range share a node.
 */

/**
 * @template T
 * @typedef {object} Node
 * @property {Buffer} low  inclusive
 * @property {Buffer | null} high  exclusive; null: to the end
 * @property {Set<T>} holders  never empty
 * @property {number} priority  a parent's is not below its children's
 * @property {Buffer | null} farthest  the greatest `high` of this node and all below it
 * @property {Node<T> | null} left
 * @property {Node<T> | null} right
 */

/** @template T */
export class RangeTree {
  /** @type {Node<T> | null} */
  #root = null;
  #seed = 1;

  get isEmpty() {
    return this.#root === null;
  }

  /**
   * @param {Buffer} low
   * @param {Buffer | null} high
   * @param {T} holder
   */
  add(low, high, holder) {
    this.#root = insert(this.#root, low, high, holder, this.#nextPriority());
  }

  /**
   * @param {Buffer} low
   * @param {Buffer | null} high
   * @param {T} holder  of exactly this range
   */
  remove(low, high, holder) {
    this.#root = remove(this.#root, low, high, holder);
  }

  /**
   * @param {Buffer} key
   * @param {Set<T>} holders  gets every holder of a range with `key` in it
   */
  collect(key, holders) {
    collect(this.#root, key, holders);
  }

  /** xorshift: priorities need to be spread, not secret. */
  #nextPriority() {
    this.#seed ^= this.#seed << 13;
    this.#seed ^= this.#seed >>> 17;
    this.#seed ^= this.#seed << 5;
    return this.#seed;
  }
}

/**
 * @param {Buffer | null} a
 * @param {Buffer | null} b
 * @returns {number} null being after everything
 */
function compareEnds(a, b) {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return Buffer.compare(a, b);
}

/**
 * @template T
 * @param {Buffer} low
 * @param {Buffer | null} high
 * @param {Node<T>} node
 */
function compareRange(low, high, node) {
  return Buffer.compare(low, node.low) || compareEnds(high, node.high);
}

/**
 * @template T
 * @param {Node<T> | null} node
 * @param {Buffer} low
 * @param {Buffer | null} high
 * @param {T} holder
 * @param {number} priority  of the node, should one be made
 * @returns {Node<T>} the new top
 */
function insert(node, low, high, holder, priority) {
  if (node === null) {
    return { low, high, holders: new Set([holder]), priority, farthest: high, left: null, right: null };
  }
  const order = compareRange(low, high, node);
  if (order === 0) {
    node.holders.add(holder);
    return node;
  }
  if (order < 0) {
    const left = insert(node.left, low, high, holder, priority);
    node.left = left;
    if (left.priority > node.priority) return rotateRight(node, left);
  } else {
    const right = insert(node.right, low, high, holder, priority);
    node.right = right;
    if (right.priority > node.priority) return rotateLeft(node, right);
  }
  updateFarthest(node);
  return node;
}

/**
 * @template T
 * @param {Node<T> | null} node
 * @param {Buffer} low
 * @param {Buffer | null} high
 * @param {T} holder
 * @returns {Node<T> | null} the new top
 */
function remove(node, low, high, holder) {
  if (node === null) return null;
  const order = compareRange(low, high, node);
  if (order < 0) {
    node.left = remove(node.left, low, high, holder);
  } else if (order > 0) {
    node.right = remove(node.right, low, high, holder);
  } else {
    node.holders.delete(holder);
    return node.holders.size === 0 ? join(node.left, node.right) : node;
  }
  updateFarthest(node);
  return node;
}

/**
 * @template T
 * @param {Node<T> | null} left  all before `right`
 * @param {Node<T> | null} right
 * @returns {Node<T> | null}
 */
function join(left, right) {
  if (left === null) return right;
  if (right === null) return left;
  if (left.priority > right.priority) {
    left.right = join(left.right, right);
    updateFarthest(left);
    return left;
  }
  right.left = join(left, right.left);
  updateFarthest(right);
  return right;
}

/**
 * @template T
 * @param {Node<T> | null} node
 * @param {Buffer} key
 * @param {Set<T>} holders
 */
function collect(node, key, holders) {
  while (node !== null && (node.farthest === null || Buffer.compare(key, node.farthest) < 0)) {
    collect(node.left, key, holders);
    if (Buffer.compare(key, node.low) < 0) return;
    if (node.high === null || Buffer.compare(key, node.high) < 0) {
      for (const holder of node.holders) holders.add(holder);
    }
    node = node.right;
  }
}

/** @template T @param {Node<T>} node @param {Node<T>} left */
function rotateRight(node, left) {
  node.left = left.right;
  left.right = node;
  updateFarthest(node);
  updateFarthest(left);
  return left;
}

/** @template T @param {Node<T>} node @param {Node<T>} right */
function rotateLeft(node, right) {
  node.right = right.left;
  right.left = node;
  updateFarthest(node);
  updateFarthest(right);
  return right;
}

/** @template T @param {Node<T>} node */
function updateFarthest(node) {
  let farthest = node.high;
  if (node.left !== null && compareEnds(node.left.farthest, farthest) > 0) farthest = node.left.farthest;
  if (node.right !== null && compareEnds(node.right.farthest, farthest) > 0) farthest = node.right.farthest;
  node.farthest = farthest;
}
