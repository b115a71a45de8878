// Has playhead.js talk to servers that say anything: one answer a line (as JSON: status, headers, pieces in base64) on
// standard input, and for each a line on standard output: what broke, or nothing.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { events, start, PlayheadError } = await import(pathToFileURL(process.argv[2]));
const SESSION = "ses_" + "a".repeat(26);
const CONNECTIONS = 3;
const MS_MAX = 3000;
const EVENTS_MAX = 100_000;

Math.random = () => 1e-6; // nobody waits here, unless for what is beyond all bounds
const warned = [];
process.on("warning", (warning) => warned.push(String(warning)));

function answering({ status, headers, pieces }, own) {
  let asked = 0;
  return async (_, init) => {
    new Headers(init.headers); // what a browser would refuse to send
    if (++asked > CONNECTIONS) { own.abort(); throw new Error("enough"); }
    const left = pieces.map((piece) => Buffer.from(piece, "base64"));
    const body = new ReadableStream({
      pull(controller) { left.length ? controller.enqueue(new Uint8Array(left.shift())) : controller.close(); },
    });
    return new Response([204, 205, 304].includes(status) ? null : body, { status, headers });
  };
}

async function watched(answer) {
  const own = new AbortController();
  let last = 0;
  for await (const event of events({ url: "http://g", session: SESSION, fetch: answering(answer, own), signal: own.signal })) {
    if (!Number.isSafeInteger(event.seq) || event.seq <= last) throw new Error(`event ${event.seq} after ${last}`);
    last = event.seq;
    if (last > EVENTS_MAX) return;
  }
}

async function asked(answer) {
  const own = new AbortController();
  await start({ url: "http://g", fetch: answering(answer, own), signal: own.signal }, { input: "hi" });
}

async function broken(deed, answer) {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, MS_MAX, "it took too long"); });
  const came = deed(answer).then(() => "", (error) =>
    error instanceof PlayheadError || error.message === "enough" || error.name === "AbortError" ? "" : String(error.stack));
  const what = await Promise.race([came, late]);
  clearTimeout(timer);
  return what;
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = JSON.parse(line);
  const found = (await broken(watched, answer)) || (await broken(asked, answer)) || warned.splice(0).join("; ");
  process.stdout.write(JSON.stringify(found) + "\n");
}
