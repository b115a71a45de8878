// Does with playhead.js what a test says, as JSON on the command line, and prints as JSON what came of it.

import { pathToFileURL } from "node:url";

const { module, how, ...asked } = JSON.parse(process.argv[2]);
const playhead = await import(pathToFileURL(module));

const seen = [], states = [];
const at = { ...asked, onStatus: (status) => states.push(status.error ? { state: status.state, error: status.error.message, status: status.error.status } : status) };
const note = ({ cursor, ...event }) => seen.push([cursor, event]);

/** What a browser's page has, as far as playhead.js looks at it. */
function aPage() {
  const page = new EventTarget();
  page.hidden = false;
  page.turn = (hidden) => { page.hidden = hidden; page.dispatchEvent(new Event("visibilitychange")); };
  globalThis.document = page;
  return page;
}

const deeds = {
  async iterate() {
    try {
      for await (const event of playhead.events(at)) note(event);
    } catch (error) {
      seen.push(String(error));
    }
  },

  async connect() {
    const watching = playhead.connect({ ...at, onEvent: note });
    const error = await watching.done;
    seen.push([watching.cursor, error?.message ?? null]);
  },

  async leave() {
    for await (const event of playhead.events(at)) {
      note(event);
      if (event.seq === asked.last) break;
    }
  },

  async close() {
    const watching = playhead.connect({ ...at, onEvent: (event) => { note(event); if (event.seq === asked.last) watching.close(); } });
    seen.push((await watching.done) ?? null);
  },

  async abort() {
    const stop = new AbortController();
    const watching = playhead.connect({ ...at, signal: stop.signal, onEvent: note });
    while (!states.some(({ state }) => state === "open")) await new Promise(setImmediate);
    stop.abort();
    seen.push((await watching.done) ?? null);
  },

  async hide() {
    const page = aPage();
    const watching = playhead.connect({
      ...at,
      onStatus: (status) => {
        states.push(status);
        if (status.state === "hidden") setTimeout(() => page.turn(false), 20);
        if (status.state === "open" && states.some(({ state }) => state === "hidden")) watching.close();
      },
      onEvent: (event) => { note(event); if (event.seq === asked.last) page.turn(true); },
    });
    await watching.done;
  },

  async look_away() {
    // Hidden and shown again before its time, the stream goes on.
    const page = aPage();
    const watching = playhead.connect({
      ...at,
      hiddenMs: 1,
      onEvent: async (event) => {
        note(event);
        page.turn(true);
        page.turn(false);
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (event.seq === asked.last) watching.close();
      },
    });
    await watching.done;
  },

  async tokens() {
    let given = 0;
    const token = asked.token ?? (() => `token ${++given}`);
    await deeds.iterate.call(null, Object.assign(at, { token }));
  },

  async send() {
    for (const [name, ...args] of asked.calls) {
      seen.push(await playhead[name](at, ...args).catch((error) => ({ error: error.message, status: error.status, code: error.code })));
    }
  },

  parse() {
    const feed = playhead.parser();
    for (const piece of asked.pieces) seen.push(...feed(piece));
  },
};

await deeds[how]();
console.log(JSON.stringify({ seen, states }));
process.exit(0);
