# Everything a user or a developer of Godwit does, one target each. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash

.PHONY: help build test loadtest loadtest-churn

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build every program, optimised
	cargo build --release --locked

test: ## run all tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked

loadtest: ## measure side by side with NSD, Knot DNS, BIND and PowerDNS (ARGS='--workload small'; loadtest/README.md)
	cargo build --release --locked -p godwit-loadtest -p godwit-dataplane
	target/release/godwit-loadtest compare $(ARGS)

loadtest-churn: ## measure what changes through the API cost those who ask (ARGS='--rounds 1'; loadtest/README.md)
	cargo build --release --locked -p godwit-loadtest -p godwit
	target/release/godwit-loadtest churn $(ARGS)
