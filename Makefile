# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help deps build package check test one light test-compose test-sendmail demo bench soak others fuzz fmt install uninstall clean

prefix ?= /usr/local
run ?= .

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: # what tests and demo need of Debian or Ubuntu
	@.ci/deps

# The version of what is built: the tag, or what came after it, or the newest of the release notes;
# make VERSION=1.2.3 for another.
newest := $(shell sed -n 's/^\# \([0-9][0-9.]*\), .*/\1/p' docs/relnotes.md | head -n 1)
VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/; s/-/./'),$(newest)$(shell git log -1 --date=format:%Y%m%d --format=+git%cd.%h 2>/dev/null))

build: ## build bin/sluice, which needs no library of the machine that it runs on
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/sluice ./cmd/sluice

package: ## make .deb and .rpm packages for amd64 and arm64 in dist, with checksums and a list of what is in them
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} cmd/sluice/packaging/build $(VERSION) dist

# Packages whose tests start Sluice, Redis or Exim, and root's machine; of the others
# all tests run without root and without a program that may be missing, but for $(on_redis).
hosts := /cmd/sluice$$|/exim-config$$|/redisstore$$
packages = $(shell go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)
light = $(shell echo $(packages) | tr ' ' '\n' | grep -vE '$(hosts)')
# -race where goroutines are started, by a package or its tests: in others it finds nothing.
starts := ^[[:space:]]+go |\.Go\(|AfterFunc\(
starting = $(shell grep -rlE '$(starts)' --include='*.go' . | xargs -n 1 dirname | sort -u | sed 's|^\.|sluice|')
light_race = $(filter $(starting),$(light))
light_rest = $(filter-out $(light_race),$(light))
# Of cmd/sluice that is where nodes work, or are asked, at the same time; most of its tests type one
# command after the other. TestReadme waits for a machine, and so begins with the packages and not behind others.
at_once := ^Test(ALock|AMoment|ANode|APanel|ARestart|ASmarthost|BadFiles|DescriptorsRunOut|EveryIncident|FromTheLogLine|Limit|LiveValues|LockUnlock|Nodes|OutageModes|Outcomes|RedisDown|RemovedSockets|Serve|TenThousand|TheFile|ThePollAlone|TwoLiveNodes|WhatNeedsARestart|WhoAndStop)
# Tests of engine that play hours of mail by a clock of their own, in one goroutine: -race finds
# nothing there either, and takes ten times as long.
scripted := ^(TestAnAttackOverMidnight|TestAStolenMailboxBesideFourColleagues|TestAnyOffice|TestReplaysOfTheShare|TestSimulationEqualsWhatTheLivePolicyDid|TestSimulationKeepsNoMoreOfALongerLog|TestAWebServersScriptAndAForwarderBesideFourColleagues)$$
# The test of engine that starts a Redis.
on_redis := ^TestAStolenMailboxOnTwoNodesOfOneRedis$$
# -race needs a C compiler.
race := $(shell command -v gcc >/dev/null && echo -race)
# The last resort: whatever waits has a deadline of its own (see sidecar/hosttest).
timeout := -timeout 40m
# vet has been run on everything, before the tests.
flags := $(timeout) -vet=off
# What needs no -race is compiled once, as it is shipped: for vet, staticcheck, tests, and the
# sluice that they start.
shipped := CGO_ENABLED=0 -trimpath
report := go run -trimpath .ci/report.go

# What go test cannot see that a test depends on, so that it runs again when that
# changes: this tree, for tests that run the program, scripts and documents in it; and
# what is installed here, for those that run Debian's programs. Beside them the tests
# read CI, SLUICE_SOAK and PATH. With nothing changed go test keeps the results of all
# packages; with -shuffle, -count or -v it keeps none (hosttest.Shuffle shuffles).
tree = $(shell find . -type f -not -path './.git/*' -not -path './bin/*' -print0 | sort -z | xargs -0 cksum | cksum)
programs = $(shell cat /var/lib/dpkg/status 2>/dev/null | cksum)
seen = SLUICE_TEST_TREE="$(tree)" SLUICE_TEST_PROGRAMS="$(programs)"

light:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	@CGO_ENABLED=0 go vet -trimpath ./...
	@CGO_ENABLED=0 GOFLAGS="$$(go env GOFLAGS) -trimpath" go tool -modfile=tools/go.mod staticcheck ./...
	@go test -trimpath .ci/report.go .ci/report_test.go
	@$(seen) $(report) -- "$(flags) -parallel 4 $(race) -skip $(scripted)|$(on_redis) $(light_race)" \
		"$(shipped) $(flags) $(light_rest)" "$(shipped) $(flags) -run $(scripted) ./sidecar/engine"

check: light ## gofmt, go vet, staticcheck, and the tests that need no root and no other program
	@$(seen) $(report) -- "$(shipped) $(flags) -parallel 4 -short ./cmd/sluice" "$(flags) -parallel 4 -short $(race) ./ratelimit/redisstore"

test: ## install what is missing, then make check and all tests (root for those with a real Exim)
	@echo "make test installs what it needs of Debian (.ci/deps) and starts none of it, and keeps a small Debian in ~/.cache/sluice."
	@echo "It takes 6 to 20 minutes on a machine with two idle cores, and longer the first time or with other work beside it;"
	@echo "cmd/sluice and exim-config are the last to end. With nothing changed since, it takes a minute."
	@.ci/deps
	@$(MAKE) --no-print-directory light
	@$(seen) $(report) -slowest 10 -- "$(shipped) $(flags) -parallel 4 -skip $(at_once)|^TestReadme$$ ./cmd/sluice" \
		"$(flags) -parallel 4 -race -run $(at_once) ./cmd/sluice" "$(flags) -parallel 4 -race ./ratelimit/redisstore" \
		"$(shipped) $(flags) -run $(on_redis) ./sidecar/engine" \
		"$(shipped) $(flags) ./exim-config" "$(shipped) $(flags) -run ^TestReadme$$ ./cmd/sluice"

one: deps ## one end-to-end test, with its log: make one T=TestReadme
	@test -n "$(T)" || { echo "which one? make one T=TestReadme" >&2; exit 1; }
	@name=$$(echo '$(T)' | cut -d / -f 1); packages=$$(grep -rlE "^func $$name\(" --include='*_test.go' . | xargs -r -n 1 dirname | sort -u); \
	test -n "$$packages" || { echo "there is no $$name" >&2; exit 1; }; \
	go test -v -count 1 $(timeout) -run "^$$(echo '$(T)' | sed 's|/|$$/^|g')$$" $$packages

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

soak: deps ## all tests with the long runs, whole matrices and time limits: a million histories, 1,000 kills; or run=NAMES
	@failed=; \
	SLUICE_SOAK=1 go test -v -shuffle=on -p 1 -timeout 24h -run '$(run)' ./... || failed=1; \
	$(MAKE) --no-print-directory others || failed=1; \
	test -z "$$failed"

# What of an Exim is tried with other versions than this machine's.
exim_tests := LimitOfTwenty|ThirtyRecipients|WhoseLockFile|LockFileSpeaks|LockAppears|HandMade|Hold|HeldMail|ScriptOver|EveryEnding|Trips|SluiceDown|Install|ForwardsAnd|RetriesAre|WhatIsAsked|Refusals|MailFirst$$|ATestSession

others: deps ## the tests of the shared store with Redis 8 and Valkey 8, of limits, locks, holds, outcomes and the installer with other Exims, and of package and README on Debian 13 (root)
	@failed=; \
	for redis in valkey redis; do \
		.ci/with-redis $$redis go test -count 1 -parallel 4 $(timeout) ./ratelimit/redisstore || failed="$$failed $$redis"; \
	done; \
	for suite in bullseye trixie; do \
		.ci/with-exim $$suite go test -count 1 $(timeout) ./exim-config -run '^Test($(exim_tests))' || failed="$$failed $$suite"; \
	done; \
	SLUICE_TEST_MACHINE=trixie go test -count 1 $(timeout) -run '^Test(Package|Readme)$$' ./cmd/sluice || failed="$$failed Debian-13"; \
	test -z "$$failed" || { echo "failed with:$$failed" >&2; exit 1; }

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

uninstall: ## remove what install has put there
	rm -f $(DESTDIR)$(prefix)/sbin/sluice $(DESTDIR)/usr/lib/tmpfiles.d/sluice.conf
	rm -f $(addprefix $(DESTDIR)/etc/systemd/system/,$(notdir $(wildcard cmd/sluice/systemd/*.service cmd/sluice/systemd/*.socket)))
	rm -rf $(DESTDIR)/etc/systemd/system/sluice.service.d

clean: ## remove what was built
	rm -rf bin
