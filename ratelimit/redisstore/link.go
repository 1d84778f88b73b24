package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

const (
	places   = 2  // pipelines under way at once
	batch    = 64 // calls in one pipeline
	queue    = 4096
	failures = 3 // pipelines in a row that fail, until no more mail is kept waiting

	// retryEvery is how long a server that failed is left alone.
	retryEvery = 200 * time.Millisecond
)

// errUnsent says that a call has certainly not reached the server, now or later.
var errUnsent = errors.New("not sent")

// A link leads to one master: the only Redis, the one that Sentinels name, or
// one of a Cluster. A few pipelines may be under way at once. Who finds one of
// these places free makes his call himself: to have another goroutine do it would
// cost a lone caller half as much again as the call. Who finds none waits in a
// queue, of which the next pipeline takes all, up to a batch.
type link struct {
	name    string // host and port, for operators
	client  *redis.Client
	timeout time.Duration
	places  chan struct{} // of pipelines that may begin
	jobs    chan *job
	running sync.WaitGroup // drains
	breaker *gobreaker.TwoStepCircuitBreaker[any]
	open    atomic.Bool // the breaker's state: nothing is sent, but for probes
	refuses atomic.Bool // it answers and takes nothing, until it takes a sign of life
	ready   atomic.Bool // it knows all that this node has accepted, and decides
	changed func(l *link)
	lost    chan struct{} // it is no longer ready

	// Of runLink: what operators know.
	said   bool   // that it is ready
	joined bool   // that it ever was
	warned string // of this policy

	started time.Time
	ahead   atomic.Int64 // the server's clock less the time since started, milliseconds; 0: not known

	mu      sync.Mutex
	caught  string        // the server that was told all but the arrears
	server  string        // which process with which data answers; see serverOf
	epoch   atomic.Int64  // counts the servers met
	trouble error         // why it failed last
	latency time.Duration // of the last heartbeat
	since   time.Time     // of the present state
	policy  string        // what the server does when its memory is full
	master  string        // a key prefix that lies on this master
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
		since: time.Now(), started: time.Now(), lost: make(chan struct{}, 1), said: true}
	l.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Timeout:     retryEvery,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failures },
		// Called with the breaker locked: it must not be asked anything here.
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

// unready has the node decide alone.
func (l *link) unready() {
	if !l.ready.Swap(false) {
		return
	}
	select {
	case l.lost <- struct{}{}:
	default:
	}
}

// do runs a call until the deadline at the longest. An error that is errUnsent
// says that it was not and will not be run; after any other it may have been,
// or may yet be.
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

// heard takes note of the server's time, which it has just told.
func (l *link) heard(at time.Time) {
	l.ahead.Store(at.UnixMilli() - time.Since(l.started).Milliseconds())
}

// timeIn is the server's time after a while, false if it was never told.
func (l *link) timeIn(d time.Duration) (time.Time, bool) {
	ahead := l.ahead.Load()
	return time.UnixMilli(ahead).Add(time.Since(l.started) + d), ahead != 0
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

// leave gives the place back, and sees to those who found none meanwhile.
func (l *link) leave() {
	l.places <- struct{}{}
	l.serve()
}

// serve has the calls in the queue made, if a place is free. Whoever puts one
// there and whoever leaves a place calls it afterwards, so that none is missed.
func (l *link) serve() {
	if len(l.jobs) > 0 && l.enter() {
		l.running.Go(l.drain)
	}
}

// drain takes calls from the queue, as many as wait, and makes them at once,
// until there are none.
func (l *link) drain() {
	defer l.leave()
	jobs := make([]*job, 0, batch)
	for {
		jobs = jobs[:0]
		for len(jobs) < batch && len(l.jobs) > 0 {
			select {
			case j := <-l.jobs:
				jobs = append(jobs, j)
			default: // another one was faster
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

// run runs calls at once, if the breaker lets it.
func (l *link) run(ctx context.Context, calls []call) ([]any, []error) {
	replies, errs := make([]any, len(calls)), make([]error, len(calls))
	done, err := l.breaker.Allow()
	if err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("ask %s: %w: %w", l.name, errUnsent, err)
		}
		return replies, errs
	}
	epoch := l.epoch.Load()
	l.exec(ctx, calls, replies, errs)
	done(l.failed(errs))
	if l.epoch.Load() != epoch {
		// What answered lacks what another server had been told.
		for i := range errs {
			errs[i] = fmt.Errorf("ask %s: it is another server now", l.name)
		}
	}
	return replies, errs
}

// runOne runs one call.
func (l *link) runOne(ctx context.Context, c call) (any, error) {
	replies, errs := l.run(ctx, []call{c})
	return replies[0], errs[0]
}

// failed returns the first error, and keeps it for operators.
func (l *link) failed(errs []error) error {
	for _, err := range errs {
		if err != nil {
			l.mu.Lock()
			l.trouble = err
			l.mu.Unlock()
			if refused(err) {
				l.refuses.Store(true)
				l.unready()
			}
			l.changed(l)
			return err
		}
	}
	return nil
}

// refused tells that a server takes no charge of anybody now. What only reads
// may work all the while, so that the breaker does not open for it.
func refused(err error) bool {
	return slices.ContainsFunc([]string{"OOM", "READONLY", "MISCONF", "NOREPLICAS", "NOAUTH", "NOPERM"},
		func(code string) bool { return redis.HasErrorPrefix(err, code) })
}

// exec sends calls, and those again for which the server lacked the script:
// a pipeline does not do that by itself.
func (l *link) exec(ctx context.Context, calls []call, replies []any, errs []error) {
	if len(calls) == 1 { // of a lone caller, who need not wait for what a pipeline takes
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
			if replies[i] == nil && errs[i] == nil { // no connection: the commands do not know
				errs[i] = cmp.Or(execErr, errReply)
			}
			if redis.HasErrorPrefix(errs[i], "NOSCRIPT") {
				missing = append(missing, i)
			} else if errs[i] != nil {
				errs[i] = l.worded(errs[i])
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
		return nil, l.worded(err)
	}
	return reply, nil
}

// worded says what failed. Who ran out of time first, the context or the connection, is
// all one to an operator.
func (l *link) worded(err error) error {
	var late interface{ Timeout() bool }
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("ask %s: timeout: no answer within %v: %w", l.name, l.timeout, err)
	}
	return fmt.Errorf("ask %s: %w", l.name, err)
}

// connected finds out who answers at the other end of a new connection.
func (l *link) connected(ctx context.Context, cn *redis.Conn) error {
	info, err := cn.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask for INFO: %w", err)
	}
	server, err := serverOf(info)
	if server == "" || err != nil {
		return err
	}
	l.mu.Lock()
	another := l.server != server
	l.server = server
	if another {
		l.unready()
		l.epoch.Add(1)
	}
	l.mu.Unlock()
	if another {
		l.changed(l)
	}
	return nil
}

// serverOf names a server by its process and by the history of its data, which
// gets a new name when a replica is promoted. A Sentinel has none.
func serverOf(info string) (string, error) {
	field := fieldsOf(info)
	if field["redis_mode"] == "sentinel" {
		return "", nil
	}
	if field["role"] != "master" {
		return "", errors.New("connect: the server is a replica, not a master")
	}
	if field["run_id"] == "" {
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
