// Report runs go test and prints one line for each package, for a failure the part of its
// log that matters, and at the end the slowest tests.
//
// A few tests that failed beside all others are run once more by themselves. Those that pass
// then depend on time, or have found a race that is rare: they are named, with the log of
// their failure, and the run goes on. Data races, panics, and what does not compile fail at
// once.
//
//	go run .ci/report.go [-slowest N] -- "GO TEST'S ARGUMENTS" ...
//
// Each argument is one run of go test, split at spaces. It may begin with variables for the
// environment, NAME=VALUE. All run at the same time.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

func main() {
	slowest := flag.Int("slowest", 0, "how many of the slowest tests to name at the end")
	flag.Parse()
	r := report{out: os.Stdout, logs: map[string][]string{}}
	var running sync.WaitGroup
	runs := make([]*run, flag.NArg())
	for i, args := range flag.Args() {
		runs[i] = &run{args: strings.Fields(args)}
		running.Go(func() { r.run(runs[i]) })
	}
	running.Wait()
	code := 0
	for _, u := range runs {
		if u.err != nil && !r.passesAlone(u) {
			fmt.Fprintln(os.Stderr, u.err)
			code = 1
		}
	}
	r.printTimes(*slowest)
	os.Exit(code)
}

// A run is one go test, and what has failed in it.
type run struct {
	args   []string
	err    error
	failed []event // tests, not their parts
	broken bool    // something failed that is no test's own: a build, a data race, a panic
}

// most is how many tests of a run may fail and be run again: more have one cause.
const most = 3

// passesAlone runs what has failed once more, one test at a time, and reports whether it passes.
func (r *report) passesAlone(u *run) bool {
	if u.broken || len(u.failed) == 0 || len(u.failed) > most {
		return false
	}
	for _, t := range u.failed {
		alone := &run{args: aloneArgs(u.args, t)}
		if r.run(alone); alone.err != nil {
			return false
		}
		fmt.Fprintf(r.out, "FLAKY\t%s %s failed beside other tests and passed alone: mend it, its log is above\n", t.Package, t.Test)
	}
	return true
}

// aloneArgs is what a run was started with, for one of its tests.
func aloneArgs(args []string, t event) (alone []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-run" || args[i] == "-skip":
			i++
		case strings.Contains(args[i], "/"): // a package
		default:
			alone = append(alone, args[i])
		}
	}
	return append(alone, "-count", "1", "-run", "^"+t.Test+"$", t.Package)
}

// An event is a line of go test -json: see go doc test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type report struct {
	mu    sync.Mutex
	out   io.Writer
	logs  map[string][]string // of running tests, by package and test
	tests []event
}

func (r *report) run(u *run) {
	cmd := command(u.args)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		r.read(u, out)
		err = cmd.Wait()
	}
	if err != nil {
		u.err = fmt.Errorf("go test %s: %w", strings.Join(u.args, " "), err)
	}
}

// command is go test with what an argument of report's has.
func command(args []string) *exec.Cmd {
	env := os.Environ()
	for !strings.HasPrefix(args[0], "-") && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Env = env
	return cmd
}

func (r *report) read(u *run, in io.Reader) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		r.mu.Lock()
		if e := (event{}); json.Unmarshal(line, &e) == nil {
			r.add(e)
			u.note(e)
		} else {
			r.out.Write(line)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// note keeps what fails. All events of a package come before its verdict.
func (u *run) note(e event) {
	if e.Action == "output" && (strings.HasPrefix(e.Output, "WARNING: DATA RACE") || strings.HasPrefix(e.Output, "panic: ")) {
		u.broken = true
	}
	if e.Action != "fail" {
		return
	}
	if e.Test == "" && !slices.ContainsFunc(u.failed, func(t event) bool { return t.Package == e.Package }) {
		u.broken = true
	}
	if e.Test != "" && !strings.Contains(e.Test, "/") {
		u.failed = append(u.failed, e)
	}
}

// add processes events in order. It keeps a test's log until the test ends, when it is
// known whether it matters.
func (r *report) add(e event) {
	name := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test == "" && isVerdict(e.Output) {
			fmt.Fprint(r.out, e.Output)
			return
		}
		r.logs[name] = append(r.logs[name], e.Output)
	case "fail":
		r.printLog("FAIL", name, e.Elapsed)
		for _, running := range slices.Sorted(maps.Keys(r.logs)) {
			if e.Test == "" && strings.HasPrefix(running, name) && running != name { // when its process was killed
				r.printLog("NOT ENDED", running, e.Elapsed)
				delete(r.logs, running)
			}
		}
		fallthrough
	case "pass", "skip":
		if e.Test != "" {
			r.tests = append(r.tests, e)
		}
		delete(r.logs, name)
	}
}

// printLog prints what matters of a log.
func (r *report) printLog(how, name string, elapsed float64) {
	if matters := matters(r.logs[name]); len(matters) > 0 {
		fmt.Fprintf(r.out, "--- %s: %s (%.2fs)\n%s", how, strings.TrimSpace(name), elapsed, strings.Join(matters, ""))
	}
}

// isVerdict reports whether a line is the one with which go test closes a package.
func isVerdict(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t")
}

// first and last are how many lines are shown of a long log: its beginning, where the
// cause is, and its end, where the consequences are.
const first, last = 80, 80

// matters returns the lines of a log that are worth reading: none of those that say that a
// test runs, and of a dump of all goroutines those that are in a test.
func matters(log []string) (kept []string) {
	var block []string // a goroutine
	inDump, others := false, 0
	end := func() {
		if len(block) > 0 && !slices.ContainsFunc(block, func(l string) bool { return strings.Contains(l, "_test.go:") }) {
			others++
		} else {
			kept = append(kept, block...)
		}
		block = nil
	}
	for _, line := range log {
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- PASS") || text == "FAIL" || text == "PASS" ||
			strings.HasPrefix(text, "--- FAIL") || strings.HasPrefix(text, "-test.shuffle"):
		case strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(text, "]:"):
			end()
			inDump, block = true, []string{line}
		case inDump && text != "":
			block = append(block, line)
		case inDump:
			end()
		default:
			kept = append(kept, line)
		}
	}
	end()
	if others > 0 {
		kept = append(kept, fmt.Sprintf("(goroutines that are in no test: %d)\n", others))
	}
	if cut := len(kept) - first - last; cut > 0 {
		kept = slices.Concat(kept[:first], []string{fmt.Sprintf("(%d lines are left out; make one T=NAME shows all)\n", cut)}, kept[len(kept)-last:])
	}
	return kept
}

// printTimes prints the slowest tests, each with its slowest part: the time of a test does
// not include that of its parallel parts.
func (r *report) printTimes(count int) {
	slowest := map[string]event{}
	for _, t := range r.tests {
		test, _, _ := strings.Cut(t.Test, "/")
		if whole := t.Package + " " + test; t.Elapsed >= slowest[whole].Elapsed {
			slowest[whole] = t
		}
	}
	tests := slices.SortedFunc(maps.Values(slowest), func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	if count = min(count, len(tests)); count == 0 {
		return
	}
	fmt.Fprintf(r.out, "The slowest of %d tests:\n", len(tests))
	for _, t := range tests[:count] {
		fmt.Fprintf(r.out, "%8.1f s  %s %s\n", t.Elapsed, t.Package, t.Test)
	}
}
