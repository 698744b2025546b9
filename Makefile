# `make` alone lists what there is to make. CI calls nothing but these targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The profile of tests and lints; `make run` builds what users run.
CARGO_PROFILE ?= dev
# live or simulator forces either; empty: live, and the simulator where Twitch cannot be reached.
TWITCH ?=
# The folder of the store of `make run`.
DATA_DIR ?= .clamor
# Where the tools are installed.
export CLAMOR_TOOLS_DIR ?= $(CURDIR)/.tools
export PATH := $(CLAMOR_TOOLS_DIR)/bin:$(PATH)
export CARGO_PROFILE

# Finds cargo also where HOME is empty.
RUST := . tools/rust-env.sh;

.PHONY: help tools build image run reset cluster cluster-down test test-cluster soak protections lint bench microbench fuzz generate clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

tools: ## Install the helper programs that are missing into .tools
	@tools/install.sh test

build: ## Build the release binaries
	@$(RUST) cargo build --release --workspace --bins

image: ## Write the image of operator and workers to target/clamor.oci.tar, without a container engine (IMAGE=name:tag)
	@$(RUST) CARGO_PROFILE="$(if $(filter file,$(origin CARGO_PROFILE)),release,$(CARGO_PROFILE))" tools/image.sh

run: ## Count chat: all in one process, with a NATS and a Postgres of its own (TWITCH=live|simulator, DATA_DIR=.clamor)
	@tools/install.sh run
	@$(RUST) cargo build --release --workspace --bins
	@exec env -u DATABASE_URL -u NATS_URL target/release/clamor-worker standalone --manifests manifests/samples --data-dir $(DATA_DIR) $(if $(TWITCH),--twitch $(TWITCH))

reset: ## Remove the store of `make run`, after asking
	@tools/reset.sh $(DATA_DIR)

cluster: ## Bring up a Kubernetes on this machine, with the operator, NATS, Postgres and a simulated Twitch (root, Debian)
	@tools/install.sh run
	@tools/install.sh cluster
	@$(RUST) cargo build --workspace --bins
	@tools/kube/cluster all

cluster-down: ## Take it down, and give the machine back as it was
	@tools/kube/cluster down

test: ## Install what is missing and check everything: format, lints, docs, dependencies, generated files, all tests
	@tools/install.sh test
	@$(RUST) tools/test.sh

test-cluster: ## Only the tests that run on a real node (root, Debian)
	@tools/install.sh test
	@$(RUST) cargo nextest run --workspace --filterset 'binary(cluster)'

soak: ## Run the fault suite for so long (MINUTES=10, SEED=… to repeat a run, FAULTS="kill-nats,cut-postgres": only these), and kill the operator after every write
	@tools/install.sh test
	@$(RUST) SOAK_MINUTES="$(or $(MINUTES),10)" SEED="$(SEED)" FAULTS="$(FAULTS)" cargo nextest run --workspace --profile soak --filterset '(binary(pipeline) & test(/^faults::/)) | (binary(api) & test(/^faults::crash::/))'

protections: ## Show that the fault suite can fail: without each protection a test goes red; writes docs/protections.md
	@tools/install.sh test
	@$(RUST) tools/protections.sh

lint: ## Check format and lints only
	@$(RUST) cargo fmt --all --check && cargo clippy --workspace --all-targets --profile $(CARGO_PROFILE) -- -D warnings

bench: ## Measure every budget against its bar (NAMES="latency bus": only these; NAMES=growth: whether anything grows); writes target/bench.json
	@tools/install.sh test
	@$(RUST) cargo build --release --workspace --bins
	@target/release/clamor-bench --json target/bench.json $(NAMES)

microbench: ## Measure the hot paths alone, with criterion
	@$(RUST) cargo bench --workspace --benches

fuzz: ## Fuzz each parser for a minute (MINUTES=1, NAMES="line batch"); needs a C++ compiler
	@tools/install.sh test
	@$(RUST) tools/fuzz.sh

generate: ## Write the generated files anew: protobuf code, resource definitions, the chart's and the plain manifests
	@tools/install.sh test
	@$(RUST) UPDATE=1 cargo test --workspace --test generated --test generated_code --quiet

clean: ## Remove what was built and installed here; the store stays
	@$(RUST) cargo clean
	@rm -rf .tools
