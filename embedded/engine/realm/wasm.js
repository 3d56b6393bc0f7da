/* `WebAssembly` for functions: what compiles in the background elsewhere is done inside of the call. Gives no globals. */
(function makeWasm() {
  "use strict";

  const { Instance, Module } = WebAssembly;
  async function compile(bytes) {
    return new Module(bytes);
  }
  async function instantiate(source, imports) {
    if (source instanceof Module) return new Instance(source, imports);
    const module = new Module(source);
    return { module, instance: new Instance(module, imports) };
  }
  for (const method of [compile, instantiate]) {
    Object.defineProperty(WebAssembly, method.name, { value: method, writable: true, configurable: true });
  }
  delete WebAssembly.compileStreaming;
  delete WebAssembly.instantiateStreaming;
});
