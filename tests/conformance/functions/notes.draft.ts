// The name has two dots, so this is no entry point, and what it does at load happens nowhere.
export const unreachable = true;
throw new Error("a module with two dots in its name was loaded");
