/** Base64 as Convex's runtime reads it. */

const { atob } = globalThis; // in the actions' realm the name becomes what is made of it here
const ONE_PAD_TOO_FEW = /^[^=]+=$/;

/**
 * As the standard's `atob`, but for one sign of padding where two belong, which Convex takes too.
 *
 * @param {string} text
 * @returns {string} a character for each byte
 * @throws {DOMException} InvalidCharacterError: it is no base64
 */
export function forgivingAtob(text) {
  const packed = text.replaceAll(/[\t\n\f\r ]/g, "");
  return atob(packed.length % 4 === 3 && ONE_PAD_TOO_FEW.test(packed) ? `${packed}=` : packed);
}
