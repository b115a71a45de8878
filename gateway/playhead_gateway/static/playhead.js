// @ts-check
/**
 * The JavaScript client of a Playhead gateway, for browsers and Node 20+. No dependencies; Apache-2.0.
 *
 *     import { connect, reduce, start } from "/static/playhead.js";
 *     const session = await start({ url }, { agent: "support", input: "What time is it in Oslo?" });
 *     let view;
 *     connect({ url, session: session.id, onEvent: (event) => { view = reduce(view, event); show(view); } });
 *
 * Streams resume where they broke, each event comes once and in order, and nothing is sent twice.
 */

/**
 * @typedef {import("./types.d.ts").Event} Event
 * @typedef {import("./types.d.ts").Block} Block
 * @typedef {import("./types.d.ts").View} View
 *
 * @typedef {(
 *   | {state: "connecting" | "hidden" | "ended" | "closed"}
 *   | {state: "open", status: string, last_seq: number}
 *   | {state: "waiting", reason: string, wait_ms: number}
 *   | {state: "failed", error: Error}
 * )} Status What becomes of the connection; the last is `ended`, `closed` (by you) or `failed`
 *
 * @typedef {object} Gateway
 * @property {string} [url] of the gateway; in a browser the page's own, if left out
 * @property {string | (() => string | Promise<string>)} [token] a bearer token, or what gives one that is still good:
 *   asked before each request and each reconnect, and again on 401; what it throws is waited out, but a `PlayheadError`
 * @property {typeof globalThis.fetch} [fetch]
 * @property {AbortSignal} [signal]
 *
 * @typedef {Gateway & {session: string}} At
 *
 * @typedef {object} Watching
 * @property {string} [after] a cursor
 * @property {string[]} [types] the only types to be shown
 * @property {"all" | "final"} [deltas]
 * @property {(status: Status) => void} [onStatus]
 * @property {number} [hiddenMs] after which a hidden page lets go of its stream; Infinity: never
 */

const POST_TRIES = 3;
const FIRST_MS = 200; // the bound of the first wait; it doubles
const MOST_MS = 10_000;
const RETRY_AFTER_MS_MAX = 30_000;
const SILENCE_MS = 25_000; // without a sign of life (a gateway gives one each 10 s) a stream is dead
const HIDDEN_MS = 30_000;
const FRAME_CHARS_MAX = 8 * 1024 * 1024;
const BUSY = [429, 500, 502, 503, 504];

/** What a gateway refuses, or a stream that can only be wrong. `code` is that of the gateway's problem. */
export class PlayheadError extends Error {
  /** @param {string} message @param {number} [status] @param {string} [code] */
  constructor(message, status, code) {
    super(message);
    this.name = "PlayheadError";
    this.status = status;
    this.code = code;
  }
}

/** Something that may be otherwise on the next try. */
class Broken extends Error {
  constructor(message, leaveAloneMs = 0) {
    super(message);
    this.leaveAloneMs = leaveAloneMs;
  }
}

/** @returns {never} */
function broken(error) {
  throw error instanceof PlayheadError ? error : new Broken(String(error));
}

// --- asking

/** Gives an answer that is neither a refusal (`PlayheadError`) nor worth another try (`Broken`). */
async function ask({ url = "", token, fetch = globalThis.fetch }, path, init) {
  let response;
  for (let asked = 0; ; asked++) {
    const bearer = typeof token === "function" ? await Promise.resolve().then(token).catch(broken) : token;
    const headers = { ...init.headers, ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) };
    response = await fetch(url.replace(/\/$/, "") + path, { cache: "no-store", ...init, headers }).catch(broken);
    // A token may have expired on its way: once more, with a new one.
    if (response.status !== 401 || typeof token !== "function" || asked) break;
  }
  if (response.ok) return response;
  const problem = Object(await response.json().catch(() => ({})));
  const parts = [problem.title, problem.detail].filter((part) => part && typeof part === "string");
  const said = parts.join(": ") || `${response.status} from ${response.url}`;
  if (!BUSY.includes(response.status)) throw new PlayheadError(said, response.status, problem.code);
  throw new Broken(said, Math.min(Number(response.headers.get("Retry-After")) * 1000 || 0, RETRY_AFTER_MS_MAX));
}

