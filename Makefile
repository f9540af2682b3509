# Everything a user or a developer of Godwit does, one target each. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# Passed to godwit run, to the benchmarks, to the load generator, to the proof: make run ARGS='--data DIR'
ARGS ?=
# Tests at once: most of them wait, for servers and for what is due later.
TEST_THREADS ?= $(shell echo $$(( $$(nproc) * 3 / 2 )))
# How long each fuzz target runs.
FUZZ_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),20)
# How long attacks are measured.
ATTACK_EXAMPLES ?= 30
ATTACK_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),120)
# How long everything goes on at once.
SOAK_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),600)
# How long faults are made, and how long in the tests.
CHAOS_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),600)
CHAOS_SHORT = 100
# LONG=1 makes tests run their long modes.
ifeq ($(LONG),1)
export GODWIT_LONG = 1
endif
# Warnings of the documentation are errors, like all others.
export RUSTDOCFLAGS = -D warnings
# Tests compare with what is checked in, and never rewrite it.
export INSTA_UPDATE = no

.PHONY: help build run run-cluster test unit bench fuzz fuzz-volume fuzz-served worst-packet miri loom seeds proof proof-table loadtest loadtest-churn attack attack-dns soak chaos lint doc deps clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build every program, optimised, into target/release/
	cargo build --release --locked

run: ## start both planes with data in ./godwit-data and an example zone (ARGS='…' is passed on)
	cargo run --release --locked -p godwit -- run $(ARGS)

run-cluster: ## PostgreSQL, Redis, two control planes and three data planes on this machine (ARGS='FOLDER')
	cargo build --release --locked
	deploy/cluster/run $(ARGS)

test: deps proof-table lint doc ## everything that has to hold: lints, docs, all tests, fuzzing, benchmarks compiled (LONG=1: long modes, attacks on the API)
	GODWIT_PROGRAMS=$(CURDIR)/target/debug RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --locked --no-fail-fast
	target/debug/godwit-loadtest chaos --seconds $(CHAOS_SHORT)
	fuzz/run $(FUZZ_SECONDS)
	cargo test --no-run --locked --workspace --bench '*'
ifeq ($(LONG),1)
	testkit/attack/run $(ATTACK_EXAMPLES)
endif

unit: ## the tests only, without lints, documentation, fuzzing and benchmarks
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --locked

bench: ## run the benchmarks (ARGS='NAME' for one)
	cargo bench --locked -p godwit-benches --bench '*' -- $(ARGS)

fuzz: ## run every fuzz target for SECONDS=20 and print executions and coverage
	fuzz/run $(FUZZ_SECONDS)

# How many packets, by which seed, on how many threads.
COUNT ?= 10000000
SEED ?= 1
JOBS ?= 1
fuzz-volume: ## put COUNT=10000000 packets through the query path (SEED=1 JOBS=1; docs/fuzzing.md)
	cargo run --release --quiet --locked --manifest-path fuzz/Cargo.toml -p godwit-fuzz-harness --bin volume -- \
	--count $(COUNT) --seed $(SEED) --jobs $(JOBS)

fuzz-served: ## send COUNT=10000000 packets to a running server, and watch its memory (SEED=1; docs/fuzzing.md)
	cargo build --release --locked -p godwit-dataplane
	cargo run --release --quiet --locked --manifest-path fuzz/Cargo.toml -p godwit-fuzz-harness --bin served -- \
	--program target/release/godwit-dataplane --count $(COUNT) --seed $(SEED)

worst-packet: ## count the instructions of each packet of the corpus (needs valgrind; docs/fuzzing.md)
	cargo run --profile cost --quiet --locked --manifest-path fuzz/Cargo.toml -p godwit-fuzz-harness --bin cost

miri: ## run the tests of wire and engine under Miri (needs nightly with miri and rust-src; docs/fuzzing.md)
	cargo +nightly miri --version >/dev/null 2>&1 || { \
	echo "Miri is not installed: rustup component add --toolchain nightly miri rust-src" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 cargo +nightly miri test --locked -p godwit-wire -p godwit-engine --lib
	for seed in {0..15}; do MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-seed=$$seed" \
	cargo +nightly miri test --locked -p godwit-engine --lib snapshot::store; done

loom: ## try every interleaving of the store's hand-over and retirement
	CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 \
	cargo test --locked -p godwit-engine --lib store_model

seeds: ## write the seeds of the fuzz targets anew
	cargo run --quiet --locked --manifest-path fuzz/Cargo.toml -p godwit-fuzz-harness --bin seeds

proof: ## remove each protection in a copy and require that its test turns red (ARGS='NAME' for some, ARGS=--together: many at once)
	testkit/proof $(ARGS)

proof-table: ## put the rows of docs/proof.d/ together in docs/proof.md
	GODWIT_UPDATE=1 cargo test --quiet --locked --workspace --test house the_list_for_readers_is_complete

loadtest: ## measure side by side with NSD, Knot DNS, BIND and PowerDNS (ARGS='--workload small'; loadtest/README.md)
	cargo build --release --locked -p godwit-loadtest -p godwit-dataplane
	target/release/godwit-loadtest compare $(ARGS)

loadtest-churn: ## measure what changes through the API cost those who ask (ARGS='--rounds 1'; loadtest/README.md)
	cargo build --release --locked -p godwit-loadtest -p godwit
	target/release/godwit-loadtest churn $(ARGS)

attack-dns: ## attack Godwit, NSD, Knot DNS, BIND and PowerDNS for SECONDS=120 and print one table (ARGS='--part slow')
	cargo build --release --locked -p godwit-loadtest -p godwit-dataplane
	target/release/godwit-loadtest attack-dns --seconds $(ATTACK_SECONDS) $(ARGS)

attack: deps ## attack the API of a server of its own: made-up requests, tokens, limits, foreign objects (ATTACK_EXAMPLES=30)
	testkit/attack/run $(ATTACK_EXAMPLES)

soak: ## everything at once with a fault each minute for SECONDS=600: answers, writes, memory, descriptors (ARGS='--fault kill')
	cargo build --release --locked -p godwit-loadtest -p godwit-dataplane -p godwit
	target/release/godwit-loadtest soak --seconds $(SOAK_SECONDS) $(ARGS)

chaos: deps ## kill, stop, flush, forge and restore every part of a cluster for SECONDS=600: is anything lost or wrong? (ARGS='--fault kill-relay')
	cargo build --release --locked
	target/release/godwit-loadtest chaos --seconds $(CHAOS_SECONDS) $(ARGS)

lint: ## formatting, clippy, licences and sources
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --all --check
	cargo clippy --manifest-path fuzz/Cargo.toml -p godwit-fuzz-harness --all-targets --locked -- -D warnings
	if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses bans sources; \
	else echo "cargo-deny is not installed; licences and sources are checked by the tests of testkit"; fi

doc: ## the documentation of every crate, warnings as errors
	cargo doc --workspace --no-deps --locked

deps: ## install what tests need and is missing, or say what to install
	testkit/deps

clean: ## remove everything that was built
	cargo clean
	rm -rf fuzz/target
