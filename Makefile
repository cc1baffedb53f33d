# Every command of the project. `make help` lists them.

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
RELEASE    ?= bin/release
# A file with the owner's key: everything that is handed out is signed with it (deploy/sign).
SIGNING_KEY ?=
# The modules whose tests take longest come first.
MODULES    := services/ingest services/resolver services/publisher deploy cmd services/janitor services/console shared cmd/athocsim docs e2e
TOOLS      := $(CURDIR)/.tools
LINT       := $(TOOLS)/golangci-lint-2.15.0
LINT_PKG   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN       := $(TOOLS)/govulncheck-1.9.0
VULN_PKG   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
DEADCODE   := $(TOOLS)/deadcode-0.52.0
DEADCODE_PKG := golang.org/x/tools/cmd/deadcode@v0.52.0
AXE        := $(TOOLS)/axe-core-4.14.1.js
AXE_SHA256 := e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
BROWSER    ?= chromium-headless-shell
PICTURES   ?= bin/pictures
SEED       ?= 1
RUNS       ?= 20
ROUNDS     ?= 20
PARALLEL   ?= 2
FUZZTIME   ?= 20s
NATS_OUT   ?= deploy/nats
NATS_HOSTS ?= localhost,127.0.0.1,nats,nats-0,nats-1,nats-2
REVISION   ?= $(shell git rev-parse HEAD 2>/dev/null)
# The time in an image is that of the commit, so that the same commit gives the same image.
CREATED    ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
IMAGES     ?= bin/images
ARCHES     ?= amd64,arm64
SECRETS    ?= deploy/secrets
COMPOSE    ?= docker compose
COMPOSE_TOOL := $(TOOLS)/docker-compose-2.40.3
COMPOSE_PKG  := github.com/docker/compose/v2
PROMTOOL   := $(TOOLS)/promtool-3.13.5
PROM_PKG   := github.com/prometheus/prometheus
TRY        := BOBOSYNC_VERSION=$(VERSION) $(COMPOSE) --env-file deploy/try.env -f deploy/compose.yaml -f deploy/compose.try.yaml
GOBUILD    := go build -ldflags '-s -w -X bobosync/shared/program.Version=$(VERSION)'
PROGRAMS   := ./services/ingest/cmd/ingest ./services/resolver/cmd/resolver ./services/publisher/cmd/publisher \
              ./services/janitor/cmd/janitor ./services/console/cmd/console ./cmd/bobosync ./cmd/athocsim ./cmd/demo
# Programs that are run but not handed out.
OTHERS     := ./cmd/bobosync/operator ./deploy/images/... ./deploy/nats/cmd/... ./deploy/release ./e2e/cmd/...

SHELL      := /bin/bash
# One set of flags for everything except the tests with the race detector, so that each package is compiled once. grpcnotrace leaves out a
# part of the OTLP exporter's gRPC that nothing here uses: nearly half of what the exporter adds.
export GOFLAGS := -buildvcs=false -trimpath -tags=grpcnotrace
export CGO_ENABLED := 0
# A program with the race detector waits for a second when it ends, for late reports; a twentieth of that is enough if no goroutine is left.
RACE       := GORACE=atexit_sleep_ms=50 CGO_ENABLED=1 go test -race

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build all programs, static, into bin/ (GOOS and GOARCH choose another system)
	@mkdir -p bin
	$(GOBUILD) -o bin/ $(PROGRAMS)

.PHONY: run
run: build ## run all services in one process, with the settings of .env
	bin/bobosync run

.PHONY: demo
demo: build ## show the pipeline working against a simulated AtHoc
	bin/demo

# Tests mostly wait, so more of them run at once than there are processors. The tests of the whole system use the programs as they were built.
.PHONY: test
test: build ## run all tests but the longest, with the race detector; those of the whole come last
	$(RACE) -shuffle=on $(TESTFLAGS) -p 3 -parallel 4 -timeout 15m $(patsubst %,./%/...,$(filter-out e2e,$(MODULES)))
	BOBOSYNC_BIN=$(CURDIR)/bin $(RACE) $(TESTFLAGS) -p 2 -timeout 15m ./e2e/...

.PHONY: test-long
test-long: ## run the tests that take minutes, which make test leaves out
	BOBOSYNC_LONG=1 go test $(TESTFLAGS) -p 1 -count=1 -timeout 15m ./e2e ./e2e/bench ./deploy/release ./deploy/images

.PHONY: test-short
test-short: ## run the tests that take no more than seconds
	go test -short work

