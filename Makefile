# `make` explains itself. The two that everybody needs: make run, make test.

GO ?= go
NPM_CI = npm ci --no-audit --no-fund --loglevel=error

# golangci-lint brings gofumpt along.
LINT_VERSION = v2.15.0
LINT = bin/tools/golangci-lint-$(LINT_VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The pages are built while the gateway already runs; it reads them from disk
# and shows a placeholder until then.
.PHONY: run
run: bin/sluice ## Start the gateway with embedded brokers on http://127.0.0.1:8080
	@$(MAKE) --no-print-directory web >bin/web.log 2>&1 || echo "The pages could not be built: see bin/web.log" & \
	pages=$$!; trap : INT; \
	bin/sluice serve --web-dir web $(ARGS); status=$$?; \
	kill $$pages 2>/dev/null; wait; exit $$status

.PHONY: build
build: web ## Build bin/sluice with its pages in it
	$(GO) build -o bin/sluice ./cmd/sluice

.PHONY: bin/sluice
bin/sluice:
	$(GO) build -o $@ ./cmd/sluice

.PHONY: web
web: web/dist/graphiql/index.html ## Build the IDE pages, if their sources changed

web/dist/graphiql/index.html: web/node_modules/.package-lock.json web/build.js web/endpoints.js \
		$(wildcard web/graphiql/* web/playground/* web/examples/*)
	cd web && npm run build
	touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && $(NPM_CI)
	touch $@

.PHONY: generate
generate: ## Write the code that gqlgen generates from graph/*.graphqls
	$(GO) generate ./...
	cd examples/embed && $(GO) generate ./...

.PHONY: test
test: test-go test-faults test-web test-clients lessons-check test-browser ## Run all tests

.PHONY: test-go
test-go: ## Run the Go tests under the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 600s ./...
	cd examples/embed && $(GO) test -race -timeout 60s ./...

.PHONY: test-web
test-web: web/node_modules/.package-lock.json ## Check the pages' sources
	cd web && npm run check

.PHONY: test-clients
test-clients: bin/sluice bin/course $(patsubst %,clients/%/node_modules/.package-lock.json,node http graphql-ws-resume) ## Run graphql-ws, Apollo, urql and others against the gateway
	cd clients/node && npm test
	cd clients/http && npm test
	cd clients/graphql-ws-resume && npm test

.PHONY: lessons-check
lessons-check: bin/sluice clients/lessons/node_modules/.package-lock.json ## Play every lesson's reference client against the gateway
	$(GO) test ./lessons/...
	cd clients/lessons && npm run check && npm test

.PHONY: test-browser
test-browser: build bin/stock bin/course $(patsubst %,%/node_modules/.package-lock.json,clients/browser examples/nothing-lost) ## Run the pages in Chromium against the gateway
	cd clients/browser && npm test
	cd examples/nothing-lost && npm test

.PHONY: conformance
conformance: ## Write docs/conformance.md anew
	$(GO) test ./server/gqlws/conformance -update

.PHONY: test-faults
test-faults: ## Kill, stop and fill up what the gateway lives on, and the gateway, and count messages (three minutes)
	SLUICE_FAULTS=1 $(GO) test -race -timeout 300s -run 'Fault|Outlive' ./bridges/...
	SLUICE_FAULTS=1 $(GO) test -count=1 -v -timeout 300s ./internal/faults

.PHONY: test-hostile
test-hostile: ## Attack the gateway, real brokers behind it (under five minutes)
	SLUICE_HOSTILE=1 $(GO) test -timeout 300s ./internal/hostile

.PHONY: smoke
smoke: bin/sluice clients/node/node_modules/.package-lock.json ## See one message of a real MQTT and Redis server reach a client
	cd clients/node && npm run smoke

.PHONY: show-nothing-lost
show-nothing-lost: bin/sluice bin/stock examples/nothing-lost/node_modules/.package-lock.json ## Kill servers and broker under a page that counts what is lost (a minute)
	cd examples/nothing-lost && node run.mjs $(ARGS)

.PHONY: bin/stock
bin/stock:
	$(GO) build -o $@ ./examples/nothing-lost/stock

.PHONY: bin/course
bin/course:
	$(GO) build -o $@ ./clients/course

.PHONY: bench
bench: bin/sluice ## Measure against other servers, in three minutes (Linux)
	$(GO) run ./bench -short

.PHONY: bench-full
bench-full: bin/sluice ## Measure everything and write docs/performance.md
	$(GO) run ./bench -docs docs

.PHONY: lint
lint: $(LINT) ## Check formatting and style
	$(LINT) fmt --diff
	$(LINT) run --allow-parallel-runners

.PHONY: fmt
fmt: $(LINT) ## Format the Go code
	$(LINT) fmt

$(LINT):
	mkdir -p bin/tools
	GOBIN=$(CURDIR)/bin/tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/tools/golangci-lint $@

# Fuzz each target for a while: make fuzz FUZZTIME=30s
# Go's fuzzer now and then fails with "context deadline exceeded" when its time is
# up, so it gets a second try. What it has really found fails that one, too.
FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## Look for inputs that break a parser
	@grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | cut -c6- | while read -r target; do \
			echo "$$dir $$target"; \
			fuzz="$(GO) test -run ^\$$ -fuzz ^$$target\$$ -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$dir"; \
			$$fuzz || $$fuzz || exit 1; \
		done || exit 1; \
	done

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin web/dist/graphiql web/dist/playground
