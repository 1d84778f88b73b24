package journal

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/hosttest"
)

// childEnv names the directory to a test binary that is to be killed.
const childEnv = "SLUICE_JOURNAL_CHILD"

// kills is how often TestKill9 kills.
func kills() int {
	if hosttest.Soak() {
		return 1000
	}
	return 20
}

// child charges as fast as it can, with many callers and frequent snapshots,
// and prints the token of every answered charge.
func child(dir string) {
	s, err := Open(dir, Options{Reporter: &heard{}, MinTail: 1 << 16, Ledger: ratelimit.Options{Keep: time.Hour}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go s.Run(context.Background())
	go func() {
		for {
			s.Save()
			time.Sleep(time.Millisecond)
		}
	}()
	for range 16 {
		go func() {
			for {
				token := ratelimit.Token(rand.Uint64())
				t := take(fmt.Sprintf("d%d.example", token%7), 0, token)
				t.Subjects = append(t.Subjects, ratelimit.Subject{Name: "account:all", Limits: t.Subjects[0].Limits})
				s.Take(context.Background(), time.Now(), t)
				fmt.Printf("%d\n", token)
			}
		}()
	}
	select {}
}

// killsAtOnce is how many kills one directory sees. Its charges are all within
// the window, so that what each start reads, and each kill verifies, only grows.
const killsAtOnce = 50

// TestKill9 kills a busy process at random moments, again and again with the
// same directory: every charge that was answered since its beginning is there
// afterwards, and the counts are those of the sends that are there.
func TestKill9(t *testing.T) {
	answered, saved := 0, uint64(0)
	for done := 0; done < kills(); done += killsAtOnce {
		t.Run(fmt.Sprintf("from %d", done), func(t *testing.T) {
			a, s := killAgain(t, min(killsAtOnce, kills()-done))
			answered, saved = answered+a, saved+s
		})
		if t.Failed() {
			return
		}
	}
	if answered < kills()*10 || saved*4 < uint64(kills()) {
		t.Fatalf("only %d charges were answered and %d snapshots begun in %d runs", answered, saved, kills())
	}
	t.Logf("%d kills, %d answered charges, all there; %d snapshots begun", kills(), answered, saved)
}

// killAgain kills n times in a directory of its own, and returns how many
// charges were answered there and how many snapshots begun.
func killAgain(t *testing.T, n int) (int, uint64) {
	dir, h := t.TempDir(), &heard{}
	var answered []ratelimit.Token
	var segments uint64
	for range n {
		answered = append(answered, runAndKill(t, dir)...)
		s := open(t, dir, h)
		for _, token := range answered {
			if !s.Known(time.Now(), token) {
				t.Fatalf("token %d was answered and is not there", token)
			}
		}
		_, sends, _ := s.Size()
		agree(t, s, sends)
		segments = s.segment.n
		s.abandon()
		for _, line := range h.lines {
			if !strings.HasPrefix(line, "cut ") {
				t.Fatalf("the operator was told %q", line)
			}
		}
	}
	// Each start, of the child and here, begins a segment; so does each snapshot.
	return len(answered), segments - uint64(2*n)
}

// agree checks that the counts of the subjects are those of the sends kept.
func agree(t *testing.T, s *Store, sends int64) {
	t.Helper()
	var domains, account int64
	s.Standings(time.Now(), func(st ratelimit.Standing) bool {
		if st.Name == "account:all" {
			account = st.Windows[0].Sent
		} else {
			domains += st.Windows[0].Sent
		}
		return true
	})
	if domains != sends || account != sends {
		t.Fatalf("%d sends are kept, but %d counted for the domains and %d for the account", sends, domains, account)
	}
}

// runAndKill runs a child for up to 100 ms and returns what it answered.
func runAndKill(t *testing.T, dir string) []ratelimit.Token {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill := func() { cmd.Process.Kill() }
	guard := time.AfterFunc(30*time.Second, kill)
	defer guard.Stop()
	var tokens []ratelimit.Token
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		// The clock of the kill starts with the first answer.
		once.Do(func() { time.AfterFunc(time.Duration(rand.IntN(100_000))*time.Microsecond, kill) })
		var token ratelimit.Token
		if _, err := fmt.Sscan(lines.Text(), &token); err != nil {
			t.Fatalf("the child printed %q", lines.Text())
		}
		tokens = append(tokens, token)
	}
	cmd.Wait()
	return tokens
}