.PHONY: test-verdicts
test-verdicts: ## play every fault against the real programs: status must name it (VERDICTS=-update-runbook writes the runbook's table)
	go test -count=1 -v -timeout 30m -run 'TestVerdicts|TestTheRunbookHasEveryFault' ./e2e -all-verdicts $(VERDICTS)

# What the console's tests are given, and how long they may take.
CONSOLE_ALL ?= $(BOBOSYNC_CONSOLE_ALL)
CONSOLE_ENV = BOBOSYNC_BROWSER=$$(command -v $(BROWSER)) BOBOSYNC_AXE=$(AXE) BOBOSYNC_CONSOLE_ALL=$(CONSOLE_ALL)
CONSOLE_TIMEOUT = $(if $(CONSOLE_ALL),120m,20m)

.PHONY: test-console
test-console: $(AXE) browser ## look at the console with a real browser (CONSOLE_ALL=1: each page in each state, theme and width, each order each way)
	$(CONSOLE_ENV) go test $(TESTFLAGS) -count=1 -timeout $(CONSOLE_TIMEOUT) ./e2e/console

.PHONY: console-tools
console-tools: $(AXE) browser ## install what make test-console needs: a browser and pdftotext, as root on Debian, and axe-core

.PHONY: console-pictures
console-pictures: $(AXE) browser ## take pictures of the console's pages in each state, into bin/pictures (PICTURES=dir; CONSOLE_ALL=1 for all of them)
	$(CONSOLE_ENV) BOBOSYNC_PICTURES=$(abspath $(PICTURES)) go test -count=1 -timeout $(CONSOLE_TIMEOUT) -run TestPages ./e2e/console

.PHONY: bench-console
bench-console: $(AXE) browser ## measure what the console costs, beside what it may
	$(CONSOLE_ENV) go test -count=1 -timeout 20m -run TestBudgets -v ./e2e/console -budgets

.PHONY: browser
browser:
	@{ command -v $(BROWSER) && command -v pdftotext; } >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  export DEBIAN_FRONTEND=noninteractive && for try in true "apt-get update"; do \
	    $$try >/dev/null && apt-get install -y --no-install-recommends chromium-headless-shell poppler-utils >/dev/null </dev/null && exit 0; done; false; } || \
	  { echo "There is no $(BROWSER), or no pdftotext, and they could not be installed: install Debian's chromium-headless-shell and poppler-utils, or name another Chromium with BROWSER=path"; exit 1; }

.PHONY: soak
soak: ## drive the real programs with faults and judge the end (SEED=1 RUNS=20)
	go run ./e2e/cmd/soak -seed $(SEED) -runs $(RUNS) -parallel $(PARALLEL)

.PHONY: soak-stale
soak-stale: ## clear stale duty of 2,500 users while 500 book on, 50 times
	go test -count=1 -v -timeout 60m -run TestWhoBooksOnWhileStaleDutyIsClearedIsOnDuty ./e2e -stale-rounds 50

.PHONY: soak-disk
soak-disk: ## fill the disk of the broker while files arrive, inside bobosync run and of its own, 20 times each (ROUNDS=20); as root on Linux
	BOBOSYNC_LONG=1 go test -count=1 -v -timeout 90m -run TestAFullDiskHeals ./e2e -disk-rounds $(ROUNDS)

.PHONY: bench
bench: build ## measure speed and memory of the real programs, and the limits beside them
	go run ./e2e/cmd/bench -bin bin

.PHONY: fuzz
fuzz: ## fuzz each parser for FUZZTIME (20s)
	@set -e; for m in $(MODULES); do (cd $$m && for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz' || true); do \
	    echo "fuzz $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done); done

.PHONY: fmt
fmt: $(LINT) ## format the code, with a blank line where a step ends
	@for m in $(MODULES); do (cd $$m && $(LINT) fmt ./... && $(LINT) run --enable-only wsl_v5 --fix ./...); done

.PHONY: check
check: check-format check-tidy vet lint deadcode cross ## everything that is checked beside the tests

.PHONY: check-format
check-format: ## fail if a file is not formatted
	@bad=$$(git ls-files '*.go' | xargs gofmt -l); if [ -n "$$bad" ]; then echo "not formatted (make fmt):"; echo "$$bad"; exit 1; fi

.PHONY: check-tidy
check-tidy: ## fail if a go.mod is not tidy
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff >/dev/null) || { echo "$$m/go.mod is not tidy (make tidy)"; exit 1; }; done

.PHONY: tidy
tidy: ## tidy each go.mod
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy) || exit 1; done
	go work sync

