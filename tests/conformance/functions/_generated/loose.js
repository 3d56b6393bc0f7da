// Nothing of this folder is an entry point.
throw new Error("a module of _generated was loaded");
