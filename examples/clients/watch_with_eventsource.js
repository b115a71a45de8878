// Watches a session with EventSource, which resumes by itself where the stream broke:
//
//     npm ci && node watch_with_eventsource.js http://127.0.0.1:4141 ses_…
//
// A browser has EventSource built in, but it sends no headers: use the cookie or a ticket there.

import { EventSource } from "eventsource";

const TYPES = [
  "session_started", "owner_changed", "user_message", "run_started", "run_completed", "run_failed", "run_cancelled",
  "model_call_started", "thinking", "text_delta", "tool_input_delta", "model_call_completed", "model_call_failed",
  "model_call_abandoned", "tool_call", "tool_started", "tool_progress", "tool_result_chunk", "tool_retry", "tool_result",
  "tool_pending", "tool_result_late", "question_asked", "question_answered", "final_response", "session_closed",
];

const [url, session] = process.argv.slice(2);
const token = process.env.PLAYHEAD_TOKEN;
const source = new EventSource(`${url}/v1/sessions/${session}/events`, {
  fetch: (input, init) => fetch(input, token ? { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } } : init),
});

for (const type of TYPES) {
  source.addEventListener(type, (event) => console.log(event.lastEventId, event.data));
}

// It would ask again for a stream that ended in order, so it must be told that nothing will follow.
source.addEventListener("end", () => source.close());

source.addEventListener("error", (event) => {
  // It comes back by itself, unless it was refused, or told by 204 that nothing is left.
  if (source.readyState === EventSource.CLOSED && event.code !== 204) process.exitCode = 1;
});
