// Reads a stream to its end with the stock client of Durable Streams, in the mode that it is told, and prints what it was
// given, and by which offsets. A line of its own says that it has begun.

import { stream } from "@durable-streams/client";

const { url, live, offset } = JSON.parse(process.argv[2]);
const response = await stream({ url, live, offset, json: true });
const items = [];
const offsets = [];
let last = response;
if (live) {
  // Not `closed`, and no `json()` of several chunks: they look ahead, and can leave out the last.
  last = await new Promise((resolve) => {
    response.subscribeJson((batch) => {
      if (!offsets.length) process.stdout.write("begun\n");
      items.push(...batch.items);
      offsets.push(batch.offset);
      if (batch.streamClosed) resolve(batch);
    });
  });
} else {
  items.push(...(await response.json()));
  offsets.push(response.offset);
}
process.stdout.write(JSON.stringify({ items, offsets, offset: last.offset, isClosed: last.streamClosed }));
