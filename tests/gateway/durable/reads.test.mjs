// The protocol's own suite for servers. Which of its tests are run says the configuration.

import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.SUITE_URL, longPollTimeoutMs: 2000 });
