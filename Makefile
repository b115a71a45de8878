# Needs only make and Python 3.11 or newer; the first target that runs makes .venv and keeps it up to date.
#
#   make demo     a session that survives kill -9, shown live (no key, no network once installed)
#   make test     every test; those that need a broker say so where there is neither Docker nor Java with Maven
#   make soak     kill and stop processes at random for SOAK_ROUNDS (100) rounds, on a real Kafka
#   make chaos    kill -9 at every failpoint of worker and owner, with every effect, on SQLite and on a real Kafka
#   make once-storm   CALLS (500) calls that must not run twice, under random kills and suspensions (SEED)
#   make kafka-chaos   FAULTS (300) faults of processes, brokers, disks and network on three real brokers (SEED,
#                 PLACEMENT=lanes)
#   make kill-storm    KILLS (1000) times kill -9 of `playhead dev` under load
#   make power    power cuts under the SQLite store, at every moment
#   make fuzz     every surface that strangers' bytes reach, SECONDS (60) each
#   make cuts     a recorded session cut after every byte, resumed by seven stock clients (CLIENT=undici for one)
#   make rolling-restart   two gateways on a real Kafka restarted one after the other under VIEWERS (200) viewers
#   make simulate SEEDS (2000) simulated deployments, each with faults of its own (ARGS='--seed 7 --trace' for one)
#   make ablations   remove each safeguard in turn: how many simulations until one notices
#   make bench    every target of the design, measured against references of the same run: 20 minutes, and exit code 1
#                 if one is missed (BENCH_ARGS='--kafka no', '--only stream,crowd', '--wire openai'; bench/README.md)
#   make bench-quick   one round of it, in under 3 minutes
#   make flame    where the time of a streaming process goes: a flame graph by py-spy (BENCH_ARGS='--system plain')
#   make bench-tools   calls a second of 1, 2 and 4 tool workers on a real Kafka (BENCH_ARGS='--calls 2000')
#   make bench-viewers   what 1,000 viewers and 1,000 sessions cost, and stalled ones (BENCH_ARGS='--quick')
#   make bench-scaling   1, 2 and 4 orchestrators, workers and gateways on a real Kafka, and what a deploy makes clients
#                 wait; exit code 1 beyond its bound (BENCH_ARGS='--quick', '--only handover')
#   make bench-placements   a topic a session and lanes, with 10, 1,000 and 10,000 live sessions: what each costs by itself
#   make bench-starts   how long `playhead --version`, `dev` and `demo` take to begin
#   make steady   MINUTES (60) at 60 % of the measured capacity, and nothing may grow: a plot, and exit code 1 if something
#                 does (SYSTEM=embedded, lanes or kafka)
#   make compare   the same work on LangGraph's server, DBOS and Redis Streams (COMPARE_ARGS='--rounds 1')
#   make check    format, lint, types, imports, schemas: under a minute
#   make format   rewrite what `make check` would complain about
#   make schemas  derive the Avro schemas from the classes

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
# One stamp for each state of pyproject.toml and each interpreter: nothing is installed twice.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml Makefile | cksum | cut -d' ' -f1)

.PHONY: demo test soak chaos once-storm kafka-chaos kill-storm power fuzz cuts rolling-restart simulate ablations bench bench-quick flame bench-tools bench-viewers bench-scaling bench-placements bench-starts steady compare check format schemas clean
.DEFAULT_GOAL := test

demo: $(STAMP)
	$(BIN)/playhead demo

# Many tests wait for processes that they have killed: three at once keep two cores busy.
test: $(STAMP)
	$(BIN)/python -m pytest -rs -n 3 --dist worksteal $(PYTEST_ARGS)

soak: SOAK_ROUNDS ?= 100
soak: $(STAMP)
	PLAYHEAD_SOAK_ROUNDS=$(SOAK_ROUNDS) $(BIN)/python -m pytest -rs tests/chaos/test_soak.py $(PYTEST_ARGS)

