// Runs the tests that `suite.json` says are about reads, with SUITE_ALL=1 also those that take long. The others are
// listed in the report as not run.

import { readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";

const groups = JSON.parse(readFileSync(new URL("suite.json", import.meta.url), "utf8"));
const wanted = ([group]) => process.env.SUITE_ALL === "1" || !group.startsWith("Property-Based");
const names = Object.entries(groups).filter(wanted).flatMap(([group, tests]) =>
  Object.entries(tests).flatMap(([name, why]) => (why === "read" ? [`${group.replaceAll(" > ", " ")} ${name}`] : [])),
);
const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

export default defineConfig({
  test: { include: ["reads.test.mjs"], testNamePattern: new RegExp(`^ ?(${escaped.join("|")})$`), testTimeout: 15_000 },
});
