# What CI runs is what you run.
#
#   make quick   format, lints and tests of what changed last: the loop while working
#   make test    everything, as CI does
#   make lint    format and clippy only
#   make browser-test   README.md as pasted and the console as used, in Chromium
#   make client-tests   the clients in other languages: lints, types, tests against the hub
#   make contract-tests  other people's clients (AI SDK, OpenAI, Anthropic) against the hub and its fakes
#   make conformance   the clients against the scripts of the conformance kit, and behind a network that breaks
#   make console-tests  types and units of the console, and the size of what is served
#   make bench   throughput and latency on this machine
#   make soak    the long figures: hours, not minutes

CARGO ?= cargo
# nextest runs each test in a process of its own and in parallel; without it the same tests run under cargo test.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: test quick lint unit doc-tests drift client-tests contract-tests conformance conformance-soak console-tests browser-test programs bench soak setup

test: setup lint unit doc-tests drift client-tests contract-tests conformance console-tests browser-test

setup:
	./scripts/setup-test.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Licences and forbidden dependencies are checked here too: tests/it/dependencies.rs.
unit:
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace --no-fail-fast
else
	$(CARGO) test --workspace --lib --bins --tests --examples --no-fail-fast
endif

# nextest runs no doc tests.
doc-tests:
	$(CARGO) test --workspace --doc

# Generated files are what their sources generate.
drift: setup
	$(CARGO) run --quiet -p agent-hub-protocol --example generate -- --check
	cd protocol/check && npm run --silent asyncapi
	cd clients/typescript && npm run --silent drift
	cd console && npm run --silent drift
	clients/python/tools/generate.sh --check

# Against the hub that the tests before used: built with the same features, so nothing is built twice.
client-tests: setup
	$(CARGO) test --workspace --no-run --quiet
	AGENT_HUB_BIN=$${AGENT_HUB_BIN:-$(CURDIR)/target/debug/agent-hub} clients/python/test.sh
	cd clients/typescript && AGENT_HUB_BIN=$${AGENT_HUB_BIN:-$(CURDIR)/target/debug/agent-hub} npm test

# Other people's own clients against the hub, and against the fakes that tests rest on.
contract-tests: setup
	$(CARGO) test --workspace --no-run --quiet
	cd tests/contracts && npm test

# The Rust client is held to the same by the tests of the workspace.
conformance: setup
	$(CARGO) test --workspace --no-run --quiet
	cd clients/typescript && npx --no-install tsc -p tsconfig.json
	clients/conformance/run.sh 20 typescript python

# Five hundred cuts each: the long figures, minutes.
conformance-soak: setup
	$(CARGO) build --workspace --bins --quiet
	cd clients/typescript && npx --no-install tsc -p tsconfig.json
	clients/conformance/run.sh 500

console-tests: setup
	cd console && npm test

# Pictures of every step are in target/screenshots afterwards.
# The program is the one the tests before used: built with the same features, so nothing is built twice.
browser-test: setup
	$(CARGO) test --workspace --no-run --quiet
	cd tests/browser && AGENT_HUB_BIN=$${AGENT_HUB_BIN:-$(CURDIR)/target/debug/agent-hub} npm test

quick:
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets -- -D warnings
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace
else
	$(CARGO) test --workspace --lib --tests
endif

# The hub, the fake vendor and the echo server are programs of their own, started by the one that measures.
programs:
	$(CARGO) build --release -p agent-hub -p agent-hub-load --bins --example ws_echo --example durable

bench: programs
	$(CARGO) run --release -p agent-hub-load -- bench

soak: programs
	$(CARGO) run --release -p agent-hub-load -- soak
