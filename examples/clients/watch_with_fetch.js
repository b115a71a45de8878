// Watches a session with fetch alone, and resumes where the stream broke:
//
//     node watch_with_fetch.js http://127.0.0.1:4141 ses_…

const [url, session] = process.argv.slice(2);
const headers = { Accept: "text/event-stream" };
if (process.env.PLAYHEAD_TOKEN) headers.Authorization = `Bearer ${process.env.PLAYHEAD_TOKEN}`;
let retryMs = 2000;

/** Gives the frames of one connection as objects. A gateway writes each member on one line, with LF alone. */
async function* frames(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      yield Object.fromEntries(part.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
    }
  }
}

async function* watch() {
  for (;;) {
    try {
      const response = await fetch(`${url}/v1/sessions/${session}/events`, { headers });
      if (response.status === 204) return;
      if (response.status >= 400 && response.status < 500) throw new Error(`refused: ${await response.text()}`);
      for await (const { event, data, id, retry } of frames(response.body)) {
        if (retry) retryMs = Number(retry);
        if (event === "end") return;
        if (!id) continue; // `ready`, `draining`, and signs of life
        yield [id, data];
        headers["Last-Event-ID"] = id;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // what fetch says of a network that broke
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

for await (const [cursor, data] of watch()) console.log(cursor, data);
