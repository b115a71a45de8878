// Talks to a gateway with the stock AG-UI client, its verifier included. Reads a job from its argument, and prints as
// JSON what came of it: the messages that the client has in the end, how often it was cut, and what it was told.

import { buildResumeArray, HttpAgent } from "@ag-ui/client";
import { PlayheadAgent } from "./agui.js";

const job = JSON.parse(process.argv[2]);
const TRIES_MAX = 50;
const warnings = [];
console.warn = (...said) => warnings.push(said.join(" "));
console.error = () => {}; // the client says each broken connection there, too

/** Gives a `fetch` whose answers end after so many bytes each, torn or as if they were whole; the last one stays. */
function cutting(cuts, isTorn) {
  const left = [...cuts];
  return async (url, init) => {
    const response = await fetch(url, init);
    if (!response.body || !left.length) return response;
    let budget = left.shift();
    const reader = response.body.getReader();
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = budget ? await reader.read() : { done: true };
        if (!done) {
          controller.enqueue(value.subarray(0, budget));
          budget -= Math.min(budget, value.length);
          return;
        }
        reader.cancel().catch(() => {});
        if (isTorn && !budget) controller.error(new TypeError("torn"));
        else controller.close();
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

const sorted = (_, value) => (value && value.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value);
const plain = (messages) => JSON.parse(JSON.stringify(messages, (name, value) => (name === "metadata" ? undefined : value)));

/** Runs, and comes back until the run is over. */
async function follow(agent, parameters, subscriber) {
  let cuts = 0;
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    try {
      if (agent.cursor === undefined) await agent.runAgent(parameters, subscriber);
      else await agent.connectAgent(undefined, subscriber);
      return cuts;
    } catch {
      cuts += 1;
    }
  }
  throw new Error("it never came to the end");
}

function agentFor(more = {}) {
  const { url, threadId, messages: initialMessages } = job;
  return new PlayheadAgent({ url, threadId, initialMessages, ...more });
}

const ways = {
  /** One run, told by the unchanged client. */
  async stock() {
    const { url, threadId, messages: initialMessages } = job;
    const types = [];
    const agent = new HttpAgent({ url, threadId, initialMessages });
    const usage = [];
    await agent.runAgent({ runId: "mine" }, {
      onEvent: ({ event }) => { types.push(event.type); },
      onRunFinishedEvent: ({ event }) => { usage.push(event.usage, event.outcome, event.runId); },
    });
    return { messages: plain(agent.messages), types, usage };
  },
  /** The same run again and again, cut elsewhere each time. */
  async cuts() {
    const wrong = [];
    let count = 0;
    for (const [place, cuts] of job.cuts.entries()) {
      const agent = agentFor({ fetch: cutting(cuts, place % 2 === 0) });
      count += await follow(agent, { runId: "mine" });
      const shown = JSON.stringify(plain(agent.messages), sorted);
      if (shown !== JSON.stringify(job.expected, sorted)) wrong.push({ cuts, shown });
    }
    return { wrong: wrong.slice(0, 3), count };
  },
  /** One run, over a connection that somebody else cuts; then what a new page is shown. */
  async live() {
    const agent = agentFor();
    const cuts = await follow(agent, { runId: "mine" });
    await agent.connectAgent(); // nothing is left
    const page = agentFor({ initialMessages: [] });
    await page.connectAgent();
    return { messages: plain(agent.messages), page: plain(page.messages), cuts };
  },
  /** A run that asks; its answer; and what a new page is asked. */
  async interrupt() {
    const agent = agentFor();
    await agent.runAgent({ runId: "first" });
    const asked = agent.pendingInterrupts;
    const page = agentFor({ initialMessages: [] });
    await page.connectAgent();
    const resume = buildResumeArray(asked, { [asked[0].id]: { status: "resolved", payload: "yes" } });
    await agent.runAgent({ runId: "second", resume });
    return { asked, page: page.pendingInterrupts, left: agent.pendingInterrupts, messages: plain(agent.messages) };
  },
  /** What cannot be done fails before a run starts. */
  async refused() {
    const tools = [{ name: "confirm", description: "Ask.", parameters: { type: "object" } }];
    const agent = agentFor();
    const failure = await agent.runAgent({ tools }).then(() => null, (error) => error);
    return { status: failure.status, said: String(failure.message) };
  },
};

const out = await ways[job.way]();
console.log(JSON.stringify({ ...out, warnings }));
process.exit(0);
