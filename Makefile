# Everything a user or a developer of Godwit does, one target each. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash

.PHONY: help build test

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build every program, optimised
	cargo build --release --locked

test: ## run all tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked
