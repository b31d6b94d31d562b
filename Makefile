# `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# Every module of go.work, as the package patterns of one go command.
PACKAGES = $(shell go list -m -f '{{.Dir}}/...')
BUILD := .build

# The race detector needs a C compiler on Linux. Whatever a target builds, it
# builds with it, so that nothing is compiled twice.
RACE := $(if $(shell command -v gcc || command -v clang),-race)
TEST_FLAGS ?=
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
GOLANGCI_LINT_VERSION := v2.15.0

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run the demo: a database, a cache, the agent and a web page
	@go build -o $(BUILD)/demo ./examples/gallery
	@exec $(BUILD)/demo

.PHONY: build
build: ## Build bin/icache-agent
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/icache-agent ./cmd/icache-agent

.PHONY: setup
setup: ## Install what the tests need, or say what that is
	@scripts/setup.sh

$(BUILD)/with-servers: FORCE
	@go build $(RACE) -o $@ ./integration/cmd/with-servers
FORCE:

.PHONY: test
test: setup $(BUILD)/with-servers ## Run all tests against a real Postgres and Redis
	$(BUILD)/with-servers go test $(RACE) -timeout 15m $(TEST_FLAGS) $(PACKAGES)

.PHONY: test-short
test-short: setup ## Run the tests of the root module only
	go test $(TEST_FLAGS) ./...

.PHONY: test-docker
test-docker: export ICACHE_TEST_SERVERS := docker
test-docker: $(BUILD)/with-servers ## Run all tests against servers in Docker containers
	$(BUILD)/with-servers go test $(RACE) -timeout 15m $(TEST_FLAGS) $(PACKAGES)

# Without -race: it measures, too.
SOAK ?= 10m
SOAK_EACH ?= 15s
SOAK_TEST = $(BUILD)/with-servers go test -count=1 -timeout 24h -v $(TEST_FLAGS) ./integration
.PHONY: soak
soak: setup $(BUILD)/with-servers ## Do every fault under load for SOAK_EACH (15s), then in random order for SOAK (10m)
	ICACHE_SOAK_EACH=$(SOAK_EACH) $(SOAK_TEST) -run '^TestSoak(FindsMutants)?$$'
	ICACHE_PGBENCH_SECONDS=$(or $(SECONDS_PER_TEST),30) $(SOAK_TEST) -run 'Pgbench|Kill|Outage'
	ICACHE_SOAK=$(SOAK) $(SOAK_TEST) -run '^TestSoakLong$$'

.PHONY: bench
bench: setup ## Measure, side by side, what docs/benchmarks.md reports
	go run ./bench $(BENCH_FLAGS)
	go run ./bench/compare

.PHONY: bench-go
bench-go: setup $(BUILD)/with-servers ## Run the Go benchmarks of every package
	$(BUILD)/with-servers go test -run '^$$' -bench . -benchmem $(TEST_FLAGS) $(PACKAGES)

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME) $(PACKAGES)

.PHONY: check
check: ## Check formatting and go vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	go vet $(RACE) $(PACKAGES)

.PHONY: cross
cross: ## Check that the agent builds for other systems
	GOOS=darwin go build -o /dev/null ./cmd/icache-agent
	GOOS=windows go build -o /dev/null ./cmd/icache-agent

.PHONY: fmt
fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: check ## Run golangci-lint in every module
	@command -v golangci-lint >/dev/null || { echo "golangci-lint is not installed: go install $(GOLANGCI_LINT)@$(GOLANGCI_LINT_VERSION)"; exit 1; }
	@for module in $$(go list -m -f '{{.Dir}}'); do echo "golangci-lint $$module"; (cd $$module && golangci-lint run ./...) || exit 1; done

.PHONY: tidy
tidy: ## Tidy every module
	@for module in $$(go list -m -f '{{.Dir}}'); do (cd $$module && GOWORK=off go mod tidy) || exit 1; done

.PHONY: clean
clean: ## Remove what was built, and containers that killed tests left
	rm -rf $(BUILD) bin
	-@docker ps -aq --filter label=org.testcontainers=true 2>/dev/null | xargs -r docker rm -f
