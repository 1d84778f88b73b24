package transaction

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// A transaction is one message on its way into Postfix, as far as the questions
// about it tell: Postfix names it by an instance, and by its queue id only from
// the second recipient on (unless smtpd_delay_open_until_valid_rcpt is no).
type Transaction struct {
	Id      string             // under which its sends are charged: the queue id if that was known at the first
	queue   string             // the queue id; empty while it is not known
	process string             // the smtpd that has it, as the log names it
	passed  time.Time          // when its first recipient was let pass
	First   envelope.Address   // of those charged at RCPT: whose token has no recipient; see askPostfixRcpt
	Named   []envelope.Address // of those not charged at RCPT: the remote recipients that were let pass
}

// transactions are those of late. What is older than two generations is
// forgotten: a message that long on its way is charged by what is in the ledger.
type Table struct {
	mu          sync.Mutex
	young, old  generation
	generations time.Time // when the young one began
}

// A generation of transactions.
type generation struct {
	by      map[string]*Transaction   // instance, queue id, or client
	waiting map[string][]*Transaction // by process: let pass, and without a queue id, in their order
}

// The bounds of a generation.
const (
	generationTime = 30 * time.Minute
	generationSize = 100_000
)

func New() *Table {
	return &Table{young: newGeneration(), old: newGeneration()}
}

func newGeneration() generation {
	return generation{map[string]*Transaction{}, map[string][]*Transaction{}}
}

// of is the transaction of a question, which becomes known by it if it is a new
// one.
func (ts *Table) Of(now time.Time, r *sidecar.Request) *Transaction {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if now.Sub(ts.generations) > generationTime || len(ts.young.by) > generationSize {
		ts.young, ts.old, ts.generations = newGeneration(), ts.young, now
	}
	t := ts.get(r.Instance)
	if t == nil {
		t = &Transaction{Id: r.ID, process: processOf(r.Instance)}
		if t.Id == "" {
			t.Id = r.Instance
		}
	}
	ts.young.by[r.Instance] = t
	if client := clientKey(r); client != "" {
		ts.young.by[client] = t
	}
	if r.ID != "" {
		ts.join(t, r.ID)
	}
	return t
}

// asked tells whether a recipient was asked about, and let pass.
func (t *Transaction) Asked() bool { return !t.passed.IsZero() }

// find is the transaction of a question; nil if no RCPT was asked about.
func (ts *Table) Find(r *sidecar.Request) *Transaction {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, name := range [...]string{r.Instance, r.ID} {
		if t := ts.get(name); t != nil {
			return t
		}
	}
	// The last that this connection has begun, unless that is known to be another.
	if t := ts.get(clientKey(r)); t != nil && (t.queue == "" || t.queue == r.ID || r.ID == "") {
		return t
	}
	return nil
}

// clientKey names a connection.
func clientKey(r *sidecar.Request) string {
	if r.ClientPort == "" || r.ClientPort == "0" {
		return ""
	}
	return r.ClientAddress + " " + r.ClientPort
}

func (ts *Table) get(key string) *Transaction {
	if t := ts.young.by[key]; t != nil {
		return t
	}
	return ts.old.by[key]
}

// join notes a queue id. mu is held.
func (ts *Table) join(t *Transaction, queue string) {
	t.queue = queue
	ts.young.by[queue] = t
	for _, g := range [...]generation{ts.young, ts.old} {
		if rest := slices.DeleteFunc(g.waiting[t.process], func(o *Transaction) bool { return o == t }); len(rest) > 0 {
			g.waiting[t.process] = rest
		} else {
			delete(g.waiting, t.process)
		}
	}
}

// pass notes that a recipient was let pass, by note.
func (ts *Table) Pass(t *Transaction, now time.Time, note func(*Transaction)) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	note(t)
	if !t.passed.IsZero() {
		return
	}
	t.passed = now
	if t.queue == "" && t.process != "" {
		ts.young.waiting[t.process] = append(ts.young.waiting[t.process], t)
	}
}

// look copies a transaction, for others may change it meanwhile; the zero one for
// none.
func (ts *Table) Look(t *Transaction) Transaction {
	if t == nil {
		return Transaction{}
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return *t
}

// logged is the transaction to which an smtpd gave a queue id in the second of
// at, as the log has it just behind the first recipient that it took. It is the
// first that waits but for those whose recipient was let pass here and refused by
// another rule: by then the process has begun another one.
func (ts *Table) Logged(queue, process string, at time.Time) *Transaction {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.get(queue); t != nil {
		return t
	}
	if process == "" {
		return nil // from sendmail
	}
	waiting := slices.Concat(ts.old.waiting[process], ts.young.waiting[process])
	for len(waiting) > 1 && waiting[1].passed.Before(at.Truncate(time.Second)) {
		waiting = waiting[1:]
	}
	if len(waiting) == 0 || waiting[0].passed.After(at.Truncate(time.Second).Add(time.Second+clockSlack)) {
		return nil
	}
	t := waiting[0]
	ts.join(t, queue)
	return t
}

// clockSlack is how much later than its line in the log a question may seem to be
// asked: syslog takes the time from a coarser clock.
const clockSlack = 50 * time.Millisecond

// processOf is the process id in an instance, which begins with it in
// hexadecimal (smtpd.c), as the log has it.
func processOf(instance string) string {
	pid, _, _ := strings.Cut(instance, ".")
	n, err := strconv.ParseUint(pid, 16, 32)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
