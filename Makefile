# The few commands of the house. What takes long lives in `soak`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# In CI nothing may change the lock files.
LOCKED := $(if $(CI),--locked,)
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
WEB := $(wildcard web/package.json)
GITHUB := examples/github
.PHONY: help mutants fuzz schemathesis test test-rust test-web lint bench soak example e2e tools

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: test-rust test-web ## All tests: Rust, the ledger, the dashboard's units and browser journeys

test-rust: $(GITHUB)/node_modules/.package-lock.json $(if $(WEB),web/node_modules/.package-lock.json)
ifeq ($(NEXTEST),yes)
	tests/with-postgres cargo nextest run --workspace --no-fail-fast $(LOCKED)
	cargo test --workspace --doc $(LOCKED)
else
	tests/with-postgres cargo test --workspace --no-fail-fast $(LOCKED)
endif

test-web: $(if $(WEB),web/node_modules/.package-lock.json)
ifneq ($(WEB),)
	npm --prefix web run test --if-present -- --run
	cargo build --bin tripline $(LOCKED)
	npm --prefix web run e2e --if-present
else
	@echo "web/ is not there: nothing to test"
endif

lint: $(if $(WEB),web/node_modules/.package-lock.json) ## Format, clippy, svelte-check; audits of what we depend on
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(LOCKED) -- -D warnings
ifneq ($(WEB),)
	npm --prefix web run check --if-present
endif
	@if cargo deny --version >/dev/null 2>&1; then .ci/deny; \
	else echo "cargo-deny is not installed: dependency audit left to CI"; fi
	@.ci/audit

mutants: ## Plant each bug of tests/mutants, and expect the simulation to find it
	tests/mutants/run

fuzz: ## Random input for everything that parses, for a minute (coverage-guided: fuzz/, with nightly Rust)
	end=$$((SECONDS + 60)); while (( SECONDS < end )); do \
	  PROPTEST_CASES=20000 cargo test --quiet --lib $(LOCKED) the_fuzz_targets_hold; done

schemathesis: ## Hostile requests by the OpenAPI document, three minutes (TRIPLINE_EXAMPLES=200 before a release)
	cargo build --bin tripline $(LOCKED)
	.ci/schemathesis

bench: ## Criterion benchmarks
	cargo bench --workspace $(LOCKED)

soak: ## The ledger test with 200 kills on each database, and all faults that a release is tested with
	TRIPLINE_LEDGER_KILLS=200 TRIPLINE_FAULT_CALLS=200 TRIPLINE_FAULT_RESTARTS=20 \
	  TRIPLINE_FAULT_SESSIONS=50 TRIPLINE_FAULT_STOP_S=10 TRIPLINE_MIGRATION_ROWS=1000000 \
	  tests/with-postgres \
	  cargo test $(LOCKED) --test it -- ledger faults crash_points within_a_minute --nocapture --test-threads 1

example: $(GITHUB)/node_modules/.package-lock.json ## Real GitHub webhooks through useful scripts: runs it, prints what happened
	cargo build --bin tripline $(LOCKED)
	node $(GITHUB)/run.mjs

%/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --no-audit --no-fund
