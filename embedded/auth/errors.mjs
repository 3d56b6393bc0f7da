/** The one error of credentials. */

/** A credential that was refused. `code` is a transport error code of Convex, `status` the one that HTTP answers with it. */
export class AuthError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} [status]
   */
  constructor(code, message, status = 401) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/**
 * @param {string} message
 * @returns {AuthError} of a user's token
 */
export function invalidToken(message) {
  return new AuthError("InvalidAuthHeader", message);
}
