// Folds logs with playhead.js: a line of JSON events in, a line with what is shown after each of them out.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { reduce } = await import(pathToFileURL(process.argv[2]));

/** So that changing what was handed out fails. */
function frozen(value) {
  if (value !== null && typeof value === "object" && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(frozen);
  }
  return value;
}

for await (const line of createInterface({ input: process.stdin })) {
  let view;
  const views = JSON.parse(line).map((event) => (view = frozen(reduce(view, frozen({ cursor: `${event.seq}-00000000`, ...event })))));
  console.log(JSON.stringify(views));
}