.PHONY: vet
vet: ## go vet, with the workspace and each module alone
	go vet work
	@for m in $(MODULES); do (cd $$m && GOWORK=off go vet ./...) || exit 1; done

.PHONY: lint
lint: $(LINT) ## golangci-lint over all modules
	@for m in $(MODULES); do (cd $$m && $(LINT) run --allow-parallel-runners ./...) || exit 1; done

# Code that only tests reach is listed in .ci/unreachable, with the reason.
.PHONY: deadcode
deadcode: $(DEADCODE) ## fail if there is code that no program reaches
	@bad=$$($(DEADCODE) -filter '^bobosync/(cmd/bobosync|deploy|services|shared)' $(PROGRAMS) $(OTHERS) | \
	  sed -E 's/:[0-9]+:[0-9]+: unreachable func: / /' | sort | comm -23 - <(grep -v '^#' .ci/unreachable | sort)); \
	  if [ -n "$$bad" ]; then echo "no program reaches:"; echo "$$bad"; exit 1; fi

.PHONY: vuln
vuln: $(VULN) ## look for known vulnerabilities (needs the internet)
	@for m in $(MODULES); do (cd $$m && $(VULN) ./...) || exit 1; done

.PHONY: cross
cross: ## build for Windows and arm64 too
	@for target in windows/amd64 linux/arm64; do \
	  dir=$$(mktemp -d); GOOS=$${target%/*} GOARCH=$${target#*/} $(GOBUILD) -o $$dir/ $(PROGRAMS) || exit 1; rm -r $$dir; echo "builds for $$target"; done

.PHONY: nats-conf
nats-conf: ## write the broker's permissions from shared/topology/permissions.go (NATS_OUT=dir)
	go run ./deploy/nats/cmd/natssetup conf -out $(NATS_OUT)

.PHONY: nats-creds
nats-creds: ## make a key for each of the broker's users that has none (NATS_OUT=dir; ROTATE=ingest,viewer for new ones)
	go run ./deploy/nats/cmd/natssetup creds -out $(NATS_OUT) -rotate "$(ROTATE)"

.PHONY: nats-operators
nats-operators: ## list the operators with a key of their own, give them one or withdraw it (ADD=jsmith WITHDRAW=ajones NATS_OUT=dir)
	go run ./deploy/nats/cmd/natssetup operators -out $(NATS_OUT) -add "$(ADD)" -withdraw "$(WITHDRAW)"

.PHONY: nats-certs
nats-certs: ## make a private authority and the broker's certificate (NATS_OUT=dir NATS_HOSTS=nats,localhost)
	go run ./deploy/nats/cmd/natssetup certs -out $(NATS_OUT) -hosts "$(NATS_HOSTS)"

.PHONY: images
images: ## make the container images, from nothing and without an engine, into bin/images (ARCHES=amd64)
	go run ./deploy/images -version $(VERSION) -revision "$(REVISION)" -created $(CREATED) -arch $(ARCHES) -out $(IMAGES) -key "$(SIGNING_KEY)"

