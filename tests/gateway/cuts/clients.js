// The stock clients of npm, each told in its own words to watch one URL until the gateway says `end`.
// `heard(id, type, data)` gets every event but `ready`; `over()` is called when the client is done or has given up.

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource as NpmEventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventSource as UndiciEventSource } from "undici";

// What a browser has and node has not: fetch-event-source asks whether its page is hidden.
globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {} };

const asBrowsersDo = (EventSource) => (url, types, heard, over) => {
  const source = new EventSource(url);
  const finish = () => { source.close(); over(); };
  // An event whose type was lost on the way would come as `message`.
  for (const type of ["message", ...types]) {
    source.addEventListener(type, (event) => heard(event.lastEventId, type, event.data));
  }
  source.addEventListener("end", finish);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) finish(); });
};

export const clients = {
  "eventsource": asBrowsersDo(NpmEventSource),

  "undici": asBrowsersDo(UndiciEventSource),

  "eventsource-client": (url, types, heard, over) => {
    const source = createEventSource({
      url,
      onMessage: ({ id, event, data }) => {
        if (event === "end") { source.close(); over(); } else if (event !== "ready") heard(id, event, data);
      },
      onDisconnect: () => { if (source.readyState === "closed") over(); },
    });
    // On 204 it closes after it has said that it was disconnected.
    const closed = setInterval(() => {
      if (source.readyState === "closed") { clearInterval(closed); over(); }
    }, 5);
  },

  "fetch-event-source": (url, types, heard, over) => {
    const ended = new AbortController();
    fetchEventSource(url, {
      signal: ended.signal,
      onopen: async (response) => { if (response.status === 204) ended.abort(); },
      onmessage: ({ id, event, data }) => {
        if (event === "end") ended.abort(); else if (event !== "ready") heard(id, event, data);
      },
      // It takes an end of the body for the end of all, unless told otherwise.
      onclose: () => { throw new Error("the gateway has not said `end`"); },
      onerror: () => undefined,
    }).then(over, over);
  },
};
