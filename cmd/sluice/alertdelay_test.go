package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/alert"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

// How long it takes from the cause of an incident to its notice, in the soak a hundred times and with
// the group_wait of 30 s that is built in:
//
//	bounces ─→ mainlog ─→ sluice serve ─┬→ webhook: critical, at once
//	questions ─→ policy socket ─→ ┘     └→ webhook: a warning, when group_wait is over
func TestHowSoonOperatorsAreTold(t *testing.T) {
	longest := map[incident.Severity]time.Duration{incident.Critical: 2 * time.Second, incident.Warning: 35 * time.Second}
	rounds, wait := 1, "1s"
	if hosttest.Soak() {
		rounds, wait = 100, "30s"
	}
	told := newTold(t)
	dir := t.TempDir()
	writeFile(t, dir+"/mainlog", "")
	config := strings.NewReplacer("alert.to = []", fmt.Sprintf("alert.to = [{webhook = %q}]\nalert.per_hour = 1000\nalert.group_wait = %q", told.hook.URL, wait),
		`mainlog = ""`, fmt.Sprintf("mainlog = %q", dir+"/mainlog")).Replace(serveConfig(dir))
	n := launch(t, buildSluice(t), dir, config)
	n.learnsOf(t, rounds)
	begun := map[string]time.Time{}
	for round := range rounds {
		for number := range int64(11) { // one more than the limit, by somebody who is new
			if _, err := n.ask(fmt.Sprintf("w%d.example", round), int64(round)*11+number, "data"); err != nil {
				t.Fatal(err)
			}
			if number == 9 {
				begun[fmt.Sprintf("w%d.example", round)] = time.Now() // that was the last one
			}
		}
		trips := fmt.Sprintf("c%d.example", round)
		begun[trips] = time.Now()
		n.bounces(t, trips)
		told.await(t, trips)
	}
	for domain := range begun {
		told.await(t, domain)
	}
	for severity, prefix := range map[incident.Severity]string{incident.Critical: "c", incident.Warning: "w"} {
		var took []time.Duration
		for domain, at := range begun {
			if notice := told.of(domain); strings.HasPrefix(domain, prefix) {
				took = append(took, notice.at.Sub(at))
				if notice.Severity != severity || notice.State != alert.StateOpen {
					t.Errorf("%s is told as %s, %s", domain, notice.State, notice.Severity)
				}
			}
		}
		slices.Sort(took)
		t.Logf("%s, %d times: median %v, longest %v", severity, len(took), took[len(took)/2], took[len(took)-1])
		hosttest.NotLonger(t, "to tell of what is "+severity.String(), took[len(took)-1], longest[severity])
	}
}

// learnsOf has it learn from an old log that somebody of each domain has sent on an earlier day.
func (n *processNode) learnsOf(t *testing.T, domains int) {
	t.Helper()
	var log strings.Builder
	at := time.Now().AddDate(0, 0, -3).Format("2006-01-02 15:04:05")
	for d := range domains {
		fmt.Fprintf(&log, "%[1]s 1xUzSN-%011[2]d-0q00 <= old@w%[2]d.example H=client [192.0.2.1] P=esmtpa A=plain:old@w%[2]d.example S=300\n"+
			"%[1]s 1xUzSN-%011[2]d-0q00 => r@far.example R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.9]\n", at, d)
	}
	writeFile(t, n.dir+"/old", log.String())
	if out, code := n.sluice(t, "learn", n.dir+"/old"); code != exitDone {
		t.Fatalf("learn exits with %d: %s", code, out)
	}
}

// told is a webhook that remembers the first notice of each domain.
type told struct {
	hook *httptest.Server
	mu   sync.Mutex
	all  map[string]noticeAt
}

type noticeAt struct {
	alert.Notice
	at time.Time
}

func newTold(t *testing.T) *told {
	w := &told{all: map[string]noticeAt{}}
	w.hook = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now()
		var n alert.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, again := w.all[n.Domain]; !again {
			w.all[n.Domain] = noticeAt{n, now}
		}
	}))
	t.Cleanup(w.hook.Close)
	return w
}

// of is the first notice of a domain.
func (w *told) of(domain string) noticeAt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[domain]
}

func (w *told) await(t *testing.T, domain string) {
	t.Helper()
	hosttest.Eventually(t, domain+" is told", func() bool { return !w.of(domain).at.IsZero() })
}