/** Asks for something once: when an answer is lost, it is asked for again with the same key. */
async function post(gateway, path, body, key = newKey()) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  for (let tries = 0; ; tries++) {
    try {
      const init = { method: "POST", headers, body: JSON.stringify(body), signal: gateway.signal };
      const response = await ask(gateway, path, init);
      return await response.json().catch(broken);
    } catch (error) {
      gateway.signal?.throwIfAborted();
      if (!(error instanceof Broken)) throw error;
      if (tries === POST_TRIES - 1) throw new PlayheadError(`no answer: ${error.message}`);
      await pause(Math.max(backoff(tries, 0), error.leaveAloneMs));
    }
  }
}

/** A random idempotency key (`randomUUID` is not to be had on plain http). */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pathOf = (at) => `/v1/sessions/${encodeURIComponent(at.session)}`;

/**
 * Begins a session, with `input` also its first run. The same `key` again is the same session.
 * @param {Gateway} gateway
 * @param {{agent?: string, input?: string | Block[], metadata?: object, key?: string}} [what]
 * @returns {Promise<{id: string, agent?: string, status: string, last_seq: number, run_id?: string, message_id?: string}>}
 */
export const start = (gateway, { key, ...body } = {}) => post(gateway, "/v1/sessions", body, key);

/**
 * Sends a message. `mode` is for while a run is going.
 * @param {At} at @param {string | Block[]} content
 * @param {{mode?: "queue" | "interrupt" | "reject", key?: string}} [how]
 * @returns {Promise<{run_id: string, message_id: string}>}
 */
export const send = (at, content, { mode, key } = {}) => post(at, `${pathOf(at)}/messages`, { content, mode }, key);

/**
 * Asks for a run, or for all that is going or waiting, to be stopped.
 * @param {At} at @param {{run_id?: string, key?: string}} [which]
 */
export const cancel = (at, { run_id, key } = {}) => post(at, `${pathOf(at)}/cancel`, { run_id }, key);

/**
 * Answers a question, with any JSON.
 * @param {At} at @param {string} question_id @param {any} content @param {{key?: string}} [how]
 */
export const answer = (at, question_id, content, { key } = {}) =>
  post(at, `${pathOf(at)}/answers/${encodeURIComponent(question_id)}`, { content }, key);

/**
 * Cancels everything and ends the session.
 * @param {At} at @param {{key?: string}} [how]
 */
export const close = (at, { key } = {}) => post(at, `${pathOf(at)}/close`, {}, key);

// --- watching

/**
 * Makes a parser of server-sent events: give it text as it comes, and it gives the frames that are whole.
 * @returns {(text: string) => {event: string, data: string, id: string, retry?: number}[]}
 */
export function parser() {
  let rest = "", event = "", id = "";
  let data = [], held = 0, retry;
  return (text) => {
    const frames = [];
    const ends = /[\r\n]/.test(text) || rest.endsWith("\r"); // a long line may come in very many pieces
    rest += text;
    // A CR at the end may be half of a line end: it waits for what follows.
    const lines = ends ? rest.split(/\r\n|\n|\r(?!$)/) : [rest];
    rest = lines.pop() ?? "";
    if (rest.length + held > FRAME_CHARS_MAX) throw new PlayheadError("a frame of the stream has no end");
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (!line) {
        if (data.length) frames.push({ event: event || "message", data: data.join("\n"), id, retry });
        event = ""; data = []; held = 0; retry = undefined;
      } else if (name === "event") event = value;
      else if (name === "data") held += data.push(value) && value.length + 1;
      else if (name === "id" && !value.includes("\0")) id = value;
      else if (name === "retry" && /^\d+$/.test(value)) retry = Math.min(Number(value), RETRY_AFTER_MS_MAX);
    }
    return frames;
  };
}

