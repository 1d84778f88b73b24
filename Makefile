# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help build test demo bench soak fuzz fmt install install-deps clean

prefix ?= /usr/local

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sluice
	go build -trimpath -o bin/sluice ./cmd/sluice

test: ## gofmt, go vet and all tests, as CI runs them
	@if [ "$$CI" = true ]; then .ci/deps; fi
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go test -race -shuffle=on -timeout 15m ./...

demo: build ## a real Exim meets a limit, is released, and sends on (root; under two minutes)
	testdata/demo/run

bench: ## throughput and memory, ratios side by side
	SLUICE_BENCH=1 go test -v -run '^TestMillion' -bench . -benchtime 2s -timeout 60m ./...

soak: ## the long runs of the tests: hours
	SLUICE_SOAK=1 go test -race -shuffle=on -timeout 24h ./...

fuzz: ## fuzz every parser for a minute each
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime 1m $$p || exit 1; \
		done; \
	done

fmt: ## gofmt all files
	gofmt -w .

install: build ## install the program into $(prefix)/sbin
	install -D -m 0755 bin/sluice $(DESTDIR)$(prefix)/sbin/sluice

install-deps: ## install what tests and demo need (Debian, Ubuntu; root)
	.ci/deps

clean: ## remove what was built
	rm -rf bin
