/**
 * An AG-UI agent that comes back: the stock `HttpAgent`, and `connect()`, which it does not have.
 *
 *     const agent = new PlayheadAgent({ url: "http://127.0.0.1:4141/agui?agent=support", threadId: "thread-1" });
 *     try { await agent.runAgent(); } catch (error) { if (error instanceof RunCut) await agent.connectAgent(); }
 *
 * A run goes on when its connection is lost. `runAgent()` and `connectAgent()` then reject with a `RunCut`, and
 * `connectAgent()` goes on from the last event that was seen (`agent.cursor`). On a new page it gives the thread as it
 * stands, and what comes. A request that failed before anything of its run was seen is made again with `runAgent()`: the
 * same messages get the same run. Needs `@ag-ui/client` 1.x and the `rxjs` that comes with it.
 */
import { HttpAgent, runHttpRequest, transformHttpEventStream } from "@ag-ui/client";
import { concat, defer, EMPTY, from, mergeMap, tap, throwError } from "rxjs";

/** The stream ended within a run: the run goes on, and so can the client. */
export class RunCut extends Error {
  name = "RunCut";
}

export class PlayheadAgent extends HttpAgent {
  /** Where `connectAgent()` goes on; without one it gives all there is. */
  cursor = undefined;

  constructor(config) {
    super(config);
    const asked = this.fetch;
    this.fetch = async (url, init) => unbroken(await asked(url, init), init.signal);
  }

  run(input) {
    return watched(this, super.run(input));
  }

  connect(input) {
    const url = new URL(this.url, globalThis.location?.href);
    url.pathname = `${url.pathname.replace(/\/$/, "")}/${encodeURIComponent(input.threadId)}/events`;
    if (this.cursor !== undefined) url.searchParams.set("after", this.cursor);
    if (this.abortController.signal.aborted) this.abortController = new AbortController();
    const init = { headers: { ...this.headers, Accept: "text/event-stream" }, signal: this.abortController.signal };
    const told = (response) => transformHttpEventStream(runHttpRequest(async () => response));
    // 204: nothing goes on, and nothing is left.
    const events = from(this.fetch(url.href, init)).pipe(mergeMap((one) => (one.status === 204 ? EMPTY : told(one))));
    return watched(this, events);
  }
}

/** Notes the cursor of each event, and fails where the stream ends within a run: the stock client takes that for an end. */
function watched(agent, events) {
  let isOpen = false;
  const noted = events.pipe(
    tap((event) => {
      isOpen = event.type !== "RUN_FINISHED" && event.type !== "RUN_ERROR";
      agent.cursor = event.metadata?.playhead?.cursor ?? agent.cursor;
    }),
  );
  const cut = () => throwError(() => new RunCut("the stream ended within a run, which goes on"));
  return concat(noted, defer(() => (isOpen ? cut() : EMPTY)));
}

/** Has a body that breaks look like one that stops: the stock client lets go of a broken one by an unhandled rejection. */
function unbroken(response, signal) {
  if (!response.ok || !response.body) return response;
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        if (signal?.aborted) controller.error(error);
        else controller.close();
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: response.status, headers: response.headers });
}