/**
 * Gives the events after a cursor, then those that come, each once and in order, until the session is closed.
 *
 * Leave it with `break`, or by `signal`. Throws `PlayheadError` for what the gateway refuses; all else it mends itself.
 * @param {At & Watching} options
 * @returns {AsyncGenerator<Event, void, void>}
 */
export async function* events(options) {
  const { after, signal, onStatus = () => {} } = options;
  const { types, deltas } = options;
  const place = new Reading(after, !types?.length && deltas !== "final");
  const page = new Page(options.hiddenMs ?? HIDDEN_MS, signal);
  let tries = 0;
  try {
    for (;;) {
      if (page.hidden) onStatus({ state: "hidden" });
      await page.shown();
      if (signal?.aborted) break;
      onStatus({ state: "connecting" });
      let leaveAloneMs = 0, reason = "the gateway closed the stream";
      try {
        for await (const event of stream(options, place, page, onStatus)) {
          tries = 0;
          yield event;
        }
        if (place.ended) { onStatus({ state: "ended" }); return; }
      } catch (error) {
        if (signal?.aborted) break;
        if (!(error instanceof Broken)) throw error;
        ({ message: reason, leaveAloneMs } = error);
      }
      if (page.hidden) continue;
      // A draining gateway says by when its viewers should be back, so that they do not all come at once.
      const wait_ms = place.sentAway
        ? Math.random() * place.retryMs
        : leaveAloneMs + backoff(tries++, place.retryMs);
      onStatus({ state: "waiting", reason, wait_ms });
      await pause(wait_ms, page);
    }
    onStatus({ state: "closed" });
  } catch (/** @type {any} */ error) {
    onStatus({ state: "failed", error });
    throw error;
  } finally {
    page.leave();
  }
}

/**
 * Watches a session: `onEvent` gets each event once and in order, and is awaited.
 * @param {At & Watching & {onEvent: (event: Event) => any}} options
 * @returns {{close: () => void, done: Promise<Error | undefined>, readonly cursor: string | undefined}}
 *   `done` never rejects: it gives the error that ended the watching, if one did
 */
export function connect(options) {
  const own = new AbortController();
  const stop = () => own.abort();
  let cursor = options.after;
  const watch = async () => {
    options.signal?.addEventListener("abort", stop);
    if (options.signal?.aborted) stop();
    try {
      for await (const event of events({ ...options, signal: own.signal })) {
        if (own.signal.aborted) break;
        await options.onEvent(event);
        cursor = event.cursor;
      }
      return undefined;
    } catch (/** @type {any} */ error) {
      return error;
    } finally {
      options.signal?.removeEventListener("abort", stop);
    }
  };
  return { close: stop, done: watch(), get cursor() { return cursor; } };
}

/** Where a watcher is in the log, whether what it is told follows from there, and when it should come back. */
class Reading {
  retryMs = 0;
  sentAway = false;
  ended = false;
  #checked = true;
  #doubt = "";

  constructor(after, whole) {
    this.cursor = after;
    this.whole = whole;
    this.seq = after === undefined ? undefined : parseInt(after, 10);
  }

  open(firstSeq) {
    this.#checked = this.whole;
    this.seq ??= firstSeq - 1;
  }

  /**
   * A gateway leaves out events of types that are newer than it: a gap that is there again on the next connection is
   * one of these, and on that connection there may be more.
   */
  step(seq, cursor) {
    const last = this.seq ?? seq - 1;
    const said = `the stream told event ${seq} after event ${last}`;
    if (seq <= last) throw new PlayheadError(said);
    if (seq > last + 1 && this.#checked) {
      if (this.#doubt !== said) {
        this.#doubt = said;
        throw new Broken(said);
      }
      this.#checked = false;
    }
    this.seq = seq;
    this.cursor = cursor;
  }
}

/** The page that watches: hidden for long, it lets go of its streams, of which a browser has few. */
class Page {
  hidden = false;
  #listening = new AbortController();
  #woken = new Set();
  #timer;

