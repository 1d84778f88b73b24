package web

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/sidecar/operator"
)

// A sample is the state of the node at one scrape.
type sample struct {
	operator.Measures
	found
	now     time.Time
	version string
	ready   []part
	notices []Notices
	queue   map[string]Waiting
}

// A row is a metric that is worked out from a sample. Its labels have values that are known
// beforehand, or names that operators have written: never what a sender chooses.
type row struct {
	kind   prometheus.ValueType
	name   string
	help   string
	labels []string
	values func(s *sample, emit emitFunc)
}

// An emitFunc takes a value of a row, with the values of its labels.
type emitFunc func(v float64, labels ...string)

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// one is the value of a row without labels.
func one[T int | int64](of func(*sample) T) func(*sample, emitFunc) {
	return func(s *sample, emit emitFunc) { emit(float64(of(s))) }
}

// rows are all metrics that are worked out at a scrape. To add one is one line.
var rows = []row{
	{counter, "sluice_sends_total", "Recipients, by what was decided; those of watched are in accepted too, and late ones were charged from the log.", []string{"result"}, sends},
	{counter, "sluice_refusals_total", "Recipients that were refused or held, by reason. A client that tries again counts again.", []string{"reason"}, byName(func(s *sample) map[string]int64 { return s.Refusals })},
	{gauge, "sluice_domains", "Domains that have sent something in the window of hourly limits.", nil, one(func(s *sample) int { return s.domains })},
	{gauge, "sluice_domains_over", "Domains that have used so many percent of a limit, of the last 10 seconds.", []string{"threshold"}, over},
	{gauge, "sluice_locks", "Lock files, by kind.", []string{"kind"}, byName(func(s *sample) map[string]int64 { return names(s.LockFiles) })},
	{gauge, "sluice_stops", "Authors and accounts that are stopped, by cause.", []string{"cause"}, byName(func(s *sample) map[string]int64 { return names(s.StopsBy) })},
	{gauge, "sluice_incidents", "Incidents that are open, by the worst that they were.", []string{"severity"}, byName(func(s *sample) map[string]int64 { return names(s.Open) })},
	{gauge, "sluice_held_recipients", "Recipients that the router holds in Exim's queue.", nil, one(func(s *sample) int64 { return s.Held })},
	{gauge, "sluice_queue_messages", "Messages in Exim's queue at the last look, by state.", []string{"state"}, queue(func(_ time.Time, w Waiting) float64 { return float64(w.Messages) })},
	{gauge, "sluice_queue_oldest_seconds", "For how long the oldest message of a state has waited; 0: there is none.", []string{"state"}, queue(oldest)},
	{counter, "sluice_notices_total", "Attempts to deliver a notice of an incident, by what became of it; dropped ones are given up.", []string{"channel", "result"}, notices},
	{gauge, "sluice_notices_waiting", "Notices of incidents that are not delivered yet.", []string{"channel"}, func(s *sample, emit emitFunc) {
		for _, n := range s.notices {
			emit(float64(n.Waiting), n.Channel)
		}
	}},
	{gauge, "sluice_log_behind_bytes", "Bytes of the mail server's log that are not read yet.", []string{"log"}, behind},
	{gauge, "sluice_store_mode", "1 for how sends are counted now: embedded, shared by nodes, or alone in a mode of store.outage.", []string{"mode"}, mode},
	{gauge, "sluice_ledger_sends", "Sends that are kept.", nil, one(func(s *sample) int64 { return s.Sends })},
	{gauge, "sluice_ledger_subjects", "Domains, mailboxes and accounts that are counted.", nil, one(func(s *sample) int64 { return s.Subjects })},
	{gauge, "sluice_who_authors", "Authors of whom it is known what they send.", nil, one(func(s *sample) int { return s.Who.Authors })},
	{gauge, "sluice_who_unattributed", "Sends in the window of hourly limits of which no author is known, of the last 10 seconds; up to a sixth of a window too few.", nil, one(func(s *sample) int64 { return s.unattributed })},
	{gauge, "sluice_who_memory_bytes", "Memory for what is known of who sends; see who.memory.", nil, one(func(s *sample) int64 { return s.Who.Memory })},
	{counter, "sluice_who_forgotten_total", "Domains of which names were forgotten because who.memory was full.", nil, one(func(s *sample) int64 { return s.Who.Dropped })},
	{gauge, "sluice_limit_overshoot_sends", "The most by which an accepted charge was beyond a limit since the start, by the store's own count. Must be 0, unless store.outage lets nodes exceed it.", nil, one(func(s *sample) int64 { return s.Overshoot })},
	{gauge, "sluice_ready", "1 where a part is ready, as /readyz says in words.", []string{"part"}, ready},
	{gauge, "sluice_time_seconds", "When these values were read, in Unix seconds. An old file of node_exporter has an old time.", nil, func(s *sample, emit emitFunc) { emit(float64(s.now.UnixMilli()) / 1000) }},
	{gauge, "sluice_build_info", "1, with the version.", []string{"version"}, func(s *sample, emit emitFunc) { emit(1, s.version) }},
	{gauge, "sluice_top_sends", "Sends in the window of the busiest domains that the configuration, a panel or the owner map names, of the last 10 seconds; see metrics.top.", []string{"domain"}, busiest},
}

