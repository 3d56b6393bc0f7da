/* Text, bytes and base64 for functions. Gives the globals. */
(function makeText(host, shared) {
  "use strict";

  const { DOMException, viewOf } = shared;

  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    get [Symbol.toStringTag]() {
      return "TextEncoder";
    }
    encode(text = "") {
      const whole = String(text);
      const bytes = new Uint8Array(host.utf8Length(whole));
      host.utf8Write(whole, bytes);
      return bytes;
    }
    encodeInto(text, target) {
      const { read, written } = host.utf8Write(String(text), target);
      return { read, written };
    }
  }

  class TextDecoder {
    #decoder;
    constructor(label = "utf-8", options = {}) {
      this.#decoder = host.textDecoder(String(label), {
        fatal: Boolean(options.fatal),
        ignoreBOM: Boolean(options.ignoreBOM),
      });
      if (this.#decoder === undefined) {
        throw new DOMException(`The encoding label provided ('${label}') is invalid.`, "RangeError");
      }
    }
    get encoding() {
      return this.#decoder.encoding;
    }
    get fatal() {
      return this.#decoder.fatal;
    }
    get ignoreBOM() {
      return this.#decoder.ignoreBOM;
    }
    get [Symbol.toStringTag]() {
      return "TextDecoder";
    }
    decode(data = new Uint8Array(0), options = {}) {
      const text = host.decode(this.#decoder, viewOf(data), Boolean(options.stream));
      if (text === undefined) throw new TypeError("The encoded data is not valid");
      return text;
    }
  }

  function transform(name, steps) {
    return class {
      #transform = new globalThis.TransformStream(steps());
      get encoding() {
        return "utf-8";
      }
      get readable() {
        return this.#transform.readable;
      }
      get writable() {
        return this.#transform.writable;
      }
      get [Symbol.toStringTag]() {
        return name;
      }
    };
  }

  const TextEncoderStream = transform("TextEncoderStream", () => ({
    transform(chunk, controller) {
      controller.enqueue(new TextEncoder().encode(chunk));
    },
  }));
  const TextDecoderStream = transform("TextDecoderStream", () => {
    const decoder = new TextDecoder();
    return {
      transform(chunk, controller) {
        const text = decoder.decode(chunk, { stream: true });
        if (text !== "") controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.decode();
        if (text !== "") controller.enqueue(text);
      },
    };
  });

  function base64(convert, message) {
    return (text) => {
      const result = convert(String(text));
      if (result === undefined) throw new DOMException(message, "InvalidCharacterError");
      return result;
    };
  }

  return {
    TextDecoder,
    TextDecoderStream,
    TextEncoder,
    TextEncoderStream,
    atob: base64(host.atob, "Failed to execute 'atob': The string is not correctly encoded"),
    btoa: base64(
      host.btoa,
      "Failed to execute 'btoa': The string contains characters outside of the Latin1 range",
    ),
  };
});
