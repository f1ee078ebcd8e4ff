# The verbs. Each is one line to a tool; `make` alone lists them. Longer logic is in tools/.

PYTEST = .venv/bin/python -m pytest
# `make test` runs these; test-rest runs every other test: none is left out, and none runs twice.
QUICK = tests/unit tests/dialogues
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 8
PORT ?= 2587
TLS_PORT ?= 2465
PAGE_PORT ?= 9325
MINUTES ?= 5
export ID TO PROVIDER OAUTH_PORT

.PHONY: help try up down logs account queue trace send-test oauth providers certs plan apply domain-check test test-all test-rest check integration e2e crash fuzz soak bench bench-serve lock audit sbom services-venv tests-venv peers

help: # this list
	@sed -n 's/^\([a-z0-9-]*\):.* # /  make \1\t/p' Makefile | expand -t 20

# --- for everybody

try: services-venv # runs everything here: no Docker, no root, no account anywhere; Ctrl-C ends it (PORT=…, TLS_PORT=…, PAGE_PORT=…)
	@.venv/bin/python tools/trial.py --port $(PORT) --tls-port $(TLS_PORT) --page-port $(PAGE_PORT)

up: # starts the containers and waits until they are healthy
	@tools/up $(ARGS)

down: # stops the containers; mail that waits stays in the spool
	@tools/ask down

logs: # follows the containers' log
	@tools/ask logs --follow --tail 100

account: # ARGS="add NAME --sender ADDRESS", "list", "password NAME", "disable NAME [--hold-queue]", "enable NAME", "remove NAME", "priority NAME high"
	@tools/ask account $(ARGS)

queue: # what waits; ARGS="retry ID", and likewise hold, release, drop, acknowledge
	@tools/ask queue $(ARGS)

trace: # one message's story: ID=… or TO=…
	@tools/ask trace $(ARGS)

send-test: # TO=…: sends a test message and prints the provider's answer
	@tools/ask send-test $(ARGS)

oauth: # PROVIDER=…: lets us into a mailbox of Google's or Microsoft's without its password (docs/oauth.md)
	@tools/ask oauth $(ARGS)

providers: # each provider's key, ports, pauses and quotas; logs in to look, and sends nothing. ARGS="NAME", --last, --json
	@tools/ask providers $(ARGS)

certs: # the certificate: its names, issuer and dates, and what each port really shows
	@tools/ask certs $(ARGS)

plan: # what the domain publishes against what it should; ARGS=--json, ARGS=--text (to paste where DNS is not at Cloudflare)
	@tools/domain plan $(ARGS)

apply: # carries the plan out, after asking (ARGS=--yes: without)
	@tools/domain apply $(ARGS)

domain-check: # DNS, our ports, the providers' ports and the clock, as others see them; ARGS=--json
	@tools/domain check $(ARGS)

# --- for developers

test: tests-venv # unit tests and dialogues, side by side: no root, no Docker, no other program; a minute or two
	@$(PYTEST) $(SIDE_BY_SIDE) --dist worksteal $(QUICK)

test-all: check test test-rest # everything, with the programs that `make peers` brings; REQUIRE_ALL=1 makes a skip a failure

test-rest: tests-venv peers
	@$(PYTEST) $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder tests $(QUICK:%=--ignore=%)

check: tests-venv # format, lint, types
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet . && .venv/bin/mypy

integration: tests-venv peers # the relay against real peers
	@$(PYTEST) tests/integration tests/dialogues

e2e: tests-venv peers # the appliance as a user runs it: `make try`, Docker Compose
	@$(PYTEST) tests/e2e

crash: tests-venv peers # kill -9, power cuts, failing and full disks, a sample of each: what got a 250 is never lost
	@$(PYTEST) tests/crash

fuzz: tests-venv # hostile input, for MINUTES=5
	@FUZZ_MINUTES=$(MINUTES) HYPOTHESIS_PROFILE=long $(PYTEST) tests/fuzz --timeout 0

soak: tests-venv peers # the long runs: hours
	@CRASH_KILLS=500 CRASH_CUTS=6000 CRASH_LIVE_CUTS=400 CRASH_FAULTS=1000 CRASH_FILLS=10 LOAD_CLIENTS=1000 LOAD_MINUTES=10 LOAD_WAITING=200000 HYPOTHESIS_PROFILE=long $(PYTEST) tests/crash tests/fuzz tests/load --timeout 0

bench: tests-venv # rate, latency, CPU and memory on this machine, as a table
	@.venv/bin/python tests/bench/run.py

bench-serve: services-venv # the relay for a load generator: 127.0.0.1:2515 to 127.0.0.1:2626
	@exec .venv/bin/python tests/bench/serve.py

lock: # pins all dependencies anew, with hashes
	@tools/lock

audit: tests-venv # known vulnerabilities of what the images and the tests hold; asks PyPI itself, whatever index pip is set to
	@.venv/bin/python tools/audit.py

sbom: # each image's list of parts, written when it was built, into var/sbom (CycloneDX)
	@tools/sbom

services-venv:
	@tools/venv

tests-venv:
	@tools/venv tests

peers: tests-venv # brings the programs that test-all talks to: installs them (as root on Debian), or says what to install
	@tools/peers $(if $(filter peers,$(MAKECMDGOALS)),--again)
