// Watches many URLs with one stock client, some at once. Reads a job from stdin, and writes a line for each URL: its
// place, the digest of what came in the order in which it came, and, where that is not what was expected, what came.

import { createHash } from "node:crypto";
import { text } from "node:stream/consumers";

import { clients } from "./clients.js";

const { urls, types, expected, at_once, seconds_max } = JSON.parse(await text(process.stdin));
const watch = clients[process.argv[2]];

function see(url) {
  return new Promise((resolve) => {
    const seen = [];
    const digest = createHash("sha256");
    const over = () => { clearTimeout(patience); resolve([digest.digest("hex"), seen]); };
    const patience = setTimeout(() => { seen.push(["", "", "nothing more came"]); digest.update("!"); over(); }, seconds_max * 1000);
    let done = false;
    watch(url, types, (id, type, data) => {
      seen.push([id, type, data]);
      digest.update(`${id}\n${type}\n${data}\n\n`);
    }, () => { if (!done) { done = true; over(); } });
  });
}

let next = 0;
async function work() {
  while (next < urls.length) {
    const place = next++;
    const [digest, seen] = await see(urls[place]);
    console.log(JSON.stringify(digest === expected ? [place, digest] : [place, digest, seen]));
  }
}

await Promise.all(Array.from({ length: at_once }, work));
process.exit(0);
