// Watches one session with the stock client, as a browser would, until the gateway says `end`.
// Prints what it saw as JSON: the id and type of each event, and how often the connection broke.

import { EventSource } from "eventsource";

const TYPES = [
  "session_started", "owner_changed", "user_message", "run_started", "model_call_started", "text_delta",
  "model_call_completed", "tool_call", "tool_result", "final_response", "run_completed", "session_closed",
];

const seen = [];
let readies = 0;
let breaks = 0;
const source = new EventSource(process.argv[2]);
for (const type of TYPES) {
  source.addEventListener(type, (event) => seen.push([event.lastEventId, type, JSON.parse(event.data).seq]));
}
source.addEventListener("ready", () => { readies += 1; });
source.addEventListener("error", () => {
  breaks += 1;
  if (source.readyState === EventSource.CLOSED) finish();
});
source.addEventListener("end", finish);

function finish() {
  source.close();
  console.log(JSON.stringify({ seen, readies, breaks }));
}
