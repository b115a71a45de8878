"""Three brokers, two processes of each role and the network between them under random faults; the checker has the word.

A short slice of it, for each placement, is in every run of the tests. PLAYHEAD_STORM_FAULTS, PLAYHEAD_STORM_SEED and
PLAYHEAD_STORM_PLACEMENT choose another; what happens follows from the seed as far as the machine lets it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from playhead.queue import Topics

from tests.chaos.crowd import Crowd, client
from tests.chaos.keeping import Keeper, all_serving, roles
from tests.chaos.nemesis import Nemesis, Scene
from tests.chaos.processes import Stage
from tests.chaos.scenario import use
from tests.chaos.settling import coverage, drained, noted_by_tools, read_all, stalls
from tests.history.check import check, percentile
from tests.history.lines import History, Line, merged
from tests.support.cluster import Cluster, can_mount
from tests.support.java_kafka import NoBroker, free_port
from tests.support.tcp_proxy import TcpProxy, proxying

FAULTS = int(os.environ.get("PLAYHEAD_STORM_FAULTS", "8"))
SEED = int(os.environ.get("PLAYHEAD_STORM_SEED", "1"))
PLACEMENTS = os.environ.get("PLAYHEAD_STORM_PLACEMENT", "topic,lanes").split(",")
LANES = 4
"""Few, so that what goes on at once shares them."""
KEPT = os.environ.get("PLAYHEAD_STORM_HISTORY", "")
"""Where the history is kept; a folder of the test else."""
SPARE = 1 + FAULTS // 50
"""Finished sessions whose topics are deleted, and topics of sessions that were made ahead."""
AT_ONCE = 8
"""Sessions that go on at the same time."""
PACE_SECONDS = 0.02
DISK_MEGABYTES = 192
LOST_SECONDS = 7
STARTED_SECONDS = 60.0
CALM_SECONDS = 400.0
"""How long the sessions that are still going may take after the storm, all together."""
HEAL_SECONDS = 60.0
"""How long one run may take after the last fault: the work itself, and what is left of session timeouts."""

TEXT = "ünï “quoted” \\ text "


def call(tool: str, number: int, seconds: float) -> dict[str, object]:
    return use(tool, number=number, seconds=seconds, text=TEXT)


TURNS: list[dict[str, object]] = [
    {"when": "story", "steps": [{"think": "A story."}, {"delta_characters": 8}, {"say": TEXT * 25}]},
    {
        "when": "mixed",
        "steps": [
            {"say": "All three at once."},
            *(call(tool, number, 0.4) for number, tool in enumerate(("reads", "writes", "pays"))),
            {"say": "And once more."},
            *(call(tool, number, 0.1) for number, tool in enumerate(("pays", "writes", "fails"), 3)),
            {"say": TEXT * 4},
        ],
    },
    {"when": "pay", "steps": [*(call("pays", number, 0.8) for number in range(4)), {"say": "Paid."}]},
    {"when": "slow", "steps": [call("writes", 0, 4.0), call("reads", 1, 2.0), {"say": "That took a while."}]},
    {"when": "refused", "steps": [call("refuses", 0, 0.1), call("reads", 1, 0.1), {"say": "Well."}]},
]
TEXTS = ("A story", "Something mixed", "Something mixed", "Do pay", "Something slow", "What is refused")


@asynccontextmanager
async def proxied_cluster() -> AsyncGenerator[tuple[Cluster, Sequence[TcpProxy]], None]:
    """Three brokers, each behind a proxy for its clients."""
    ports = [free_port() for _ in range(3)]
    cluster = Cluster(client_ports=ports, disk_megabytes=DISK_MEGABYTES if can_mount() else 0)
    try:
        await asyncio.to_thread(cluster.prepare)
        async with AsyncExitStack() as stack:
            proxies = [
                await stack.enter_async_context(proxying(broker.port, port=port, seed=SEED))
                for broker, port in zip(cluster.brokers, ports, strict=True)
            ]
            await asyncio.to_thread(cluster.start)
            await cluster.whole()
            yield cluster, proxies
    finally:
        await asyncio.to_thread(cluster.close)


@pytest.fixture
async def kafka() -> AsyncGenerator[tuple[Cluster, Sequence[TcpProxy]], None]:
    try:
        async with proxied_cluster() as both:
            yield both
    except NoBroker as reason:
        pytest.skip(f"no Kafka: {reason}")


@pytest.mark.kafka
@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_every_session_completes_after_a_storm_over_three_brokers(
    tmp_path: Path, kafka: tuple[Cluster, Sequence[TcpProxy]], placement: str
) -> None:
    cluster, proxies = kafka
    stage = Stage(tmp_path, cluster.bootstrap, "tests.chaos.tool_app", TURNS)
    stage.pace(PACE_SECONDS)
    stage.variables |= {
        "PLAYHEAD_LOST_SECONDS": str(LOST_SECONDS),
        "PLAYHEAD_KAFKA_REPLICATION_FACTOR": "3",
        "PLAYHEAD_KAFKA_MIN_INSYNC_REPLICAS": "2",
        "PLAYHEAD_KAFKA_PLACEMENT": placement,
        "PLAYHEAD_KAFKA_LANES": str(LANES),
    }
    history = History(time.monotonic, Path(KEPT) if KEPT else tmp_path / "history.jsonl")
    ahead = time.monotonic() - time.time()
    keepers = roles(stage, history, [free_port(), free_port()])
    urls = [keeper.url for keeper in keepers if keeper.role == "gateway"]
    crowd = Crowd(history, urls, TEXTS, random.Random(SEED))
    # Those who lose their log are not among those who are promised anything: they are another crowd, without notes.
    spare = Crowd(History(time.monotonic), urls, TEXTS[:1], random.Random(SEED), "spare")
    scene = Scene(keepers, cluster, proxies, history, lambda: crowd.going, can_mount(), [])
    nemesis = Nemesis(scene, FAULTS, SEED)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        keeping = [group.create_task(keeper.keep()) for keeper in keepers]
        await all_serving(keepers, STARTED_SECONDS)
        if placement == "topic":  # the topic of lanes is everybody's: who deletes it has deleted all
            await asyncio.gather(*(spare.session(number) for number in range(SPARE)))
            scene.spare_topics += [f"{stage.prefix}.session.{session}" for session in spare.sessions]
            there = [name for name in await cluster.topics() if ".session.ses_" in name]
            scene.spare_topics += [name for name in there if name not in scene.spare_topics][:SPARE]
        is_over = asyncio.Event()
        sitting = group.create_task(crowd.sit(is_over, AT_ONCE))
        await crowd.is_under_way.wait()
        await nemesis.rage()
        is_over.set()
        async with asyncio.timeout(CALM_SECONDS):
            await sitting
        assert await drained(cluster.bootstrap), "nobody consumed anything"
        topics = Topics(stage.prefix, lane_count=LANES if placement == "lanes" else 0)
        await read_all(history, urls, cluster.bootstrap, topics, crowd.sessions)
        deleted = {line["target"] for line in history.lines if line.get("kind") == "topic_deleted"}
        await nobody_knows(urls, [session for session in spare.sessions if any(session in name for name in deleted)])
        for task in keeping:
            task.cancel()
    lines = merged(history.lines, noted_by_tools(stage.journal, ahead))
    judged(lines, crowd, nemesis, keepers, time.monotonic() - began)


async def nobody_knows(urls: Sequence[str], sessions: Sequence[str]) -> None:
    """Hold that a session without its log is an unknown session, and that this is said at once."""
    for url in urls:
        async with client(url) as http:
            for session in sessions:
                for path in (f"/v1/sessions/{session}", f"/v1/sessions/{session}/events"):
                    assert (await http.get(path)).status_code == 404


def judged(lines: Sequence[Line], crowd: Crowd, nemesis: Nemesis, keepers: Sequence[Keeper], seconds: float) -> None:
    """Say what the storm came to, and fail unless all that is promised was kept."""
    report = check(lines, heal_seconds=HEAL_SECONDS)
    waits = sorted(stalls(lines), reverse=True)
    deaths = [death for keeper in keepers for death in keeper.deaths]
    logs = [line for line in lines if line["op"] == "log" and line["node"] == "reader-1"]
    types = Counter(event["type"] for line in logs for _, event in line["events"])
    results = Counter(event["status"] for line in logs for _, event in line["events"] if event["type"] == "tool_result")
    said = [
        f"seed {nemesis.seed}: {nemesis.struck.total()} faults in {seconds:.0f} s: {dict(nemesis.struck)}",
        f"{len(logs)} sessions, {types['run_started']} runs, {sum(types.values())} events; results {dict(results)}; "
        f"{types['owner_changed']} owners, {types['model_call_abandoned']} attempts abandoned",
        f"clients were told {dict(crowd.answers)}",
        f"the longest wait of a session after each fault: {percentiles([wait for wait, _, _ in waits])}; "
        f"worst {[(round(wait, 1), kind, target) for wait, kind, target in waits[:5]]}",
        f"recovery {percentiles(report.recovery_seconds)}",
        f"processes that ended by themselves: {[(death.who, death.code, death.has_served) for death in deaths]}",
        "met in each phase of a session's life:",
        *(f"  {kind:16} {dict(sorted(met.items()))}" for kind, met in sorted(coverage(lines).items())),
        f"checked {sum(report.checked.values())}: {dict(sorted(report.checked.items()))}",
        f"violations: {len(report.violations)}\n{report}",
    ]
    print("\n".join(said))  # noqa: T201
    for death in deaths:
        if death.has_served:
            print(f"--- {death.who} ended with {death.code}\n{death.last_words}")  # noqa: T201
    assert not report.violations
    assert not crowd.surprises
    assert not crowd.late
    assert not [death for death in deaths if death.has_served]


def percentiles(values: Sequence[float]) -> str:
    return "p50 {:.1f} s, p99 {:.1f} s, max {:.1f} s".format(*(percentile(values, share) for share in (0.5, 0.99, 1.0)))
