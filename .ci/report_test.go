package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// A package whose test fails beside one that passes, and one that hangs.
const events = `
{"Action":"start","Package":"m/p"}
{"Action":"run","Package":"m/p","Test":"TestGood"}
{"Action":"output","Package":"m/p","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"m/p","Test":"TestGood","Output":"    good_test.go:1: nobody wants to know\n"}
{"Action":"pass","Package":"m/p","Test":"TestGood","Elapsed":2}
{"Action":"output","Package":"m/p","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"m/p","Test":"TestBad","Output":"    bad_test.go:7: 2 accepted, want 1\n"}
{"Action":"output","Package":"m/p","Test":"TestBad","Output":"--- FAIL: TestBad (0.50s)\n"}
{"Action":"fail","Package":"m/p","Test":"TestBad","Elapsed":0.5}
{"Action":"pass","Package":"m/p","Test":"TestParts/parallel","Elapsed":3}
{"Action":"pass","Package":"m/p","Test":"TestParts","Elapsed":0}
{"Action":"output","Package":"m/p","Output":"FAIL\n"}
{"Action":"output","Package":"m/p","Output":"FAIL\tp\t2.600s\n"}
{"Action":"fail","Package":"m/p","Elapsed":2.6}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"panic: test timed out after 40m0s\n"}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"\n"}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"goroutine 7 [IO wait]:\n"}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"net.read()\n"}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"\n"}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"goroutine 8 [chan receive]:\n"}
{"Action":"output","Package":"m/q","Test":"TestHang","Output":"\t/q/hang_test.go:9 +0x1\n"}
{"Action":"fail","Package":"m/q","Test":"TestHang","Elapsed":2400}
{"Action":"output","Package":"m/q","Output":"FAIL\tq\t2400.1s\n"}
{"Action":"fail","Package":"m/q","Elapsed":2400.1}
{"Action":"output","Package":"m/k","Test":"TestKilled","Output":"=== RUN   TestKilled\n"}
{"Action":"output","Package":"m/k","Test":"TestKilled","Output":"SIGQUIT: quit\n"}
{"Action":"output","Package":"m/k","Output":"FAIL\tk\t600.1s\n"}
{"Action":"fail","Package":"m/k","Elapsed":600.1}
{"Action":"output","Package":"r","Output":"ok  \tr\t(cached)\n"}
{"Action":"build-output","ImportPath":"s","Output":"s.go:1: syntax error\n"}
no JSON
`

const reported = `
--- FAIL: m/p TestBad (0.50s)
    bad_test.go:7: 2 accepted, want 1
FAIL	p	2.600s
--- FAIL: m/q TestHang (2400.00s)
panic: test timed out after 40m0s

goroutine 8 [chan receive]:
	/q/hang_test.go:9 +0x1
(goroutines that are in no test: 1)
FAIL	q	2400.1s
FAIL	k	600.1s
--- NOT ENDED: m/k TestKilled (600.10s)
SIGQUIT: quit
ok  	r	(cached)
s.go:1: syntax error
no JSON
The slowest of 4 tests:
  2400.0 s  m/q TestHang
     3.0 s  m/p TestParts/parallel
`

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := report{out: &out, logs: map[string][]string{}}
	u := run{}
	r.read(&u, strings.NewReader(events[1:]))
	r.printTimes(2)
	if out.String() != reported[1:] {
		t.Errorf("reported\n%s, want\n%s", out.String(), reported[1:])
	}
	if !u.broken || len(u.failed) != 2 {
		t.Errorf("%+v", u)
	}
}

// Only what fails as a test is run again.
func TestWhatIsRunAgain(t *testing.T) {
	const bad = `{"Action":"fail","Package":"m/p","Test":"TestBad"}`
	for _, c := range []struct {
		events string
		broken bool
	}{
		{bad + `{"Action":"fail","Package":"m/p"}`, false},
		{bad + `{"Action":"fail","Package":"m/p"}{"Action":"fail","Package":"m/q"}`, true}, // which does not compile
		{`{"Action":"output","Package":"m/p","Test":"TestBad","Output":"WARNING: DATA RACE\n"}` + bad, true},
		{`{"Action":"output","Package":"m/p","Test":"TestBad","Output":"panic: no\n"}` + bad, true},
	} {
		u, r := run{}, report{out: &bytes.Buffer{}, logs: map[string][]string{}}
		r.read(&u, strings.NewReader(strings.ReplaceAll(c.events, "}{", "}\n{")))
		if u.broken != c.broken || len(u.failed) != 1 || u.failed[0].Test != "TestBad" {
			t.Errorf("%s: %+v", c.events, u)
		}
	}
	args := aloneArgs(strings.Fields("A=b -parallel 4 -skip ^TestLong$|^TestX$ ./p m/q"), event{Package: "m/p", Test: "TestBad"})
	if want := "A=b -parallel 4 -count 1 -run ^TestBad$ m/p"; strings.Join(args, " ") != want {
		t.Errorf("again: %q, want %q", args, want)
	}
}

// A test that fails once passes; one that fails always does not, nor do four.
func TestOnceMore(t *testing.T) {
	dir := t.TempDir()
	const source = `package p

import ("os"; "testing")

func TestOnce(t *testing.T) {
	if _, err := os.Stat("once"); err != nil {
		os.WriteFile("once", nil, 0o600)
		t.Fatal("not yet")
	}
}

func TestAlways(t *testing.T) { t.Fatal("no") }
`
	for name, text := range map[string]string{"p_test.go": source, "go.mod": "module p\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, c := range []struct {
		tests  string
		passes bool
	}{{"^TestOnce$", true}, {"^TestAlways$", false}} {
		os.Remove("once")
		var out bytes.Buffer
		r, u := report{out: &out, logs: map[string][]string{}}, run{args: []string{"-trimpath", "-count", "1", "-run", c.tests, "p/..."}}
		r.run(&u)
		if u.err == nil || r.passesAlone(&u) != c.passes || strings.Contains(out.String(), "FLAKY\tp TestOnce") != c.passes {
			t.Errorf("%s: %+v\n%s", c.tests, u, out.String())
		}
	}
	u := run{failed: make([]event, most+1)}
	if r := (report{}); r.passesAlone(&u) {
		t.Error("four are run again")
	}
}

func TestALongLogIsCut(t *testing.T) {
	var log []string
	for range 1000 {
		log = append(log, "line\n")
	}
	if kept := matters(log); len(kept) != first+last+1 || !strings.Contains(kept[first], "840 lines are left out") {
		t.Errorf("%d lines are kept", len(kept))
	}
}

func TestVariablesAreForTheEnvironment(t *testing.T) {
	cmd := command([]string{"CGO_ENABLED=0", "-vet=off", "./..."})
	if want := []string{"go", "test", "-json", "-vet=off", "./..."}; !slices.Equal(cmd.Args, want) || !slices.Contains(cmd.Env, "CGO_ENABLED=0") {
		t.Errorf("runs %q, want %q with CGO_ENABLED=0", cmd.Args, want)
	}
}
