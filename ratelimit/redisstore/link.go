package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	"sluice/ratelimit/redisurl"
)

const (
	places   = 2  // pipelines under way at once
	batch    = 64 // calls in one pipeline
	queue    = 4096
	failures = 3 // after so many failed pipelines in a row, calls fail at once

	// retryEvery is after how long a server that failed is tried again.
	retryEvery = 200 * time.Millisecond
)

// errUnsent means that a call has not reached the server and never will.
var errUnsent = errors.New("not sent")

// A link makes calls to one master: the only Redis, the one that Sentinels name, or
// one of a Cluster. A few pipelines may be under way at once. If one of these places is
// free, the caller makes its call itself, for handing it to another goroutine would
// take half as long again. Otherwise the call waits in a queue, and the next pipeline
// takes all that wait, up to a batch.
type link struct {
	name    string // host and port, for operators
	kind    redisurl.Kind
	client  *redis.Client
	timeout time.Duration
	places  chan struct{} // has an element for each pipeline that may begin
	jobs    chan *job
	running sync.WaitGroup // calls of drain that are under way
	breaker *gobreaker.TwoStepCircuitBreaker[any]
	changed func()        // called after a failure, or when another server answers
	lost    chan struct{} // has an element when it is no longer ready

	// keyFailed is called after an answer about the keys of a call; see aboutKey.
	keyFailed func(*link, error)
	called    func(time.Duration, error) // see Options.Called

	stalls  *stalls
	excuses atomic.Int32 // pipelines in a row that failed by stalls

	linkState
	serverClock
	announced
}

// A linkState is what is known of the server.
type linkState struct {
	open          atomic.Bool  // the breaker is not closed: only probes are sent
	refuses       atomic.Bool  // it answers and refuses to write, until a heartbeat succeeds
	ready         atomic.Bool  // it has all that the nodes have accepted, and decides
	serverChanges atomic.Int64 // how often another server has answered than the one before

	mu        sync.Mutex // guards the rest
	server    string     // the server that answers; see serverOf
	stage     stage
	lastError error
	latency   time.Duration // of the last heartbeat
	since     time.Time     // of the present state
	policy    string        // what the server does when its memory is full
	signed    bool          // this process has written a sign of life there
	badKey    error         // the last answer about a key that cannot be used
	badKeyAt  time.Time     // when it came
	master    string        // a key prefix that lies on this master
}

// announced is what was reported to operators, or is to be. Only runLink uses it.
type announced struct {
	replayedSends  int
	announcedReady bool
	announcedVague bool // why it does not decide was not known when that was reported
	everReady      bool
	warnedPolicy   string
}

// A serverClock continues the server's clock between its answers.
type serverClock struct {
	started     time.Time
	clockOffset atomic.Int64 // the server's clock less the time since started, milliseconds; 0: not known
}

// A job is a call in the queue.
type job struct {
	call  call
	state atomic.Int32
	done  chan struct{}
	reply any
	err   error
}

const (
	jobWaiting = iota
	jobSent
	jobGivenUp
)

func newLink(name string, timeout time.Duration) *link {
	l := &link{name: name, timeout: timeout, places: make(chan struct{}, places), jobs: make(chan *job, queue),
		lost: make(chan struct{}, 1), linkState: linkState{since: time.Now()}, serverClock: serverClock{started: time.Now()},
		announced: announced{announcedReady: true}}
	l.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Timeout:     retryEvery,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failures },
		IsExcluded:  func(err error) bool { return err == errStalled },
		// The breaker is locked during this call: no method of it may be called here.
		OnStateChange: func(_ string, _, to gobreaker.State) {
			l.open.Store(to != gobreaker.StateClosed)
			if to == gobreaker.StateOpen {
				l.unready()
			}
		},
	})
	for range places {
		l.places <- struct{}{}
	}
	return l
}

func (l *link) close() {
	l.running.Wait()
	l.client.Close()
}

// unready marks that the server no longer decides.
func (l *link) unready() {
	if l.ready.Swap(false) {
		signal(l.lost)
	}
}

// do makes a call, until the deadline at most. If the error is errUnsent, the server
// has not run it and never will; after any other error it may have, or may yet.
func (l *link) do(deadline time.Time, c call) (any, error) {
	if l.open.Load() {
		return nil, fmt.Errorf("ask %s: %w: it does not answer", l.name, errUnsent)
	}
	if len(l.jobs) == 0 && l.enter() {
		defer l.leave()
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		replies, errs := l.run(ctx, []call{c})
		return replies[0], errs[0]
	}
	j := &job{call: c, done: make(chan struct{})}
	select {
	case l.jobs <- j:
	default:
		return nil, fmt.Errorf("ask %s: %w: too many calls wait", l.name, errUnsent)
	}
	l.serve()
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case <-j.done:
		return j.reply, j.err
	case <-late.C:
	}
	if j.state.CompareAndSwap(jobWaiting, jobGivenUp) {
		return nil, fmt.Errorf("ask %s: %w: %w", l.name, errUnsent, context.DeadlineExceeded)
	}
	return nil, fmt.Errorf("ask %s: %w", l.name, context.DeadlineExceeded)
}

