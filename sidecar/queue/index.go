package queue

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
)

// An Index is what is known of each message in Exim's spool. A sweep brings it up to date: it
// lists all names, and reads the headers of what is new, and of what the log has told of since.
type Index struct {
	options  Options
	sweeping sync.Mutex       // held by who sweeps
	places   map[string]place // where the last sweeps have found held messages, by id; of who sweeps

	mu       sync.Mutex
	messages map[key]message
	names    names
	told     map[key]told // by the log, since the last sweep began
	ran      logline.Runs
	reasons  map[string]string // the last deferral that the log has of a destination
	hosts    map[string]string // the host that it was by, where the log names it
	sweep    uint8             // number of the last sweep that has begun
	swept    sweepResult
}

// Options are what an Index is made with; all are needed but Held, Gone and Watch.
type Options struct {
	Directory string // Exim's spool_directory
	Max       int    // messages of which more than their number is kept
	// Identify finds who pays for a message, and who has sent it.
	Identify func(*sidecar.Request) (sidecar.Payer, sidecar.Author)
	// Local reports whether mail for a domain is delivered on this host.
	Local func(domain string) bool
	// Held returns how many recipients of each message Sluice holds, by id, none of those whose
	// holds are set aside in the quarantine; nil: nobody knows.
	Held func() map[string]int
	// Gone is told of a held message that has left the spool without a line in the log, or of its
	// recipients that were marked as delivered; nil recipients are all. A sweep's readers may call it
	// at once. nil: nobody is told.
	Gone func(id string, recipients []string)
	// Watch is told what each sweep has found; nil: nobody is.
	Watch *Watch
}

// A message takes 56 bytes with its key. Texts are indexes into names. When it has arrived is
// in its id.
type message struct {
	payer, author, sender, to, queue uint32 // to is the domain that most of its recipients have
	recipients                       uint32 // that are left
	size                             uint32 // bytes of its body; at most what fits
	frozen                           uint32 // since when, in Unix seconds; 0: it is not
	read                             uint32 // when its header was read, in Unix seconds
	sweep                            uint8  // of the last sweep that has found it
	unknown                          bool   // its header cannot be read
}

// A told is what the log tells of a message that its header does not.
type told struct {
	payer, author string // of a bounce: those of the message that it answers; of another one, its own
	bounce        bool
	forward       string // the address by which an alias or list has sent it on
	to            string // and where to
}

// A sweepResult is what a sweep has found.
type sweepResult struct {
	at       time.Time // when it began; zero: there was none yet
	took     time.Duration
	names    time.Duration // of that, to list all names
	more     int64         // messages above Options.Max
	trouble  error         // why not all of the spool could be read
	fullScan time.Time     // when the last one that looked at each header began
}

// New returns an Index that knows nothing before its first Sweep.
func New(o Options) *Index {
	x := &Index{options: o, messages: map[key]message{}, names: newNames(), told: map[key]told{}, reasons: map[string]string{}, hosts: map[string]string{}}
	if o.Watch != nil {
		o.Watch.causes = x.reasonOf
	}
	return x
}

const (
	sweepEvery = time.Minute
	fullEvery  = 15 * time.Minute
	// idleFactor times as long as a sweep took passes at least before the next.
	idleFactor = 20
	// maxTold bounds what is kept of the log between two sweeps. Beyond it the next sweep looks
	// at each header.
	maxTold = 100_000
	// maxReasons bounds the destinations of which a deferral is remembered.
	maxReasons = 10_000
)

// Refresh sweeps, unless the last sweep was just now; how long that is depends on how long it took.
func (x *Index) Refresh(ctx context.Context, now time.Time) {
	x.mu.Lock()
	last := x.swept
	x.mu.Unlock()
	if now.Sub(last.at) >= max(time.Second, idleFactor*last.took) {
		x.Sweep(ctx, now, now.Sub(last.fullScan) >= fullEvery)
	}
}

// Sweep brings the index up to date. A full one looks at each header that has changed, and not
// only at those of which the log has told.
func (x *Index) Sweep(ctx context.Context, now time.Time, full bool) {
	x.sweeping.Lock()
	defer x.sweeping.Unlock()
	x.mu.Lock()
	x.sweep++
	log := x.told
	x.told = map[key]told{}
	full = full || len(log) >= maxTold
	x.mu.Unlock()

	s := &sweep{Index: x, ctx: ctx, log: log, full: full, began: time.Now()}
	s.lookForHeld()
	err := exim.WalkSpool(x.options.Directory, s.found)
	s.read()
	if ctx.Err() != nil {
		return
	}
	s.end(now, err)
	s.reportGone(err)
	if x.options.Watch != nil {
		x.options.Watch.swept(now, x, err)
	}
}