  constructor(hiddenMs, signal) {
    const wake = () => { for (const one of [...this.#woken]) one(); };
    const listening = { signal: this.#listening.signal };
    signal?.addEventListener("abort", wake, listening);
    this.signal = signal;
    if (typeof document === "undefined") return;
    const look = () => {
      clearTimeout(this.#timer);
      if (!document.hidden) { this.hidden = false; wake(); }
      else if (hiddenMs < Infinity) this.#timer = setTimeout(() => { this.hidden = true; wake(); }, hiddenMs);
    };
    document.addEventListener("visibilitychange", look, listening);
    globalThis.addEventListener?.("online", wake, listening);
    if (document.hidden) look();
  }

  /** Calls back when the page is shown or hidden for long, is online again, or is to stop. */
  onWake(then) {
    this.#woken.add(then);
    return () => this.#woken.delete(then);
  }

  async shown() {
    while (this.hidden && !this.signal?.aborted) {
      await new Promise((resolve) => { const off = this.onWake(() => { off(); resolve(undefined); }); });
    }
  }

  leave() {
    clearTimeout(this.#timer);
    this.#listening.abort();
  }
}

/** Gives what one connection brings. */
async function* stream(options, place, page, onStatus) {
  const line = new AbortController();
  const { signal, types, deltas } = options;
  const off = page.onWake(() => { if (page.hidden || signal?.aborted) line.abort(); });
  let heardAt = Date.now(), timer;
  const listen = () => {
    const left = heardAt + SILENCE_MS - Date.now();
    if (left > 0) timer = setTimeout(listen, left); else line.abort();
  };
  listen();
  place.sentAway = false;
  try {
    const query = new URLSearchParams({ ...(types?.length && { types: types.join() }), ...(deltas && { deltas }) });
    const headers = { Accept: "text/event-stream", ...(place.cursor && { "Last-Event-ID": place.cursor }) };
    const path = `${pathOf(options)}/events?${query}`;
    const response = await ask(options, path, { headers, signal: line.signal });
    if (response.status === 204) { place.ended = true; return; }
    if (!response.body || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw new PlayheadError(`${response.url} is not an event stream: is it a Playhead gateway?`);
    }
    const reader = response.body.getReader(), decoder = new TextDecoder(), parse = parser();
    for (;;) {
      const { done, value } = await reader.read().catch(broken);
      if (done) return;
      heardAt = Date.now();
      for (const { event, data, id, retry } of parse(decoder.decode(value, { stream: true }))) {
        if (line.signal.aborted) throw new Broken("left");
        if (retry !== undefined) place.retryMs = retry;
        const said = data[0] === "{" ? read(data) : {};
        if (event === "ready") {
          place.open(said.first_seq);
          onStatus({ state: "open", status: said.status, last_seq: said.last_seq });
        } else if (event === "end" || event === "draining") {
          place[event === "end" ? "ended" : "sentAway"] = true;
          return;
        } else if (said.seq) {
          // The cursor is sent back, in a header.
          if (!Number.isSafeInteger(said.seq) || !/^[!-~]{1,80}$/.test(id)) throw new PlayheadError(`no event: ${data}`);
          place.step(said.seq, id);
          yield { ...said, cursor: id };
        }
      }
    }
  } finally {
    off();
    clearTimeout(timer);
    line.abort();
  }
}

function read(data) {
  try { return JSON.parse(data); } catch (error) { throw new PlayheadError(`the stream told what is no JSON: ${error}`); }
}

/** Anything up to a bound that doubles, so that herds spread. */
function backoff(tries, retryMs) {
  const bound = FIRST_MS * 2 ** Math.min(tries, 16);
  return Math.random() * Math.min(MOST_MS, tries ? Math.max(bound, retryMs) : bound);
}

/** Waits, or until the page wakes. */
function pause(ms, /** @type {Page | undefined} */ page = undefined) {
  return new Promise((resolve) => {
    const timer = setTimeout(over, ms);
    const off = page?.onWake(over);
    function over() {
      clearTimeout(timer);
      off?.();
      resolve(undefined);
    }
  });
}

// --- showing

/** @type {View} */
const EMPTY = {
  status: "idle", seq: 0, messages: [], waiting: [], runs: {}, texts: {}, calls: {}, questions: [],
  usage: { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 },
};

/**
 * Advances what is shown of a session by its next event, from the first on; `undefined` is before that.
 *
 * Neither is changed; what is the same in the old view and the new one is the same object.
 * @param {View | undefined} view @param {Event} event @returns {View}
 */
export function reduce(view = EMPTY, event) {
  const next = { ...changed(view, event), seq: event.seq, cursor: event.cursor };
  next.status = statusOf(next, view.status === "closed" || event.type === "session_closed");
  return next;
}

function statusOf({ run, calls }, closed) {
  if (closed) return "closed";
  if (!run) return "idle";
  const ready = run.calls.map((id) => calls[id]).filter((call) => !call.waits_for.some((id) => run.calls.includes(id)));
  const waits = ready.length && ready.every((call) => call.until !== undefined || call.question_id !== undefined);
  return waits ? "waiting" : "running";
}

/** @param {View} view @param {Event} event */
function changed(view, event) {
  const { run, messages } = view;
  const ours = "run_id" in event && run?.run_id === event.run_id ? run : undefined;
  switch (event.type) {
    case "session_started":
      return { ...view, agent: event.agent };
    case "user_message":
      return { ...view, waiting: [...view.waiting, pick(event, "run_id", "message_id", "content")] };
    case "run_started": {
      const asked = view.waiting.find((one) => one.run_id === event.run_id);
      return {
        ...view,
        messages: asked ? [...said(messages), { role: "user", ...asked }] : messages,
        waiting: view.waiting.filter((one) => one.run_id !== event.run_id),
        run: { ...pick(event, "run_id", "message_id"), step: 0, attempt: 0, calls: [] },
      };
    }
    case "run_completed":
      return ended(view, event.run_id, { status: "completed", text: view.texts[event.run_id] });
    case "run_failed":
      return ended(view, event.run_id, { status: "failed", error: event.error });
    case "run_cancelled":
      return ended(view, event.run_id, { status: "cancelled" });
    case "final_response":
      return { ...view, texts: { ...view.texts, [event.run_id]: event.text } };
    case "model_call_started":
      if (!ours) return view;
      return { ...view, messages: said(messages), run: { ...ours, ...pick(event, "step", "attempt") } };
    case "text_delta":
      return ours ? { ...view, messages: grown(messages, event, "text", event.text) } : view;
    case "thinking":
      return ours ? { ...view, messages: grown(messages, event, "thinking", event.text) } : view;
    case "tool_input_delta":
      return ours ? { ...view, messages: grown(messages, event, "tool_use", event.json, event.call_id) } : view;
    case "model_call_completed": {
      if (!ours) return view;
      const content = Array.isArray(event.message?.content) ? event.message.content : [];
      return {
        ...view,
        messages: [...said(messages), { role: "assistant", run_id: event.run_id, content }],
        usage: sum(view.usage, event.usage),
      };
    }
    case "model_call_failed":
    case "model_call_abandoned":
      return ours ? { ...view, messages: said(messages) } : view;
    case "question_asked": {
      const asked = pick(event, "question_id", "run_id", "content", "schema", "call_id");
      const questions = [...view.questions.filter((one) => one.question_id !== event.question_id), asked];
      const { question_id } = event;
      return call({ ...view, questions }, event.call_id, { question_id, worker: undefined });
    }
    case "question_answered": {
      const id = run?.calls.find((one) => view.calls[one].question_id === event.question_id);
      const questions = view.questions.filter((one) => one.question_id !== event.question_id);
      return call({ ...view, questions }, id, { question_id: undefined });
    }
    case "tool_call": {
      if (!ours) return view;
      const made = pick(event, "call_id", "run_id", "step", "name", "input", "effect", "pool", "waits_for");
      const calls = { ...view.calls, [event.call_id]: { ...made, status: "open", chunks: [] } };
      return { ...view, calls, run: { ...ours, calls: [...ours.calls, event.call_id] } };
    }
    case "tool_started":
      return call(view, event.call_id, { worker: event.worker });
    case "tool_progress":
      return call(view, event.call_id, { progress: pick(event, "progress", "total", "message") });
    case "tool_result_chunk":
      return call(view, event.call_id, { chunks: [...(view.calls[event.call_id]?.chunks ?? []), event.output] });
    case "tool_retry": {
      const again = event.delivery === undefined ? {} : { worker: undefined };
      return call(view, event.call_id, { retry: pick(event, "try", "delay_ms", "error", "delivery"), ...again });
    }
    case "tool_pending":
      return call(view, event.call_id, { until: event.until, worker: undefined });
    case "tool_result": {
      // Whichever run is going: a call is open in it or nowhere.
      if (!run?.calls.includes(event.call_id)) return view;
      const block = {
        type: "tool_result",
        tool_use_id: event.call_id,
        content: event.output,
        status: event.status,
        is_error: !["ok", "fallback"].includes(event.status),
      };
      const over = { ...pick(event, "status", "output", "elapsed_ms", "cached"), ...NOT_OPEN };
      return {
        ...call(view, event.call_id, over),
        messages: [...messages, { role: "tool", run_id: run.run_id, content: block }],
        run: { ...run, calls: run.calls.filter((id) => id !== event.call_id) },
        questions: view.questions.filter((one) => one.call_id !== event.call_id),
      };
    }
    case "tool_result_late": {
      const known = view.calls[event.call_id];
      const late = pick(event, "status", "output");
      return known ? { ...view, calls: { ...view.calls, [event.call_id]: { ...known, late } } } : view;
    }
    default:
      return view; // nothing to show, or newer than this
  }
}

const NOT_OPEN = { worker: undefined, until: undefined, question_id: undefined, progress: undefined, chunks: [] };

const pick = (from, ...names) =>
  Object.fromEntries(names.filter((name) => name in from).map((name) => [name, from[name]]));

/** Changes an open call. */
function call(view, id, change) {
  if (id === undefined || !view.run?.calls.includes(id)) return view;
  return { ...view, calls: { ...view.calls, [id]: { ...view.calls[id], ...change } } };
}

function ended(view, id, end) {
  const { [id]: _, ...texts } = view.texts;
  const going = view.run?.run_id === id ? undefined : view.run;
  return {
    ...view,
    texts,
    messages: going ? view.messages : said(view.messages),
    waiting: view.waiting.filter((one) => one.run_id !== id),
    questions: view.questions.filter((one) => one.run_id !== id),
    run: going,
    runs: { ...view.runs, [id]: end },
  };
}

/** Leaves out what is still being said. */
const said = (messages) => (messages.at(-1)?.streaming ? messages.slice(0, -1) : messages);

/** Adds a piece to what is being said: to its last block, or to a new one of another kind. */
function grown(messages, { run_id, step, attempt }, type, piece, /** @type {string | undefined} */ id = undefined) {
  const field = id === undefined ? "text" : "json";
  const last = messages.at(-1);
  const streaming = { step, attempt };
  const same = last?.streaming?.step === step && last.streaming.attempt === attempt && last.run_id === run_id;
  const blocks = same ? last.content : [];
  const at = blocks.findLastIndex((block) => block.type === type && block.id === id);
  const found = at >= 0 && (id !== undefined || at === blocks.length - 1);
  const content = found
    ? blocks.with(at, { ...blocks[at], [field]: blocks[at][field] + piece })
    : [...blocks, { type, ...(id !== undefined && { id }), [field]: piece }];
  return [...said(messages), { role: "assistant", run_id, content, streaming }];
}

const sum = (one, other) => Object.fromEntries(Object.keys(one).map((name) => [name, one[name] + (other[name] ?? 0)]));
