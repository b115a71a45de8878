// Runs the tests that `suite.json` says are about reads. The others are listed in the report as not run.

import { readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";

const groups = JSON.parse(readFileSync(new URL("suite.json", import.meta.url), "utf8"));
const names = Object.entries(groups).flatMap(([group, tests]) =>
  Object.entries(tests).flatMap(([name, why]) => (why === "read" ? [`${group.replaceAll(" > ", " ")} ${name}`] : [])),
);
const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

export default defineConfig({
  test: { include: ["reads.test.mjs"], testNamePattern: new RegExp(`^ ?(${escaped.join("|")})$`), testTimeout: 15_000 },
});
