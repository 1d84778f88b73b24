# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help deps build test test-compose test-sendmail demo bench soak fuzz fmt install clean

prefix ?= /usr/local
run ?= Exact|Kill9|MailFirst|WaysAndLayouts|EveryEnding

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: # what tests and demo need of Debian or Ubuntu
	@.ci/deps

build: ## build bin/sluice, which needs no library of the machine that it runs on
	CGO_ENABLED=0 go build -trimpath -o bin/sluice ./cmd/sluice

test: deps ## install what is missing, gofmt, go vet and all tests (root for those with a real Exim)
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go test -race -shuffle=on -timeout 15m ./...

test-sendmail: ## install what is missing; the milter with a real Sendmail (root)
	@.ci/deps sendmail
	SLUICE_SENDMAIL=1 CI=true go test -v -count 1 -run '^TestSendmail' ./cmd/sluice

test-compose: ## docker-compose.yml with one Redis, Redis Cluster and Sentinel, on a Docker engine
	timeout --foreground 30m testdata/compose/run

demo: deps build ## install what is missing; a real Exim meets a limit, is released, and sends on (root)
	testdata/demo/run

bench: deps ## throughput and memory, ratios side by side
	@.ci/deps bench || echo "what Sluice is compared with is missing; those benches are skipped" >&2
	SLUICE_BENCH=1 go test -v -run '^TestMillion' -bench . -benchtime 2s -timeout 60m ./...

soak: deps ## the long runs: a million histories, 1,000 kills, 1,000 messages a fault
	SLUICE_SOAK=1 go test -v -shuffle=on -timeout 24h -run '$(run)' ./ratelimit/... ./cmd/sluice ./exim-config/...

fuzz: ## fuzz every parser for a minute each
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime 1m $$p || exit 1; \
		done; \
	done

fmt: ## gofmt all files
	gofmt -w .

install: build ## install the program into $(prefix)/sbin, and the systemd units
	install -D -m 0755 bin/sluice $(DESTDIR)$(prefix)/sbin/sluice
	install -D -m 0644 -t $(DESTDIR)/etc/systemd/system cmd/sluice/systemd/*.service cmd/sluice/systemd/*.socket
	sed -i 's|/usr/local/sbin/|$(prefix)/sbin/|' $(DESTDIR)/etc/systemd/system/sluice*.service
	install -D -m 0644 cmd/sluice/systemd/sluice.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/sluice.conf

clean: ## remove what was built
	rm -rf bin
