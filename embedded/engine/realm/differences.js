/*
 * Where Convex's web classes do other than Node's, which stand in for them, in functions of every kind. Gives by name what makes the one class
 * of the other: what is refused here is refused there, and what code and its authors see of it says the same.
 */
(function differences(shared) {
  "use strict";

  const { DOMException, throwNotImplemented } = shared;

  const BODIES = "string | ArrayBuffer | Blob | FormData | ReadableStream | null";
  const RESPONSE_BODIES = "string | ArrayBuffer | Blob | ReadableStream | null";
  const BODY_KINDS = new Set([
    "ArrayBuffer",
    "Blob",
    "File",
    "FormData",
    "ReadableStream",
    "URLSearchParams",
  ]);
  const NULL_BODY = new Set([204, 205, 304]); // Node takes no body with them, not even an empty one
  const KNOWN_METHODS = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]);

  function isBody(body) {
    return (
      typeof body === "string" ||
      ArrayBuffer.isView(body) ||
      BODY_KINDS.has(Object.prototype.toString.call(body).slice(8, -1))
    );
  }

  function defineGetters(prototype, className, names) {
    for (const name of names) {
      const get = () => throwNotImplemented(`get ${name}`, className);
      Object.defineProperty(prototype, name, { get, configurable: true });
    }
  }

  /** The methods that read a body: a second one is refused in Convex's words, and a copy is one of this class. */
  function readOnce(Class) {
    const { prototype } = Class;
    const base = Object.getPrototypeOf(prototype);
    for (const name of ["arrayBuffer", "blob", "formData", "json", "text"]) {
      const read = {
        async [name]() {
          if (this.bodyUsed && this.body !== null) {
            const what = `Failed to execute '${name}' on '${Class.name}'`;
            throw new TypeError(`${what}: body stream already read`);
          }
          return base[name].call(this);
        },
      }[name];
      Object.defineProperty(prototype, name, { value: read, writable: true, configurable: true });
    }
  }

  return {
    URL(Base) {
      class URL extends Base {
        constructor(url, base) {
          try {
            super(url, base);
          } catch {
            throw new TypeError(
              `Invalid URL: '${base !== undefined && !Base.canParse(String(base)) ? base : url}'`,
            );
          }
        }
        static parse(url, base) {
          return URL.canParse(url, base) ? new URL(url, base) : null;
        }
      }
      const of = (name) => Object.getOwnPropertyDescriptor(Base.prototype, name);
      for (const name of ["host", "password", "username"]) {
        const set = () => throwNotImplemented(`set ${name}`, "URL");
        Object.defineProperty(URL.prototype, name, { ...of(name), set });
      }
      const setHref = of("href").set;
      Object.defineProperty(URL.prototype, "href", {
        ...of("href"),
        set(href) {
          if (!Base.canParse(String(href))) throw new TypeError(`Could not parse URL: ${this.href}`);
          setHref.call(this, href);
        },
      });
      return URL;
    },

    Request(Base) {
      class Request extends Base {
        constructor(input, options) {
          if (input === undefined) throw new TypeError("Request URL is undefined");
          const isRequest = input instanceof Base;
          if (!isRequest && typeof input !== "string" && !(input instanceof globalThis.URL)) {
            throw new TypeError(`Failed to parse URL from ${input}`);
          }
          const { protocol } = new globalThis.URL(isRequest ? input.url : input);
          if (protocol !== "http:" && protocol !== "https:") {
            const scheme = protocol.slice(0, -1);
            throw new TypeError(
              `Unsupported URL scheme -- http and https are supported (scheme was ${scheme})`,
            );
          }
          // What Convex knows of the options, which may be a request themselves.
          const { body = null, headers, method, redirect, signal } = withoutUnknown(options);
          const init = { body };
          if (typeof method === "string") init.method = method;
          if (headers !== undefined) init.headers = headers;
          if (redirect !== undefined) init.redirect = redirect;
          if (signal !== undefined && signal !== null) init.signal = signal;
          if (body === null) {
            delete init.body;
          } else {
            const upper = (init.method ?? (isRequest ? input.method : "GET")).toUpperCase();
            if (upper === "GET" || upper === "HEAD") {
              throw new TypeError(
                "Failed to construct 'Request': Request with GET/HEAD method cannot have body.",
              );
            }
            if (!isBody(body)) {
              throwNotImplemented(`constructor with body type other than ${BODIES}`, "Request");
            }
            init.duplex = "half"; // Node wants to be told of a stream
          }
          if (KNOWN_METHODS.has(init.method?.toUpperCase())) init.method = init.method.toUpperCase();
          super(input, init);
        }
        clone() {
          return Object.setPrototypeOf(super.clone(), Request.prototype);
        }
      }
      readOnce(Request);
      defineGetters(Request.prototype, "Request", [
        "cache",
        "credentials",
        "destination",
        "duplex",
        "integrity",
        "isHistoryNavigation",
        "isReloadNavigation",
        "keepalive",
        "mode",
        "redirect",
        "referrer",
        "referrerPolicy",
      ]);
      /** A request that is given as options tells only what it has. */
      function withoutUnknown(options) {
        if (!(options instanceof Base)) return options ?? {};
        return {
          body: options.body,
          headers: options.headers,
          method: options.method,
          signal: options.signal,
        };
      }
      return Request;
    },

    Response(Base) {
      function jsonOf(data) {
        try {
          if (data !== undefined) return JSON.stringify(data);
        } catch {
          // as what is undefined
        }
        throw new TypeError("Failed to execute 'json' on 'Response': The data is not JSON serializable");
      }
      const nullBodyStatus = new WeakMap();
      class Response extends Base {
        constructor(body = null, options = {}) {
          const { status: given, statusText = "", headers = [] } = options ?? {};
          const status = given === undefined ? 200 : typeof given === "string" ? Number(given) : given;
          if (!Number.isInteger(status) || status < 200 || status > 599) {
            throw new RangeError(
              "Failed to construct 'Response': The status provided is outside the range [200, 599].",
            );
          }
          if (body !== null && !isBody(body)) {
            throwNotImplemented(`constructor with body type other than ${RESPONSE_BODIES}`, "Response");
          }
          const hidesStatus = body !== null && NULL_BODY.has(status);
          super(body, { status: hidesStatus ? 200 : status, statusText, headers });
          if (hidesStatus) nullBodyStatus.set(this, status);
        }
        get status() {
          return nullBodyStatus.get(this) ?? super.status;
        }
        get ok() {
          return this.status >= 200 && this.status <= 299;
        }
        clone() {
          const copy = Object.setPrototypeOf(super.clone(), Response.prototype);
          if (nullBodyStatus.has(this)) nullBodyStatus.set(copy, this.status);
          return copy;
        }
        static error() {
          return new Response(null, { status: 500 });
        }
        static redirect(url, status = 302) {
          const location = typeof url === "string" ? url : url.href;
          return new Response(null, { status, headers: { location } });
        }
        static json(data, init) {
          const response = new Response(jsonOf(data), init);
          response.headers.set("content-type", "application/json");
          return response;
        }
      }
      readOnce(Response);
      return Response;
    },

    TextDecoder(Base) {
      return class TextDecoder extends Base {
        constructor(label = "utf-8", options = {}) {
          try {
            super(label, options);
          } catch {
            throw new DOMException(`The encoding label provided ('${label}') is invalid.`, "RangeError");
          }
        }
      };
    },
  };
});
