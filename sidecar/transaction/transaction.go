package transaction

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// A Transaction is one message on its way in, as far as the questions about it say:
// Postfix names it by an instance, and by its queue id too only from the second recipient
// on (unless smtpd_delay_open_until_valid_rcpt is no).
type Transaction struct {
	ID         string             // under which its sends are charged: the queue id, or the instance if the first question had none
	queue      string             // the queue id; empty while it is not known
	process    string             // process id of the smtpd that receives it, as the log has it
	passed     time.Time          // when its first recipient was accepted
	First      envelope.Address   // the first recipient charged at RCPT, whose token has no recipient: see Policy.askPostfixRcpt
	Recipients []envelope.Address // the remote recipients accepted at RCPT, if they are charged at the end
}

// A Table has the transactions of two generations, a young and an old one. When the young
// one is half an hour old it becomes the old one, and the old one is forgotten. A message
// that takes longer than that is still not charged twice: the store knows the tokens of
// all sends that were charged.
type Table struct {
	mu         sync.Mutex
	young, old generation
	began      time.Time // when the young generation began
}

// A generation is the transactions that began, or were asked about, within generationTime.
type generation struct {
	by      map[string]*Transaction   // by instance, queue id or client
	waiting map[string][]*Transaction // by process: those with an accepted recipient and no queue id, in order
}

// The bounds of a generation.
const (
	generationTime = 30 * time.Minute
	generationSize = 100_000
)

// New returns an empty Table.
func New() *Table {
	return &Table{young: newGeneration(), old: newGeneration()}
}

func newGeneration() generation {
	return generation{map[string]*Transaction{}, map[string][]*Transaction{}}
}

// FindOrBegin returns the transaction of a question at RCPT. If there is none it begins one.
func (ts *Table) FindOrBegin(now time.Time, r *sidecar.Request) *Transaction {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if now.Sub(ts.began) > generationTime || len(ts.young.by) > generationSize {
		ts.young, ts.old, ts.began = newGeneration(), ts.young, now
	}
	t := ts.get(r.Instance)
	if t == nil {
		t = &Transaction{ID: cmp.Or(r.ID, r.Instance), process: processOf(r.Instance)}
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

// Accepted reports whether a recipient was asked about and accepted.
func (t *Transaction) Accepted() bool { return !t.passed.IsZero() }

// Find returns the transaction of a question; nil if there was no question at RCPT.
func (ts *Table) Find(r *sidecar.Request) *Transaction {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, name := range [...]string{r.Instance, r.ID} {
		if t := ts.get(name); t != nil {
			return t
		}
	}
	// The last one of this connection, unless its queue id is another.
	if t := ts.get(clientKey(r)); t != nil && (t.queue == "" || t.queue == r.ID || r.ID == "") {
		return t
	}
	return nil
}

// clientKey identifies a connection; empty if the client's port is unknown.
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

// join records a queue id. mu is held.
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

// Accept records that a recipient was accepted; note adds it to the transaction.
func (ts *Table) Accept(t *Transaction, now time.Time, note func(*Transaction)) {
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

// Copy copies a transaction, which other questions may change meanwhile; nil gives the
// zero one.
func (ts *Table) Copy(t *Transaction) Transaction {
	if t == nil {
		return Transaction{}
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return *t
}

// FindLogged returns the transaction to which an smtpd process gave a queue id, as its log
// says, in the second of at; nil if none is known. Postfix logs that right after the first
// recipient that it accepts, so it is the first transaction of the process that waits for a
// queue id. But Postfix may have refused that one by another rule after it was accepted
// here, and it then waits for ever. It is skipped if the next one was accepted before this
// second.
func (ts *Table) FindLogged(queue, process string, at time.Time) *Transaction {
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

// clockSlack is by how much a question may seem to come after the log line that in truth
// followed it: syslog reads a coarser clock.
const clockSlack = 50 * time.Millisecond

// processOf is the process id with which an instance begins, there in hexadecimal
// (smtpd.c), here in decimal as in the log; empty if there is none.
func processOf(instance string) string {
	pid, _, _ := strings.Cut(instance, ".")
	n, err := strconv.ParseUint(pid, 16, 32)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