.PHONY: load-images
load-images: ## load the images of this machine's architecture into its Docker
	@for f in $(IMAGES)/*_linux_$$(go env GOARCH).tar; do docker load -q -i $$f || exit 1; done

.PHONY: push-images
push-images: ## make the images and push them (REGISTRY=registry.example.org/bobosync)
	@test -n "$(REGISTRY)" || { echo "say where to: make push-images REGISTRY=registry.example.org/bobosync"; exit 2; }
	go run ./deploy/images -version $(VERSION) -revision "$(REVISION)" -created $(CREATED) -arch $(ARCHES) -out $(IMAGES) -key "$(SIGNING_KEY)" -push $(REGISTRY)

.PHONY: release
release: ## make archives for each system, with checksums and bills of materials, of a tagged version (VERSION=v1.2.3 SIGNING_KEY=release.key)
	go run ./deploy/release -version "$(VERSION)" -created $(CREATED) -out $(RELEASE) -key "$(SIGNING_KEY)"

# Go's cache of test results does not know about files outside the module.
.PHONY: check-deploy
check-deploy: ## check compose files, Kubernetes manifests and systemd units
	go test -count=1 ./deploy/check/...

.PHONY: check-alerts
check-alerts: $(PROMTOOL) ## check and test alert rules and dashboard with promtool (which takes minutes to build the first time)
	$(PROMTOOL) check rules deploy/prometheus/bobosync.rules.yaml
	$(PROMTOOL) test rules deploy/prometheus/bobosync.rules.test.yaml
	PROMTOOL=$(PROMTOOL) go test $(TESTFLAGS) -count=1 ./deploy/check -run 'Queries|Alert|Dashboard'

.PHONY: test-containers
test-containers: ## run the images with the compose files and faults, judged by the auditor (starts an engine if it can)
	@$(MAKE) --no-print-directory images ARCHES=$$(go env GOARCH)
	@compose="$(COMPOSE)"; $$compose version >/dev/null 2>&1 || { $(MAKE) --no-print-directory $(COMPOSE_TOOL) && compose=$(COMPOSE_TOOL); } && \
	  BOBOSYNC_IMAGES=$(abspath $(IMAGES)) BOBOSYNC_VERSION=$(VERSION) BOBOSYNC_COMPOSE="$$compose" go test -count=1 -v -timeout 20m ./e2e/containers

.PHONY: secrets
secrets: nats-creds ## gather keys and certificates for deploy/compose.yaml (SECRETS=deploy/secrets)
	@test -f $(NATS_OUT)/tls/server.crt || $(MAKE) --no-print-directory nats-certs
	@mkdir -p $(SECRETS) && chmod 700 $(SECRETS)
	@for f in $(NATS_OUT)/creds/*.nk $(NATS_OUT)/tls/ca.crt $(NATS_OUT)/tls/server.crt $(NATS_OUT)/tls/server.key; do install -m 644 $$f $(SECRETS)/ || exit 1; done
	@test -s $(SECRETS)/console_session_key || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >$(SECRETS)/console_session_key
	@test -e $(SECRETS)/console_users || touch $(SECRETS)/console_users
	@chmod 644 $(SECRETS)/console_session_key $(SECRETS)/console_users
	@for s in client_secret password; do test -s $(SECRETS)/$$s || echo "still to be written: $(SECRETS)/$$s (one line, mode 644)"; done

.PHONY: try
try: ## start everything in containers beside the AtHoc simulator
	@mkdir -p deploy/try/nats deploy/try/secrets deploy/try/files/in deploy/try/files/processed deploy/try/files/failed
	@chmod 777 deploy/try/files/*
	@for s in client_secret password; do test -s deploy/try/secrets/$$s || head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >deploy/try/secrets/$$s; done
	@$(MAKE) --no-print-directory secrets NATS_OUT=deploy/try/nats SECRETS=deploy/try/secrets
	$(TRY) up -d
	@echo "Drop CSV files into deploy/try/files/in, and look at http://127.0.0.1:8480/sim/state. make try-down ends it."

.PHONY: try-down
try-down: ## end make try, and delete what it kept
	$(TRY) down --volumes --remove-orphans

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

# The module of docker compose cannot be installed by name, since it excludes some modules; it can be built where it was downloaded to.
$(COMPOSE_TOOL):
	@mkdir -p $(TOOLS)
	cd "$$(cd /tmp && GOFLAGS= go mod download -json $(COMPOSE_PKG)@v2.40.3 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" && \
	  GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X $(COMPOSE_PKG)/internal.Version=v2.40.3' -o $@ ./cmd

# Nor can promtool's module, since it replaces a module. Without service discovery, promtool needs no cloud provider's libraries.
$(PROMTOOL):
	@mkdir -p $(TOOLS)
	cd "$$(cd /tmp && GOFLAGS= go mod download -json $(PROM_PKG)@v0.313.5 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" && \
	  GOWORK=off CGO_ENABLED=0 go build -tags remove_all_sd -trimpath -ldflags '-s -w' -o $@ ./cmd/promtool

$(AXE):
	@mkdir -p $(TOOLS)
	@command -v npm >/dev/null || { echo "There is no npm to fetch axe-core with: install it, or put axe.min.js of axe-core 4.14.1 into $@"; exit 1; }
	dir=$$(mktemp -d) && cd $$dir && npm pack --silent --ignore-scripts axe-core@4.14.1 && \
	  echo "$(AXE_SHA256)  axe-core-4.14.1.tgz" | sha256sum -c --quiet && tar xzf axe-core-4.14.1.tgz package/axe.min.js && mv package/axe.min.js $@ && rm -r $$dir

$(LINT):
	GOBIN=$(TOOLS) go install $(LINT_PKG) && mv $(TOOLS)/golangci-lint $@

$(VULN):
	GOBIN=$(TOOLS) go install $(VULN_PKG) && mv $(TOOLS)/govulncheck $@

$(DEADCODE):
	GOBIN=$(TOOLS) go install $(DEADCODE_PKG) && mv $(TOOLS)/deadcode $@