// observeTime sets the server's clock, from the time in an answer that has just come.
func (c *serverClock) observeTime(at time.Time) {
	c.clockOffset.Store(at.UnixMilli() - time.Since(c.started).Milliseconds())
}

// forgetTime is for another server, whose clock may be another one.
func (c *serverClock) forgetTime() { c.clockOffset.Store(0) }

// timeAt is the server's time at a time of this node, to within a millisecond, or earlier
// by what the answer took that it is known from; false if its clock is not known.
func (c *serverClock) timeAt(t time.Time) (time.Time, bool) {
	offset := c.clockOffset.Load()
	return time.UnixMilli(offset).Add(t.Sub(c.started)), offset != 0
}

// enter takes a place, if one is free.
func (l *link) enter() bool {
	select {
	case <-l.places:
		return true
	default:
		return false
	}
}

// leave gives the place back, and serves the queue.
func (l *link) leave() {
	l.places <- struct{}{}
	l.serve()
}

// serve has the calls in the queue made, if a place is free. It is called after each
// call is put there and after each place is given back, so that none is missed.
func (l *link) serve() {
	if len(l.jobs) > 0 && l.enter() {
		l.running.Go(l.drain)
	}
}

// drain makes the calls in the queue, all that wait in one pipeline, until there are
// none.
func (l *link) drain() {
	defer l.leave()
	jobs := make([]*job, 0, batch)
	for {
		jobs = jobs[:0]
		for len(jobs) < batch && len(l.jobs) > 0 {
			select {
			case j := <-l.jobs:
				jobs = append(jobs, j)
			default: // another goroutine has taken it
			}
		}
		if len(jobs) == 0 {
			return
		}
		l.runJobs(jobs)
	}
}

func (l *link) runJobs(jobs []*job) {
	n, calls := 0, make([]call, 0, len(jobs))
	for _, j := range jobs {
		if j.state.CompareAndSwap(jobWaiting, jobSent) {
			jobs[n], n = j, n+1
			calls = append(calls, j.call)
		}
	}
	if n == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	replies, errs := l.run(ctx, calls)
	for i, j := range jobs[:n] {
		j.reply, j.err = replies[i], errs[i]
		close(j.done)
	}
}

// run makes calls in one pipeline, if the breaker allows it.
func (l *link) run(ctx context.Context, calls []call) ([]any, []error) {
	replies, errs := make([]any, len(calls)), make([]error, len(calls))
	done, err := l.breaker.Allow()
	if err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("ask %s: %w: %w", l.name, errUnsent, err)
		}
		return replies, errs
	}
	epoch := l.serverChanges.Load()
	began := time.Now()
	l.exec(ctx, calls, replies, errs)
	failure := l.failure(errs)
	if l.called != nil {
		l.called(time.Since(began), failure)
	}
	done(failure)
	if l.serverChanges.Load() != epoch {
		// The server that answered may lack what the one before had.
		for i := range errs {
			errs[i] = fmt.Errorf("ask %s: it is another server now", l.name)
		}
	}
	return replies, errs
}

// runOne makes one call.
func (l *link) runOne(ctx context.Context, c call) (any, error) {
	replies, errs := l.run(ctx, []call{c})
	return replies[0], errs[0]
}

// failure returns the first error that is about the server, and keeps it for operators. It
// is errStalled if it says nothing against the server.
func (l *link) failure(errs []error) error {
	for _, err := range errs {
		switch {
		case err == nil:
			if l.excuses.Load() > 0 {
				l.excuses.Store(0)
			}
			continue
		case l.aboutKey(err):
			l.keyFailed(l, err)
			continue
		}
		l.mu.Lock()
		l.lastError = err
		l.mu.Unlock()
		if refused(err) {
			l.refuses.Store(true)
			l.unready()
		}
		l.changed()
		if l.excused(err) {
			return errStalled
		}
		return err
	}
	return nil
}

// refused reports whether a server refuses all writes now. Reads may still succeed, so
// that the breaker would not open.
func refused(err error) bool {
	return beginsWith(err, "OOM", "READONLY", "MISCONF", "NOREPLICAS", "NOAUTH", "NOPERM")
}