func sends(s *sample, emit emitFunc) {
	refused := -s.HeldEver
	for _, n := range s.Measures.Refusals {
		refused += n
	}
	emit(float64(s.Accepted), "accepted")
	emit(float64(refused), "refused")
	emit(float64(s.HeldEver), "held")
	emit(float64(s.Watched), "watched")
	emit(float64(s.Exempt), "exempt")
	emit(float64(s.Uncounted), "uncounted")
	emit(float64(s.Late), "late")
}

// names makes strings of the keys.
func names[K ~string](of map[K]int) map[string]int64 {
	all := make(map[string]int64, len(of))
	for k, n := range of {
		all[string(k)] = int64(n)
	}
	return all
}

// byName is a value for each name.
func byName(of func(*sample) map[string]int64) func(*sample, emitFunc) {
	return func(s *sample, emit emitFunc) {
		for name, n := range of(s) {
			emit(float64(n), name)
		}
	}
}

// queue is a value for each state of messages.
func queue(of func(now time.Time, w Waiting) float64) func(*sample, emitFunc) {
	return func(s *sample, emit emitFunc) {
		for state, w := range s.queue {
			emit(of(s.now, w), state)
		}
	}
}

func oldest(now time.Time, w Waiting) float64 {
	if w.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(w.Oldest).Truncate(time.Second).Seconds())
}

func notices(s *sample, emit emitFunc) {
	for _, n := range s.notices {
		emit(float64(n.Delivered), n.Channel, "delivered")
		emit(float64(n.Failed), n.Channel, "failed")
		emit(float64(n.Dropped), n.Channel, "dropped")
	}
}

func over(s *sample, emit emitFunc) {
	for i, t := range thresholds {
		emit(float64(s.over[i]), t.label)
	}
}

func behind(s *sample, emit emitFunc) {
	for _, l := range s.Logs {
		label, _, _ := strings.Cut(l.Key, ".") // exim.mainlog, postfix.log
		emit(float64(max(0, l.Size-l.Read)), label)
	}
}

// mode has all modes, so that one that was never there can be asked for.
func mode(s *sample, emit emitFunc) {
	now := "embedded"
	if s.Shared != nil {
		now = s.Shared.Mode
	}
	for _, m := range []string{"embedded", "shared", "share", "local", "open", "closed"} {
		emit(truth(m == now), m)
	}
}

func ready(s *sample, emit emitFunc) {
	for _, p := range s.ready {
		emit(truth(p.Trouble == ""), p.Name)
	}
}

func busiest(s *sample, emit emitFunc) {
	for _, t := range s.top {
		emit(float64(t.sent), t.domain)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// A rowCollector works out all rows from one sample.
type rowCollector struct{ metrics *Metrics }

// Describe implements prometheus.Collector.
func (c rowCollector) Describe(to chan<- *prometheus.Desc) {
	for _, r := range rows {
		to <- prometheus.NewDesc(r.name, r.help, r.labels, nil)
	}
}

// Collect implements prometheus.Collector.
func (c rowCollector) Collect(to chan<- prometheus.Metric) {
	s := c.metrics.sample(time.Now())
	for _, r := range rows {
		desc := prometheus.NewDesc(r.name, r.help, r.labels, nil)
		r.values(&s, func(v float64, labels ...string) { to <- prometheus.MustNewConstMetric(desc, r.kind, v, labels...) })
	}
}

// sample reads the state of the node.
func (m *Metrics) sample(now time.Time) sample {
	s := sample{Measures: m.options.Measures(now), found: m.survey.last(), now: now, version: m.options.Version,
		notices: m.options.Notices(), queue: m.options.Queue()}
	s.ready = m.parts(now, &s.Measures)
	return s
}
