package action

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

var now = time.Date(2026, 11, 30, 11, 8, 0, 0, time.UTC)

type moved struct {
	IDs []string `json:"ids"`
}

func open(t *testing.T) *Log {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "actions"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func will(t *testing.T, l *Log, a Action, values any) int {
	t.Helper()
	n, err := l.Will(a, values)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnActionIsKeptWithItsEnd(t *testing.T) {
	l := open(t)
	whole := will(t, l, Action{At: now, By: "alice", Verb: "clean", Whom: "hacked@example.com"}, nil)
	step := will(t, l, Action{At: now, By: "alice", Verb: "quarantine", Whom: "hacked@example.com", Part: whole}, moved{[]string{"a", "b"}})
	if err := l.Did(now.Add(time.Second), step, moved{[]string{"a"}}, errors.New("b is being delivered")); err != nil {
		t.Fatal(err)
	}
	a, parts, err := l.Find(whole)
	if err != nil || a.Did != nil || len(parts) != 1 {
		t.Fatalf("action %+v with parts %+v, %v", a, parts, err)
	}
	var values, did moved
	if err := errors.Join(parts[0].Read(&values), parts[0].ReadDid(&did)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]moved{{[]string{"a", "b"}}, {[]string{"a"}}}, []moved{values, did}); diff != "" {
		t.Error(diff)
	}
	if parts[0].Did.Failed != "b is being delivered" {
		t.Errorf("failed: %q", parts[0].Did.Failed)
	}
	if _, _, err := l.Find(7); !errors.Is(err, ErrNotFound) {
		t.Errorf("an action that is not there: %v", err)
	}
	if err := l.Did(now, step, nil, nil); err == nil {
		t.Error("an action ended twice")
	}
}

func TestAnAlteredLineIsBelievedByNobody(t *testing.T) {
	alter := map[string]func(string) string{
		"another value":  func(s string) string { return strings.Replace(s, `"a"`, `"z"`, 1) },
		"the last line":  func(s string) string { return strings.Replace(s, `{"ids":["b"]}`, `{"ids":["z"]}`, 1) },
		"a line removed": func(s string) string { return s[strings.Index(s, "\n")+1:] },
		"a line between": func(s string) string {
			first, rest, _ := strings.Cut(s, "\n")
			return first + "\n" + first + "\n" + rest
		},
		"no JSON": func(s string) string { return "rm -rf /\n" + s },
	}
	for name, change := range alter {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			n := will(t, l, Action{At: now, Verb: "quarantine"}, moved{[]string{"a"}})
			if err := l.Did(now, n, moved{[]string{"b"}}, nil); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(l.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(l.path, []byte(change(string(b))), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := l.Find(n); err == nil || !strings.Contains(err.Error(), "altered") {
				t.Errorf("find: %v", err)
			}
			if _, err := l.Will(Action{Verb: "stop"}, nil); err == nil {
				t.Error("an action was written behind an altered line")
			}
		})
	}
}

func TestALineThatACrashCutOffIsWrittenAnew(t *testing.T) {
	l := open(t)
	will(t, l, Action{At: now, Verb: "stop"}, nil)
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"before":"`)
	f.Close()
	if n := will(t, l, Action{At: now, Verb: "stop"}, nil); n != 2 {
		t.Errorf("number %d", n)
	}
	if all, err := l.Actions(); err != nil || len(all) != 2 {
		t.Errorf("%d actions, %v", len(all), err)
	}
}

func TestProgramsAtOnceGetNumbersOfTheirOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "actions")
	numbers := make(chan int, 40)
	var all sync.WaitGroup
	for range cap(numbers) {
		all.Go(func() {
			l, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			n, err := l.Will(Action{At: now, Verb: "stop"}, nil)
			if err = errors.Join(err, l.Did(now, n, nil, nil)); err != nil {
				t.Error(err)
			}
			numbers <- n
		})
	}
	all.Wait()
	close(numbers)
	seen := map[int]bool{}
	for n := range numbers {
		seen[n] = true
	}
	if len(seen) != 40 || !seen[1] || !seen[40] {
		t.Errorf("numbers %v", seen)
	}
}

func TestADirectoryOfOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a directory that everybody may write to was taken")
	}
}

func TestWhatWasTakenBack(t *testing.T) {
	l := open(t)
	first := will(t, l, Action{At: now, Verb: "quarantine"}, nil)
	back := will(t, l, Action{At: now, Verb: "restore", Undoes: first}, nil)
	all, _ := l.Actions()
	if by := UndoneBy(all, first); by != 0 {
		t.Errorf("undone by %d before it ended", by)
	}
	if err := l.Did(now, back, nil, nil); err != nil {
		t.Fatal(err)
	}
	if all, _ = l.Actions(); UndoneBy(all, first) != back {
		t.Errorf("undone by %d, want %d", UndoneBy(all, first), back)
	}
}