// exec sends calls, and again those for which the server lacked the script: in a
// pipeline, go-redis does not do that.
func (l *link) exec(ctx context.Context, calls []call, replies []any, errs []error) {
	if len(calls) == 1 { // faster without a pipeline
		replies[0], errs[0] = l.execOne(ctx, &calls[0])
		return
	}
	todo := make([]int, len(calls))
	for i := range todo {
		todo[i] = i
	}
	for again := range 2 {
		pipe := l.client.Pipeline()
		cmds := make([]*redis.Cmd, len(todo))
		loaded := map[string]bool{}
		for k, i := range todo {
			c := &calls[i]
			if again > 0 && !loaded[c.sha] {
				pipe.ScriptLoad(ctx, c.source)
				loaded[c.sha] = true
			}
			cmds[k] = pipe.EvalSha(ctx, c.sha, c.keys, c.args...)
		}
		_, execErr := pipe.Exec(ctx)
		var missing []int
		for k, i := range todo {
			replies[i], errs[i] = cmds[k].Result()
			if replies[i] == nil && errs[i] == nil { // no connection: the commands have no error
				errs[i] = cmp.Or(execErr, errReply)
			}
			if redis.HasErrorPrefix(errs[i], "NOSCRIPT") {
				missing = append(missing, i)
			} else if errs[i] != nil {
				errs[i] = l.explain(&calls[i], errs[i])
			}
		}
		if todo = missing; len(todo) == 0 {
			return
		}
	}
}

// execOne sends one call.
func (l *link) execOne(ctx context.Context, c *call) (any, error) {
	reply, err := l.client.EvalSha(ctx, c.sha, c.keys, c.args...).Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = l.client.Eval(ctx, c.source, c.keys, c.args...).Result()
	}
	if err != nil {
		return nil, l.explain(c, err)
	}
	return reply, nil
}

// askError is the error of a server that was asked, for the first time perhaps. To an
// operator a timeout of the context and one of the connection are the same.
func askError(server string, timeout time.Duration, first bool, err error) error {
	var late interface{ Timeout() bool }
	switch {
	case errors.As(err, &late) && late.Timeout():
		return fmt.Errorf("ask %s: timeout: no answer within %v: %w", server, timeout, err)
	case first && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return fmt.Errorf("ask %s: it closes connections at once (does that port want TLS or a client certificate, or has it too many clients?): %w", server, err)
	}
	return fmt.Errorf("ask %s: %w", server, err)
}

// connected finds out which server is at the other end of a new connection.
func (l *link) connected(ctx context.Context, cn *redis.Conn) error {
	info, err := cn.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask for INFO: %w", err)
	}
	server, err := serverOf(info, l.kind)
	if server == "" || err != nil {
		return err
	}
	l.mu.Lock()
	another, first := l.server != server, l.server == ""
	if another {
		l.server, l.stage, l.signed, l.lastError = server, unmet, false, nil
		l.unready()
		l.forgetTime()
		if !first {
			l.serverChanges.Add(1)
		}
	}
	l.mu.Unlock()
	if another {
		l.changed()
	}
	return nil
}

// emptied takes that the server which answers has lost what it was told, as after FLUSHALL: it
// is treated like another one.
func (l *link) emptied() {
	l.mu.Lock()
	l.stage = unmet
	l.unready()
	l.forgetTime()
	l.serverChanges.Add(1)
	l.mu.Unlock()
	l.changed()
}

// serverOf identifies a server by its process (run_id) and by its replication history
// (master_replid), which changes when a replica is promoted. A Sentinel's is "". A server
// of another kind than the URL says is an error.
func serverOf(info string, kind redisurl.Kind) (string, error) {
	field := fieldsOf(info)
	mode := cmp.Or(field["redis_mode"], field["server_mode"]) // the latter is Valkey's
	switch {
	case mode == "sentinel" && kind == redisurl.Sentinel:
		return "", nil
	case mode == "sentinel":
		return "", errors.New("connect: a Sentinel answers there: write redis-sentinel://HOST,HOST/MASTER")
	case mode == "cluster" && kind != redisurl.Cluster:
		return "", errors.New("connect: the server is one of a Redis Cluster: write redis-cluster://HOST,HOST")
	case field["role"] != "master":
		return "", errors.New("connect: the server is a replica, not a master")
	case field["run_id"] == "":
		return "", errors.New("connect: the server does not tell its run_id")
	}
	return field["run_id"] + "/" + field["master_replid"], nil
}

// fieldsOf reads what INFO answers.
func fieldsOf(info string) map[string]string {
	field := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		field[name] = value
	}
	return field
}