// Trouble is why not all of the spool could be read by the last sweep; nil if it could.
func (x *Index) Trouble() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.swept.trouble
}

// end puts in force what a sweep has found. err is why it could not read all.
func (s *sweep) end(now time.Time, err error) {
	x := s.Index
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		maps.DeleteFunc(x.messages, func(_ key, m message) bool { return m.sweep != x.sweep })
	}
	x.names.compact(x.messages)
	took := time.Since(s.began)
	x.swept = sweepResult{at: now, took: took, names: took - s.reading, more: s.more, trouble: err, fullScan: x.swept.fullScan}
	if s.full {
		x.swept.fullScan = now
	}
}

// A sweep is one that goes on.
type sweep struct {
	*Index
	ctx     context.Context
	log     map[key]told
	full    bool
	began   time.Time
	unread  []unread          // of which the headers are to be read
	held    map[string]int    // when it began, by message id; nil where nobody is told of what is gone
	foundIn map[string]string // the queues where it has found those, by id; nil likewise
	reading time.Duration
	more    int64
}

// An unread is a message whose header is to be read.
type unread struct {
	exim.SpoolFile
	key   key
	since uint32 // when it was read last; 0: never
}

// readTogether is how many headers are read at a time.
const readTogether = 2000

// found takes in the name of one message.
func (s *sweep) found(f exim.SpoolFile) bool {
	k, ok := keyOf(f.ID)
	if !ok {
		return true
	}
	if _, held := s.held[f.ID]; held {
		s.foundIn[f.ID] = f.Queue
	}
	s.mu.Lock()
	m, known := s.messages[k]
	_, told := s.log[k]
	moved := known && s.names.of(m.queue) != f.Queue // which does not change its file
	// What is held may be marked as delivered, of which no line tells.
	look := s.full || told || !known || m.unknown || moved || s.held[f.ID] > 0
	switch {
	case known:
		m.sweep = s.sweep
		s.messages[k] = m
	case len(s.messages)+len(s.unread) >= s.options.Max:
		look = false
		s.more++
	}
	s.mu.Unlock()
	if moved {
		m.read = 0
	}
	if look {
		s.unread = append(s.unread, unread{f, k, m.read})
	}
	if len(s.unread) >= readTogether {
		s.read()
	}
	return s.ctx.Err() == nil
}

// read reads the headers that are to be read.
func (s *sweep) read() {
	began := time.Now()
	const readers = 2
	var wait sync.WaitGroup
	for first := range readers {
		wait.Go(func() {
			for i := first; i < len(s.unread); i += readers {
				s.readOne(s.unread[i])
			}
		})
	}
	wait.Wait()
	s.unread = s.unread[:0]
	s.reading += time.Since(began)
}

// readOne reads a header, unless it is as it was when it was read last.
func (s *sweep) readOne(u unread) {
	if u.since > 0 {
		// It may have been written in the same second, after it was read.
		if changed, err := u.Changed(); err == nil && changed.Unix() < int64(u.since)-1 && s.log[u.key] == (told{}) {
			return
		}
	}
	h, err := u.Header()
	if errors.Is(err, fs.ErrNotExist) { // it has left meanwhile
		return
	}
	t := s.log[u.key]
	m := message{unknown: err != nil, read: seconds(time.Now())}
	payer, author, sender, to := "", "", "", ""
	if err == nil {
		payer, author = s.whose(&h, t)
		sender, to = cut(h.Sender), mostOften(h.Left)
		s.reportMarked(u.ID, &h)
		m.recipients, m.frozen, m.size = uint32(len(h.Left)), seconds(h.Frozen), uint32(min(u.BodySize(), math.MaxUint32))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, known := s.messages[u.key]; known && payer == "" && !old.unknown { // what the log has told of it before
		payer, author = s.names.of(old.payer), s.names.of(old.author)
	}
	m.payer, m.author, m.to = s.names.add(payer), s.names.add(author), s.names.add(to)
	m.sender, m.queue, m.sweep = s.names.add(sender), s.names.add(u.Queue), s.Index.sweep
	s.messages[u.key] = m
}

// maxName bounds a name that a sender has chosen, in bytes.
const maxName = 200

func cut(name string) string { return name[:min(len(name), maxName)] }

// seconds are the Unix seconds of a time, 0 of a zero one.
func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(t.Unix())
}

