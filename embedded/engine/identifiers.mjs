/** What Convex takes as the name of a field in a validator and of a table, and its words for what it does not take. */

const MAX_IDENTIFIER = 64;
const MAX_FIELD_NAME = 1024;

/**
 * @param {string} name  of a table
 * @returns {string | null} what is wrong with it
 */
export function identifierError(name) {
  const [first] = name;
  if (first === undefined) return "Identifier cannot be empty";
  if (!/[A-Za-z_]/.test(first)) {
    return `Invalid first character '${first}' in ${name}: Identifiers must start with an alphabetic character or underscore`;
  }
  const stranger = /[^A-Za-z0-9_]/u.exec(name);
  if (stranger !== null) {
    return `Identifier ${name} has invalid character '${stranger[0]}': Identifiers can only contain alphanumeric characters or underscores`;
  }
  if (name.length > MAX_IDENTIFIER) {
    return `Identifier is too long (${name.length} > maximum ${MAX_IDENTIFIER})`;
  }
  return /[^_]/.test(name) ? null : `Identifier ${name} cannot have exclusively underscores`;
}

/**
 * Documents may have fields that no validator can name.
 *
 * @param {string} name  of a field in an object validator
 * @returns {string | null} what is wrong with it
 */
export function validatorFieldError(name) {
  if (name.startsWith("$")) return `Field name ${name} starts with '$', which is reserved.`;
  const stranger = /[^ -~]/u.exec(name);
  if (stranger !== null) {
    const [char] = stranger;
    return `Field name ${name} has invalid character '${char}': Field names can only contain non-control ASCII characters`;
  }
  if (name.length > MAX_FIELD_NAME) {
    return `Field name is too long (${name.length} > maximum ${MAX_FIELD_NAME})`;
  }
  return identifierError(name);
}
