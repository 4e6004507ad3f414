# Two commands do everything: `make demo` shows it, `make test` proves it.

BIN = target/release
BUILD = cargo build --release --locked
LAB := target/lab
SOAK_MINUTES ?= 5

.PHONY: help demo test build fmt lint unit lab readme counts recount bench fuzz manifests images pods lab-pods results chaos supply soak

help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: build ## Runs parts A, B and C, leaves the report, and says how to try it by hand.
	$(BIN)/lab --out $(LAB)
	@echo
	@echo "The report:        $(LAB)/report.html   (numbers: $(LAB)/results.json)"
	@echo "Try it by hand, in three terminals:"
	@echo "  $(BIN)/backend --error-share 0.3 --error-statuses 503"
	@echo "  $(BIN)/outrigger --config config.toml"
	@echo "  curl -i http://127.0.0.1:4140/                            # as base URL"
	@echo "  curl -i -x http://127.0.0.1:4140 http://backend/hello     # as proxy"
	@echo "  curl -s http://127.0.0.1:4191/status                      # what it is doing, and why"
	@echo "  curl -s http://127.0.0.1:4191/metrics                     # for Prometheus"

# What is measured, put into pods and broken here is what images ship: static programs, built once.
test: BIN = $${CARGO_TARGET_DIR:-target}/$(shell rustc -vV | sed -n 's/^host: //p')/release
test: BUILD = ci/static.sh
test: fmt lint unit supply lab readme counts manifests images pods lab-pods chaos ## Everything: format, lints, all tests, the lab, its tables, the counts, manifests, pods, chaos.
	@echo "all checks passed"

bench: build ## What the proxy costs beside HAProxy, nginx and Envoy (20 minutes; BENCH=--quick: two, BENCH=--help: what else).
	bench/install.sh
	$(BIN)/bench $(BENCH)

fuzz: ## Looks for bytes that break a property (FUZZ_SECONDS=60 in all, after a first build of some minutes; needs a C++ compiler).
	ci/fuzz.sh

recount: build ## Writes the bounds of instruction counts anew.
	$(BIN)/bench counts --write

chaos: build images ## The experiments of Chaos Toolkit, in pods and with plain processes, with the sidecar and without (4 minutes).
	BIN=$(BIN) ci/chaos.sh

images: ## The three container images, checked.
	ci/images.sh

pods: images ## The manifests of k8s/ as pods of podman, checked (1 minute).
	ci/pods.sh

supply: ## What the product is made of (target/sbom), and cargo-deny where it is installed.
	ci/supply.sh

soak: build ## Load, faults, reloads and standstills for SOAK_MINUTES (5); every request accounted for by its id, and bodies byte by byte.
	$(BIN)/lab soak --minutes $(SOAK_MINUTES) --out target/soak

lab-pods: build images ## Some of the lab's experiments in pods, against the tables of docs/results.md (1 minute).
	BIN=$(BIN) ci/lab.sh

results: build images ## All of them, and the tables of docs/results.md anew (4 minutes).
	BIN=$(BIN) ci/lab.sh write

manifests: ## The manifests, rules and the dashboard against their schemas and each other.
	ci/manifests.sh

build: ## The programs, optimised.
	$(BUILD)

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# The end-to-end tests run the programs that this builds.
unit:
	cargo test --locked --workspace

lab: build
	$(BIN)/lab --out $(LAB)

# The table in the README must agree with the run that has just been made.
readme: lab
	$(BIN)/lab readme README.md $(LAB)/results.json

# Instructions of hot functions and of a whole request must not exceed their bounds (needs valgrind).
counts: build
	$(BIN)/bench counts
