import convex from "@convex-dev/eslint-plugin";
import js from "@eslint/js";
import reactHooks from "eslint-plugin-react-hooks";
import globals from "globals";
import tseslint from "typescript-eslint";

export default tseslint.config(
  {
    ignores: [
      "node_modules/",
      ".venv/",
      "**/_generated/",
      "embedded/fixtures/",
      ".signalbox/",
      "build/",
      "dashboard/dist/",
    ],
  },
  {
    files: ["**/*.{js,mjs}"],
    extends: [js.configs.recommended],
    languageOptions: { globals: { ...globals.node } },
  },
  {
    // What a function gives is any value, and `expect` looks at it; names that this suite itself chose are there (`!`).
    files: ["tests/{apps,conformance,packages,soak}/**/*.{ts,tsx}"],
    extends: [js.configs.recommended, ...tseslint.configs.recommended],
    rules: { "@typescript-eslint/no-non-null-assertion": "off" },
  },
  {
    // What runs inside of the page is written beside what drives it.
    files: ["dashboard/e2e/*.mjs"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
  {
    files: ["dashboard/**/*.{ts,tsx}"],
    extends: [
      js.configs.recommended,
      ...tseslint.configs.strictTypeChecked,
      reactHooks.configs.flat["recommended-latest"],
    ],
    languageOptions: {
      globals: globals.browser,
      parserOptions: { project: "./dashboard/tsconfig.json", tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/no-non-null-assertion": "off", // as in convex/
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": "off",
    },
  },
  {
    files: ["convex/**/*.ts"],
    extends: [js.configs.recommended, ...tseslint.configs.strictTypeChecked],
    plugins: { "@convex-dev": convex },
    languageOptions: {
      parserOptions: { project: "./convex/tsconfig.json", tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      ...Object.fromEntries(Object.keys(convex.rules).map((rule) => [`@convex-dev/${rule}`, "error"])),
      // What the types cannot know is said with `!` where the reason stands beside it; the tests hold it.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": "off",
    },
  },
);