// whose finds who pays for a queued message, and who has sent it; both are empty for mail from
// elsewhere, unless the log has told who sends it on. A bounce is of whoever has sent what it
// answers, or else of the domain here that it goes to.
func (x *Index) whose(h *exim.SpoolHeader, t told) (payer, author string) {
	r := h.Request
	switch {
	case t.bounce && t.payer != "":
		return t.payer, t.author
	case t.forward != "":
		r.Stage, r.Recipient, r.Original = sidecar.StageRoute, t.to, t.forward
	case len(h.Left) > 0:
		if r.Recipient = h.Left[0]; !x.options.Local(envelope.DomainOf(r.Recipient)) {
			r.Stage = sidecar.StageRoute
		}
	}
	who, by := x.options.Identify(&r)
	if domain := envelope.DomainOf(r.Recipient); who.Class == sidecar.Nobody && t.forward == "" && x.options.Local(domain) {
		return domain, ""
	}
	return who.Subject(), by.Key
}

// mostOften is the domain that most of some addresses have, the first by name of several.
func mostOften(addresses []string) (domain string) {
	if len(addresses) == 1 {
		return cut(envelope.DomainOf(addresses[0]))
	}
	counts := map[string]int{}
	for _, a := range addresses {
		counts[cut(envelope.DomainOf(a))]++
	}
	for name, n := range counts {
		if most := counts[domain]; n > most || n == most && name < domain {
			domain = name
		}
	}
	return domain
}

// Observe takes in lines of the main log: what they tell of a message is in the index after the
// next Sweep, and what has left is out of it at once.
func (x *Index) Observe(entries []logline.Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		if e.Kind == logline.Ran {
			x.ran.Add(e)
		}
		k, ok := keyOf(e.ID)
		if !ok || e.Postfix {
			continue
		}
		switch {
		case e.Kind == logline.Completed:
			delete(x.messages, k)
			delete(x.told, k)
		case len(x.told) >= maxTold:
		case e.Kind == logline.Arrived:
			x.told[k] = x.arrived(e)
		case e.Kind == logline.Moved, e.IsOutcome():
			x.deferred(e)
			t := x.told[k]
			// What our router holds is redirected too, without an alias.
			if e.Kind == logline.Deferred && sendsOn(e, x.options.Local) {
				t.forward, t.to = strings.Clone(e.Original), strings.Clone(e.Recipient)
			}
			x.told[k] = t
		}
	}
}

// deferred remembers why mail for a destination waits. mu is held.
func (x *Index) deferred(e *logline.Entry) {
	if e.Kind != logline.Deferred || e.Text == "" {
		return
	}
	if len(x.reasons) >= maxReasons {
		clear(x.reasons)
		clear(x.hosts)
	}
	domain := cut(envelope.DomainOf(e.Recipient))
	x.reasons[domain] = strings.Clone(cut(e.Text))
	if e.Host != "" {
		x.hosts[domain] = strings.ToLower(cut(e.Host))
	}
}

// reasonOf is what the log has said last of a deferral by a destination; "" if nothing is known.
func (x *Index) reasonOf(destination string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.reasons[destination]
}

// arrived finds whose a message is that arrives: it may be answered by a bounce before the next
// sweep.
func (x *Index) arrived(e *logline.Entry) told {
	if e.Answers == "" {
		directory := e.Directory
		if e.Login != "" && directory == "" { // what a script has sent is its own, and not its account's
			ran, _ := x.ran.Claim(e)
			directory = ran.Directory
		}
		who, by := x.options.Identify(&sidecar.Request{Sender: e.Sender,
			Submitter: sidecar.Submitter{Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress, CWD: directory}})
		return told{payer: strings.Clone(who.Subject()), author: strings.Clone(by.Key)}
	}
	k, _ := keyOf(e.Answers)
	if t, found := x.told[k]; found && t.payer != "" {
		return told{bounce: true, payer: t.payer, author: t.author}
	}
	m := x.messages[k]
	return told{bounce: true, payer: x.names.of(m.payer), author: x.names.of(m.author)}
}

// Run sweeps until ctx is done.
func (x *Index) Run(ctx context.Context) error {
	if x.options.Watch != nil {
		defer x.options.Watch.save()
	}
	for {
		x.Refresh(ctx, time.Now())
		x.mu.Lock()
		pause := max(sweepEvery, idleFactor*x.swept.took)
		x.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
