package web

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/settings"
)

// Options are what Metrics are made with; all are needed.
type Options struct {
	Measures func(now time.Time) operator.Measures
	Settings func() *settings.Settings
	Notices  func() []Notices          // of all channels
	Queue    func() map[string]Waiting // by state; nil: it is not known, or there is no Exim
	// Attributed is how many sends of a subject in the window have a known author, or up to a sixth more.
	Attributed func(now time.Time, subject string) int64
	Version    string
	Top        int       // of how many domains sluice_top_sends tells
	Now        time.Time // of the start
}

// Notices is what became of the notices of one channel since the start.
type Notices struct {
	Channel                    string // its name in the configuration
	Delivered, Failed, Dropped int64
	Waiting                    int64 // now
}

// Waiting is what waits in the mail server's queue in one state.
type Waiting struct {
	Messages int64
	Oldest   time.Time // when the first of them arrived; zero: there are none
}

// Metrics are counters of what passes by, and show these and the state of the node. What
// happens for each question is an atomic counter or two, which nobody waits for.
type Metrics struct {
	registry *prometheus.Registry
	options  Options

	questions [len(stages)][len(answers)]prometheus.Counter
	durations [len(stages)]prometheus.Observer // by front
	asked     atomic.Int64                     // when a mail server has asked last, Unix seconds; 0: not since the start

	events   map[event.Kind]prometheus.Counter // of all that the log has; it does not change
	outcomes map[outcome]prometheus.Counter    // of all that there are; it does not change
	lines    *prometheus.CounterVec

	redisDuration prometheus.Histogram
	redisErrors   prometheus.Counter

	survey survey
}

// stages are all stages, with the labels of each.
var stages = [...]struct {
	stage       sidecar.Stage
	front, name string
}{
	{sidecar.StageRcpt, "exim", "rcpt"},
	{sidecar.StageData, "exim", "data"},
	{sidecar.StageLocal, "exim", "local"},
	{sidecar.StageRoute, "exim", "route"},
	{sidecar.StagePostfixRcpt, "postfix", "rcpt"},
	{sidecar.StagePostfixEnd, "postfix", "end"},
	{sidecar.StageMilterRcpt, "milter", "rcpt"},
	{sidecar.StageMilterEnd, "milter", "end"},
}

// answers are the labels of all actions, in their order.
var answers = [...]string{sidecar.Accept: "accept", sidecar.Defer: "defer", sidecar.Reject: "reject", sidecar.Discard: "discard"}

// An outcome is one of those that sluice_outcomes_total counts.
type outcome struct {
	result ratelimit.Outcome
	cause  sidecar.Cause // empty for a delivery
}

// results are the labels of outcomes.
var results = map[ratelimit.Outcome]string{ratelimit.Delivered: "delivered", ratelimit.Deferred: "deferred", ratelimit.Failed: "failed"}

// entryKinds are the labels of sluice_log_lines_total; other kinds are "other".
var entryKinds = map[logline.Kind]string{logline.Arrived: "arrived", logline.Delivered: "delivered", logline.Deferred: "deferred",
	logline.Failed: "failed", logline.Completed: "completed"}

// questionBuckets and redisBuckets are in seconds. Exim waits 300 ms for an answer, and a
// node 50 ms for Redis unless store.timeout says otherwise.
var (
	questionBuckets = []float64{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.3}
	redisBuckets    = []float64{100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1}
)