CHAOS := $(addprefix tests/chaos/test_,failpoints.py suspended.py long_calls.py pending.py)
chaos: $(STAMP)
	PLAYHEAD_CHAOS_ALL=1 $(BIN)/python -m pytest -rs -s $(CHAOS) $(PYTEST_ARGS)

once-storm: CALLS ?= 500
once-storm: SEED ?= 1
once-storm: $(STAMP)
	PLAYHEAD_STORM_CALLS=$(CALLS) PLAYHEAD_STORM_SEED=$(SEED) \
		$(BIN)/python -m pytest -rs -s tests/chaos/test_once_storm.py $(PYTEST_ARGS)

kafka-chaos: FAULTS ?= 300
kafka-chaos: SEED ?= 1
kafka-chaos: PLACEMENT ?= topic
kafka-chaos: $(STAMP)
	PLAYHEAD_STORM_FAULTS=$(FAULTS) PLAYHEAD_STORM_SEED=$(SEED) PLAYHEAD_STORM_PLACEMENT=$(PLACEMENT) \
		$(BIN)/python -m pytest -rs -s tests/chaos/test_kafka_storm.py $(PYTEST_ARGS)

kill-storm: KILLS ?= 1000
kill-storm: $(STAMP)
	PLAYHEAD_KILLS=$(KILLS) $(BIN)/python -m pytest -rs -s tests/chaos/test_kill_storm.py $(PYTEST_ARGS)

power: $(STAMP)
	PLAYHEAD_POWER_SEEDS=4 $(BIN)/python -m pytest -rs -s tests/power $(PYTEST_ARGS)

fuzz: SECONDS ?= 60
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

cuts: $(STAMP)
	PLAYHEAD_CUTS=all $(BIN)/python -m pytest -rs -s tests/gateway/cuts $(if $(CLIENT),-k $(CLIENT)) $(PYTEST_ARGS)

rolling-restart: VIEWERS ?= 200
rolling-restart: $(STAMP)
	PLAYHEAD_ROLLING_VIEWERS=$(VIEWERS) $(BIN)/python -m pytest -rs -s tests/chaos/test_rolling_restart.py $(PYTEST_ARGS)

simulate: SEEDS ?= 2000
simulate: $(STAMP)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

ablations: SEEDS ?= 2000
ablations: $(STAMP)
	$(BIN)/python -m tests.simulation --ablations --seeds $(SEEDS) $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m bench.run $(BENCH_ARGS)

bench-quick: $(STAMP)
	$(BIN)/python -m bench.run --quick $(BENCH_ARGS)

flame: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check py-spy
	$(BIN)/python -m bench.flame $(BENCH_ARGS)

bench-tools: $(STAMP)
	$(BIN)/python -m bench.tools $(BENCH_ARGS)

bench-viewers: $(STAMP)
	$(BIN)/python -m bench.viewers $(BENCH_ARGS)

bench-scaling: $(STAMP)
	$(BIN)/python -m bench.scaling $(BENCH_ARGS)

bench-placements: $(STAMP)
	$(BIN)/python -m bench.placements $(BENCH_ARGS)

bench-starts: $(STAMP)
	$(BIN)/python -m bench.starting $(BENCH_ARGS)

steady: MINUTES ?= 60
steady: SYSTEM ?= embedded
steady: $(STAMP)
	$(BIN)/python -m bench.steady --system $(SYSTEM) --minutes $(MINUTES) $(BENCH_ARGS)

compare: $(STAMP)
	$(BIN)/python -m bench.compare $(COMPARE_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python schemas/derive.py --check || { echo 'the schemas differ from the classes: run `make schemas`'; exit 1; }
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(STAMP)
	$(BIN)/python schemas/derive.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(STAMP):
	@test -n "$(PYTHON)" || { echo 'Playhead needs Python 3.11 or newer: install it, and run make again.' >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo \
		"$(PYTHON) comes without ensurepip: install your system's python3-venv package, and run make again." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[grpc,openai,mcp]' --group test --group check
	@touch $@
