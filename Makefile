# Everything a developer or CI runs. `make` alone prints this list.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV := $(TARGET)/venv
WASM := $(TARGET)/wasm/farebox.wasm
# The same filter with the test hooks in it: tests only, never shipped. Built apart, because cargo gives both modules one name.
WASM_HOOKS := $(TARGET)/wasm/farebox-hooks.wasm
BIN := $(TARGET)/debug/farebox
PYTEST = $(VENV)/bin/python -m pytest -q -p no:cacheprovider
# End-to-end tests wait most of the time: so many files run beside each other.
E2E_JOBS ?= $(shell expr 2 \* $$(nproc))

# What `farebox run` and the end-to-end tests look for.
export WASM_TARGET_DIR := $(TARGET)/wasm-build
export FAREBOX_WASM ?= $(WASM)
export FAREBOX_WASM_HOOKS ?= $(WASM_HOOKS)
export FAREBOX ?= $(BIN)
export ENVOY ?= $(VENV)/bin/envoy
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: wasm native ## build the filter (target/wasm/farebox.wasm) and the native binary (FEATURES=old-vocabularies adds p50k_base and r50k_base)

.PHONY: wasm
wasm:
	@.ci/wasm build $(WASM) $(if $(FEATURES),--features $(FEATURES))

.PHONY: wasm-hooks
wasm-hooks:
	@WASM_TARGET_DIR=$(WASM_TARGET_DIR)-hooks .ci/wasm build $(WASM_HOOKS) --features test-hooks

.PHONY: native
native:
	cargo build --locked --bins $(if $(FEATURES),--features $(FEATURES))

# With measurements in it, and tiktoken-rs: never shipped.
.PHONY: wasm-bench
wasm-bench:
	@WASM_TARGET_DIR=$(WASM_TARGET_DIR)-bench .ci/wasm build $(TARGET)/wasm/farebox-bench.wasm --features bench

.PHONY: tools
tools: ## install stock Envoy and the test clients into target/venv
	@.ci/tools $(VENV)

.PHONY: lint
lint: ## formatting, and clippy for both worlds without a warning
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@.ci/wasm clippy -- -D warnings
	@.ci/wasm clippy --features test-hooks,old-vocabularies -- -D warnings

.PHONY: test
test: ## everything: unit, property, golden, policy, fuzzed for a while, end to end on the real Envoy and on one in a container
	cargo test --locked
	@$(MAKE) --no-print-directory fuzz
	@# The longest step of a module's build takes one core: both beside each other.
	@.ci/wasm setup
	@$(MAKE) --no-print-directory --jobs 2 wasm wasm-hooks
	@$(MAKE) --no-print-directory e2e
	@$(MAKE) --no-print-directory docker-test

.PHONY: corpus
corpus: ## recorded traffic against the providers' own figures (CORPUS=path/to/exchanges.jsonl.gz names another)
	@FAREBOX_CORPUS="$(if $(CORPUS),$(abspath $(CORPUS)))" cargo test --locked --test corpus -- --nocapture

.PHONY: replay
replay: tools wasm native ## the same recorded traffic through a real Envoy: bytes and records as natively
	@CORPUS="$(if $(CORPUS),$(abspath $(CORPUS)))" $(VENV)/bin/python tests/e2e/replay.py

FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: ## any bytes into the readers of answers and requests, and into the counter beside tiktoken-rs (FUZZ_SECONDS=n for each, FUZZ=sse for that alone, FUZZ_SEED=0 for another run each time)
	@.ci/fuzz $(FUZZ_SECONDS) $(TARGET)/fuzz $(FUZZ)

.PHONY: e2e
e2e: tools wasm wasm-hooks native ## only the end-to-end tests (ARGS="-k name" picks, E2E_JOBS=1 one after the other)
	$(PYTEST) --numprocesses $(E2E_JOBS) --dist loadfile tests/e2e $(ARGS)

.PHONY: torture
torture: tools wasm wasm-hooks native ## the heavy end-to-end tests at their full size, some minutes
	$(PYTEST) tests/e2e -m torture $(ARGS)

.PHONY: llama
llama: tools wasm wasm-hooks native ## records against what a real model server reports (llama.cpp, 242 MB of weights)
	$(PYTEST) tests/e2e -m llama $(ARGS)

.PHONY: bench
bench: tools wasm wasm-hooks native ## what Farebox adds to a bare Envoy: latency, requests/s, processor time, side by side; then bench-count
	@command -v wrk >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wrk >/dev/null; }
	@$(VENV)/bin/python tests/e2e/bench.py
	@$(MAKE) --no-print-directory bench-count

.PHONY: bench-count
bench-count: tools wasm wasm-bench ## how fast tokens are counted, natively and inside Envoy, beside tiktoken-rs
	cargo bench --profile speed --locked --features bench --bench count --no-run
	@$(VENV)/bin/python tests/e2e/bench_count.py

.PHONY: count
count: ## compares 10^6 random texts a vocabulary against tiktoken-rs, whole and in pieces, and the texts of bench-count, some minutes
	python3 tests/e2e/corpora.py $(TARGET)/corpora
	FAREBOX_COUNT_TEXTS=$${FAREBOX_COUNT_TEXTS:-1000000} FAREBOX_COUNT_FOLDER=$(TARGET)/corpora \
		cargo test --locked --lib no_difference_from_tiktoken -- --nocapture

.PHONY: figures
figures: ## how well and how fast secrets and personal data are detected, and false alarms in recorded traffic (CORPUS as above)
	$(if $(CORPUS),FAREBOX_CORPUS="$(abspath $(CORPUS))") cargo test --locked --lib scan::figures -- --include-ignored --nocapture --test-threads 1

ENVOY_IMAGE ?= farebox-envoy:local

.PHONY: search
search: ## every interleaving of the accounts' store operations, the full cases, some ten minutes of two cores (SEARCH=hostile: only cases with that in their name)
	SEARCH="$(SEARCH)" CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --locked --lib no_interleaving_of_the_full_case -- --ignored --nocapture

.PHONY: laws
laws: ## 1,000 random crowds of up to eight VMs on the accounts, with every kind of window, some minutes (LAWS_SEEDS=n)
	cargo test --locked --lib a_large_crowd -- --ignored --nocapture

.PHONY: accounts
accounts: ## what an account costs with up to a million of them: bytes, and the time to look one up
	cargo test --locked --lib a_million_accounts -- --ignored --nocapture

.PHONY: simulate
simulate: ## 10^5 random worlds in the simulator, VMs killed and stalled between any two store operations (SIM_SEEDS=n)
	cargo test --locked --test sim -- --ignored --nocapture

.PHONY: docker-image
docker-image: tools
	@.ci/docker-image $(ENVOY_IMAGE) $(ENVOY)

.PHONY: docker-test
docker-test: wasm wasm-hooks native ## a cross-section of the end-to-end tests against Envoy in a container (ENVOY_IMAGE names the image)
	@if ! docker info >/dev/null 2>&1; then \
		echo "docker-test: SKIPPED: no Docker engine answers here"; \
	elif ! $(MAKE) --no-print-directory docker-image; then \
		echo "docker-test: SKIPPED: no Envoy image can be built here; name one that you have in ENVOY_IMAGE"; \
	else \
		ENVOY_IMAGE=$(ENVOY_IMAGE) $(PYTEST) tests/e2e -m "container and not torture" $(ARGS); \
	fi

.PHONY: run
run: tools wasm native ## the whole product on this machine: Envoy, filter, collector, a model stand-in
	@exec $(BIN) run

.PHONY: clean
clean: ## remove everything that was built or installed
	cargo clean