// New returns Metrics in a registry of their own.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), options: o, events: map[event.Kind]prometheus.Counter{}, outcomes: map[outcome]prometheus.Counter{}}
	questions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_questions_total", Help: "Questions of mail servers, by answer."}, []string{"front", "stage", "answer"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_question_duration_seconds", Buckets: questionBuckets,
		Help: "How long the answer to a question took, without the connection."}, []string{"front"})
	for i, s := range stages {
		m.durations[i] = durations.WithLabelValues(s.front)
		for j, answer := range answers {
			m.questions[i][j] = questions.WithLabelValues(s.front, s.name, answer)
		}
	}
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_outcomes_total", Help: "What became of sends, from the log. Each attempt that changes it counts."}, []string{"outcome", "cause"})
	m.outcomes[outcome{result: ratelimit.Delivered}] = outcomes.WithLabelValues(results[ratelimit.Delivered], "none")
	for _, result := range []ratelimit.Outcome{ratelimit.Deferred, ratelimit.Failed} {
		for _, cause := range sidecar.Causes() {
			m.outcomes[outcome{result, cause}] = outcomes.WithLabelValues(results[result], string(cause))
		}
	}
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_events_total", Help: "Events that operators see in the log, by SLUICE_EVENT."}, []string{"event", "level"})
	for _, k := range event.Kinds() {
		if m.Enabled(k) {
			m.events[k] = events.WithLabelValues(string(k), strings.ToLower(k.Level().String()))
		}
	}
	m.lines = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_log_lines_total", Help: "Lines of the mail server's log that were read and matter."}, []string{"log", "kind"})
	m.redisDuration = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_redis_duration_seconds", Buckets: redisBuckets, Help: "How long calls of Redis took."})
	m.redisErrors = prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_redis_errors_total", Help: "Calls of Redis that failed."})
	m.registry.MustRegister(questions, durations, outcomes, events, m.lines, m.redisDuration, m.redisErrors, rowCollector{m})
	return m
}

// Enabled implements event.Sink: what only the debug log has is counted elsewhere.
func (m *Metrics) Enabled(k event.Kind) bool { return k.Level() >= slog.LevelInfo }

// Emit implements event.Sink.
func (m *Metrics) Emit(e event.Event) {
	if c := m.events[e.Kind]; c != nil {
		c.Inc()
	}
}

// Recorded implements delivery.Observer.
func (m *Metrics) Recorded(_ time.Time, news []logline.Outcome) {
	for i := range news {
		if c := m.outcomes[outcome{news[i].Result.Kind(), news[i].Cause}]; c != nil {
			c.Inc()
		}
	}
}

// Read counts entries of a log, which label names. It is called with many at once.
func (m *Metrics) Read(label string, entries []logline.Entry) {
	var n [256]int
	for i := range entries {
		n[entries[i].Kind]++
	}
	for kind, n := range n {
		if n == 0 {
			continue
		}
		name, ok := entryKinds[logline.Kind(kind)]
		if !ok {
			name = "other"
		}
		m.lines.WithLabelValues(label, name).Add(float64(n))
	}
}

// CalledRedis counts a call of Redis.
func (m *Metrics) CalledRedis(took time.Duration, err error) {
	m.redisDuration.Observe(took.Seconds())
	if err != nil {
		m.redisErrors.Inc()
	}
}

// An Asker decides questions.
type Asker interface {
	Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply
}

// Asker returns an Asker that counts the questions which it passes on.
func (m *Metrics) Asker(next Asker) Asker { return countingAsker{next, m} }

type countingAsker struct {
	next    Asker
	metrics *Metrics
}

// Ask implements Asker.
func (a countingAsker) Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply {
	reply := a.next.Ask(ctx, now, r)
	a.metrics.answered(now, &r, reply.Action)
	return reply
}

// Watchdog is the sender of the questions that sluice asks itself.
const Watchdog = "watchdog@sluice.invalid"

// answered counts a question that was read at a time, and is answered now.
func (m *Metrics) answered(read time.Time, r *sidecar.Request, a sidecar.Action) {
	for i := range stages {
		if stages[i].stage == r.Stage {
			m.durations[i].Observe(time.Since(read).Seconds())
			m.questions[i][a].Inc()
			break
		}
	}
	if at := read.Unix(); r.Sender != Watchdog && m.asked.Load() != at {
		m.asked.Store(at)
	}
}