func TestOneAtATimeBeginsTheSame(t *testing.T) {
	l := open(t)
	end, err := l.Begin("mx1-42")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin("mx1-42"); !errors.Is(err, ErrBusy) {
		t.Errorf("again: %v", err)
	}
	if _, err := l.Begin("mx1-43", "mx1-42"); !errors.Is(err, ErrBusy) {
		t.Errorf("with another one: %v", err)
	}
	other, err := l.Begin("mx1-43", "mx1-44")
	if err != nil {
		t.Errorf("another one: %v", err)
	}
	if _, err := l.Begin("mx1-44"); !errors.Is(err, ErrBusy) {
		t.Errorf("the second of two: %v", err)
	}
	other()
	copies := openTwice(t, "under-way")
	end()
	if end, err = l.Begin("mx1-42"); err != nil {
		t.Errorf("after its end: %v", err)
	} else {
		end()
	}
	runtime.KeepAlive(copies)
}

// openTwice opens again what this process has open under a name, as a program that is being started
// has it until it runs.
func openTwice(t *testing.T, name string) (copies []*os.File) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if path, _ := os.Readlink("/proc/self/fd/" + fd.Name()); filepath.Base(path) == name {
			n, _ := strconv.Atoi(fd.Name())
			if n, err = syscall.Dup(n); err != nil {
				t.Fatal(err)
			}
			copies = append(copies, os.NewFile(uintptr(n), name))
		}
	}
	if len(copies) == 0 {
		t.Fatalf("%s is not open", name)
	}
	return copies
}

func TestAwaitTheEndOfOthers(t *testing.T) {
	l := open(t)
	end, err := l.Begin("it")
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := l.Await(ctx, "it", func() { waits++; cancel() }); !errors.Is(err, context.Canceled) || waits != 1 {
		t.Errorf("broken off: %v; said %d times that it waits", err, waits)
	}
	mine, err := l.Await(t.Context(), "it", func() { end() })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin("it"); !errors.Is(err, ErrBusy) {
		t.Errorf("begun twice: %v", err)
	}
	mine()
	if end, err = l.Await(t.Context(), "it", func() { t.Error("it waits for nobody") }); err != nil {
		t.Fatal(err)
	}
	end()
}

// What a command has started, as an Exim that moves messages, goes on when the command is killed; until
// it has ended, too, nobody else begins. What a command leaves that ends by itself keeps nobody.
func TestAwaitWhatAKilledCommandHasStarted(t *testing.T) {
	l := open(t)
	for _, killed := range []bool{true, false} {
		f, err := l.begin("it")
		if err != nil {
			t.Fatal(err)
		}
		letInherit(f)
		started := exec.Command("cat")
		input, err := started.StdinPipe()
		if err = errors.Join(err, started.Start()); err != nil {
			t.Fatal(err)
		}
		if killed {
			f.Close() // as the kernel does
		} else {
			unlock(f)
		}
		if again, err := l.Begin("it"); errors.Is(err, ErrBusy) != killed {
			t.Errorf("killed %v: begun again: %v", killed, err)
		} else if err == nil {
			again()
		}
		if err := errors.Join(input.Close(), started.Wait()); err != nil {
			t.Fatal(err)
		}
		end, err := l.Begin("it")
		if err != nil {
			t.Fatalf("killed %v: after the end of what was started: %v", killed, err)
		}
		end()
	}
}

func TestTextsThatAreNoUTF8AreNotTakenForAlterations(t *testing.T) {
	l := open(t)
	n := will(t, l, Action{At: now, Verb: "stop", Whom: "\xff<\u2028", Why: "\ufffd"}, moved{[]string{"\xfe&"}})
	if err := l.Did(now, n, moved{[]string{"\xfe"}}, errors.New("\xff")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Find(n); err != nil {
		t.Error(err)
	}
}

// On a full disk nothing begins, what has begun is without an end, and nothing of the record is lost.
func TestAFullDisk(t *testing.T) {
	dir := hosttest.SmallDisk(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := l.Will(Action{Verb: "stop", Whom: "hacked@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	filler := hosttest.Fill(t, dir)
	long := strings.Repeat("more than a page of the disk ", 1000)
	if _, err := l.Will(Action{Verb: "stop", Why: long}, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an action begins on a full disk: %v", err)
	}
	if err := l.Did(time.Now(), first, long, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an action ends on a full disk: %v", err)
	}
	if all, err := l.Actions(); err != nil || len(all) != 1 || all[0].Did != nil {
		t.Errorf("on record are %+v, %v", all, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Did(time.Now(), first, long, nil); err != nil {
		t.Error(err)
	}
	if second, err := l.Will(Action{Verb: "stop", Why: long}, nil); second != 2 || err != nil {
		t.Errorf("with space again: action %d, %v", second, err)
	}
	if all, err := l.Actions(); err != nil || len(all) != 2 || all[0].Did == nil {
		t.Errorf("on record are %+v, %v", all, err)
	}
}
