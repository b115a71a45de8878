// The types of playhead.js: what events look like (docs/protocol.md, P9), and what `reduce` makes of them.

export type Failure = { code: string; message: string };
export type Usage = {
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
};
export type Budget = { steps?: number; calls?: number; tokens?: number; wall_seconds?: number };
export type Range = { first: number; last: number };

/** A content block: `text`, `thinking`, `tool_use`, `tool_result`, `image`, … */
export type Block = { type: string; [member: string]: any };

/** Events of a session's log, by their types. */
export interface Events {
  session_started: { agent: string; agent_version: string; model: string; metadata: any; forked_from?: string; budget: Budget; tenant?: string };
  owner_changed: { epoch: number; owner: string };
  user_message: { run_id: string; message_id: string; content: string | Block[] };
  run_started: { run_id: string; message_id: string };
  run_completed: { run_id: string; usage: Usage };
  run_failed: { run_id: string; error: Failure };
  run_cancelled: { run_id: string; reason: string };
  model_call_started: OfStep & { model: string; provider: string };
  thinking: OfStep & { text: string };
  text_delta: OfStep & { text: string };
  tool_input_delta: OfStep & { call_id: string; json: string };
  model_call_completed: OfStep & { message: { role: string; content: Block[] }; usage: Usage; stop_reason: string; elapsed_ms: number };
  model_call_failed: OfStep & { error: Failure; retry_in_ms?: number };
  model_call_abandoned: OfStep & { reason: string };
  tool_call: OfStep & { call_id: string; name: string; input: any; effect: string; pool: string; waits_for: string[]; key?: string; reconciles: boolean };
  tool_started: OfStep & { call_id: string; worker: string };
  tool_progress: OfStep & { call_id: string; progress: number; total?: number; message?: string };
  tool_result_chunk: OfStep & { call_id: string; output: any };
  tool_retry: OfStep & { call_id: string; try: number; delay_ms: number; error: Failure; delivery?: number };
  tool_result: OfStep & { call_id: string; status: string; output: any; elapsed_ms: number; cached: boolean };
  tool_pending: OfStep & { call_id: string; until: number; message?: string };
  tool_result_late: OfStep & { call_id: string; status: string; output: any; elapsed_ms: number };
  approval_requested: OfStep & { call_id: string; reason: string; expires_at?: number };
  approval_given: OfStep & { call_id: string; decision: string; by: string; reason?: string };
  question_asked: OfStep & { question_id: string; content: any; schema?: any; call_id?: string };
  question_answered: OfStep & { question_id: string; content: any; by: string };
  guardrail_tripped: OfStep & { guardrail: string; verdict: string; withdraws?: Range };
  final_response: { run_id: string; text: string; message_id: string };
  session_closed: { reason: string };
}

/** What an event has that is part of a model call, or of what follows from one. */
export type OfStep = { run_id: string; step: number; attempt: number };

/** An event in its place; `cursor` resumes after it. Types that are newer than this may come: skip them. */
export type Event = { [T in keyof Events]: { seq: number; type: T; at: number; cursor: string } & Events[T] }[keyof Events];

/** One message of the conversation. `streaming` is there while a model is still saying it. */
export type Message = {
  role: "user" | "assistant" | "tool";
  run_id: string;
  message_id?: string;
  /** A text or blocks; of the role `tool` one block. A `tool_use` that is streaming has its input's text in `json`. */
  content: any;
  streaming?: { step: number; attempt: number };
};

export type Call = {
  call_id: string;
  run_id: string;
  step: number;
  name: string;
  input: any;
  effect: string;
  pool: string;
  waits_for: string[];
  /** `open`, or what its result says. */
  status: string;
  /** Who runs it. */
  worker?: string;
  /** Its result comes from outside, until then (microseconds since the epoch). */
  until?: number;
  /** It waits for the answer to this question. */
  question_id?: string;
  progress?: { progress: number; total?: number; message?: string };
  /** Its output so far. */
  chunks: any[];
  /** The last try that failed. */
  retry?: { try: number; delay_ms: number; error: Failure; delivery?: number };
  output?: any;
  elapsed_ms?: number;
  cached?: boolean;
  /** What it brought after it had ended without. */
  late?: { status: string; output: any };
};

/** What there is to show of a session. */
export type View = {
  status: "idle" | "running" | "waiting" | "closed";
  seq: number;
  /** Where a stream goes on from here. */
  cursor?: string;
  agent?: string;
  messages: Message[];
  /** Messages whose run has not begun. */
  waiting: { run_id: string; message_id: string; content: any }[];
  /** The run that is going; `calls` are those without a result. */
  run?: { run_id: string; message_id: string; step: number; attempt: number; calls: string[] };
  /** The runs that have ended. */
  runs: Record<string, { status: "completed" | "failed" | "cancelled"; text?: string; error?: Failure }>;
  /** The answers of runs that have not ended. */
  texts: Record<string, string>;
  calls: Record<string, Call>;
  /** Questions that are open. */
  questions: { question_id: string; run_id: string; content: any; schema?: any; call_id?: string }[];
  usage: Usage;
};
