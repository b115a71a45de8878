// Talks to a gateway with the stock chat of the AI SDK and its default transport. Reads a job from its argument, and
// prints as JSON what came of it. What happens on the way is told in lines of its own, for who waits for it.

import { AbstractChat, DefaultChatTransport, readUIMessageStream } from "ai";

const job = JSON.parse(process.argv[2]);
const TRIES_MAX = 50;
const tell = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);

/** Where a chat without a user interface keeps what it has. */
class Kept {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, this.snapshot(message)));
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {
  constructor(init = {}) {
    const { api, id } = job;
    const { cutting: fetch, returning = {}, ...more } = init;
    const transport = new DefaultChatTransport({ api, fetch, ...returning, body: { agent: "support" } });
    super({ id, transport, state: new Kept(), ...more });
  }

  get all() {
    return this.state.messages;
  }
}

/** Gives a `fetch` whose first answers are torn: each after so many bytes, or once it has said something. */
function tearing(budgets, marker) {
  const left = [...budgets];
  return async (url, init) => {
    const response = await fetch(url, init);
    if (!response.body || !left.length) return response;
    let budget = left.shift();
    let seen = "";
    let isTorn = false;
    const reader = response.body.getReader();
    const body = new ReadableStream({
      async pull(controller) {
        if (isTorn) return;
        const { value, done } = await reader.read();
        if (done) return controller.close();
        seen += new TextDecoder().decode(value);
        controller.enqueue(value.subarray(0, budget));
        budget -= value.length;
        if (budget > 0 && !(marker && seen.includes(marker))) return;
        isTorn = true;
        reader.cancel().catch(() => {});
        setTimeout(() => controller.error(new TypeError("network error"))); // what was said is read before
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** Names the unfinished message, so that it is told whole even if its run is over by the time that somebody comes back. */
function naming(chat) {
  return {
    prepareReconnectToStreamRequest: ({ api, id }) => {
      const last = chat().all.at(-1);
      const query = last?.role === "assistant" ? `?messageId=${last.id}` : "";
      return { api: `${api}/${encodeURIComponent(id)}/stream${query}` };
    },
  };
}

const mine = () => ({ id: job.message.id, role: "user", parts: job.message.parts });

const ways = {
  async stock() {
    const told = [];
    let finished;
    const chat = new Chat({ onData: (part) => told.push(part), onFinish: (end) => (finished = end) });
    await chat.sendMessage(mine());
    const { isAbort, isError, isDisconnect, finishReason } = finished;
    const ends = { isAbort, isError, isDisconnect, finishReason };
    return { messages: chat.all, told, ends, status: chat.status, error: chat.error?.message };
  },

  async reading() {
    const transport = new DefaultChatTransport({ api: job.api });
    const asked = { chatId: job.id, messages: [mine()], trigger: "submit-message", messageId: undefined };
    let message;
    for await (const one of readUIMessageStream({ stream: await transport.sendMessages(asked) })) message = one;
    return { message };
  },

  async cuts() {
    const wrong = [];
    let count = 0;
    for (const budgets of job.cuts) {
      const chat = new Chat({ cutting: tearing(budgets), returning: naming(() => chat) });
      await chat.sendMessage(mine());
      for (let tries = 0; chat.status === "error" && tries < TRIES_MAX; tries += 1) {
        count += 1;
        // Who has nothing of the answer yet says the same once more.
        if (chat.all.at(-1).role === "assistant") await chat.resumeStream();
        else await chat.sendMessage();
      }
      const shown = JSON.stringify(chat.all);
      if (chat.status !== "ready" || shown !== JSON.stringify(job.expected)) wrong.push({ budgets, shown });
    }
    return { count, wrong };
  },

  async live() {
    let finished;
    const chat = new Chat({ cutting: tearing([Infinity], job.marker), onFinish: (end) => (finished = end) });
    await chat.sendMessage(mine());
    const cut = { status: chat.status, isDisconnect: finished.isDisconnect };
    const resuming = chat.resumeStream();
    while (chat.status !== "streaming") await new Promise((resolve) => setTimeout(resolve, 5));
    tell("resumed");
    await resuming;
    return { cut, messages: chat.all, status: chat.status };
  },

  async stop() {
    const chat = new Chat();
    const talking = chat.sendMessage(mine());
    while (!chat.all[1]?.parts.some((part) => part.type === "text" && part.text)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const stopping = async () => {
      const body = JSON.stringify({ assistantMessage: chat.all.at(-1) });
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch(`${job.api}/${encodeURIComponent(job.id)}/stop`, { method: "POST", headers, body });
      return { status: answer.status, ...(await answer.json()) };
    };
    const stopped = await stopping();
    await talking;
    const late = await stopping();
    return { stopped, late, messages: chat.all, status: chat.status };
  },

  async refused() {
    const chat = new Chat();
    await chat.sendMessage(mine());
    const before = chat.status;
    const errors = [];
    const fetched = async (asked) => {
      await asked();
      errors.push(chat.error?.message && JSON.parse(chat.error.message).code);
    };
    await fetched(() => chat.sendMessage({ text: "something else", messageId: job.message.id }));
    await fetched(() => chat.regenerate());
    return { before, errors };
  },

  async nothing() {
    const chat = new Chat();
    await chat.resumeStream();
    return { messages: chat.all, status: chat.status };
  },
};

tell(await ways[job.way]());
