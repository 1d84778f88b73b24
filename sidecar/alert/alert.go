package alert

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/incident"
)

// Shared is what nodes that share their counts know of each other's alerts. One node sends the
// notices about an incident that several have seen. *incident.Incidents is one.
type Shared interface {
	// Leads reports whether it is this node that sends notices about an incident.
	Leads(incident.ID) bool
	// LastNotified returns the last notice that any node has delivered on a channel; false if
	// only this node has seen the incident.
	LastNotified(i *incident.Incident, channel string) (incident.Notified, bool)
	// ShareNotified lets all nodes know of a notice that was delivered.
	ShareNotified(ctx context.Context, i *incident.Incident, channel string, t incident.Notified) error
}

// Options are what Alerts need; all but Shared are required.
type Options struct {
	Dir    string                // of the notices that are not delivered yet
	Node   string                // name of this node
	Config func() *config.Config // in force
	// Account returns the account that owns a domain; "" if none is known.
	Account func(domain string) string
	// Current returns an incident as it is now: its evidence grows without a call of Changed.
	Current func(incident.ID) (incident.Incident, bool)
	// Card is an incident as a picture, in characters.
	Card func(incident.Incident) string
	// Send delivers a notice; it returns when it is delivered, or why it is not. It ends soon
	// after ctx.
	Send   func(ctx context.Context, c config.Channel, n Notice) error
	Events event.Sink
	Shared Shared // nil: no node shares its counts with this one
}

// Alerts tell operators of incidents.
type Alerts struct {
	Options
	wake chan struct{} // has an element after an incident has changed

	mu    sync.Mutex
	inbox []*incident.Incident // changes that step has not seen yet
	acted []event.Event        // what operators have done, likewise

	// Of the goroutine of step.
	incidents map[incident.ID]*incident.Incident
	sorted    []named // the same: the most urgent first, then the oldest

	queuesMu sync.Mutex
	queues   map[string]*queue // by Channel.Key
}

// New returns Alerts. Run starts them.
func New(o Options) *Alerts {
	return &Alerts{Options: o, wake: make(chan struct{}, 1), incidents: map[incident.ID]*incident.Incident{}, queues: map[string]*queue{}}
}

// Changed records an incident that was opened, has changed or is over; see incident.Watch.
func (a *Alerts) Changed(i incident.Incident) {
	a.mu.Lock()
	a.inbox = append(a.inbox, &i)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// maxIncidents bounds the incidents that are kept here: of those that are over, the oldest go.
const maxIncidents = 2000

// A named incident has its name beside it, which is looked up each second.
type named struct {
	*incident.Incident
	name string
}

// receive applies the recorded changes, and reports whether there were any.
func (a *Alerts) receive() (changed bool) {
	a.mu.Lock()
	inbox := a.inbox
	a.inbox = nil
	a.mu.Unlock()
	if len(inbox) == 0 {
		return false
	}
	for _, i := range inbox {
		if known := a.incidents[i.ID]; known == nil || known.Revision <= i.Revision {
			a.incidents[i.ID] = i
		}
	}
	all := slices.SortedFunc(maps.Values(a.incidents), func(x, y *incident.Incident) int { return x.Opened.Compare(y.Opened) })
	for _, i := range all[:max(0, len(all)-maxIncidents)] {
		if !i.Open() || !a.leads(i.ID) {
			delete(a.incidents, i.ID)
		}
	}
	a.sorted = a.sorted[:0]
	for _, i := range a.incidents {
		a.sorted = append(a.sorted, named{i, i.ID.String()})
	}
	slices.SortFunc(a.sorted, func(x, y named) int {
		return cmp.Or(cmp.Compare(y.Severity, x.Severity), x.Opened.Compare(y.Opened), cmp.Compare(x.Number, y.Number))
	})
	return true
}

// Run sends notices until ctx is done.
func (a *Alerts) Run(ctx context.Context) error {
	var channels sync.WaitGroup
	defer channels.Wait()
	running := map[string]context.CancelFunc{}
	for {
		now := time.Now()
		a.step(now)
		a.Share(ctx)
		configured := map[string]bool{}
		for _, c := range a.Config().Alert.To {
			configured[c.Key()] = true
			if running[c.Key()] == nil {
				running[c.Key()] = a.start(ctx, c, &channels)
			}
		}
		for key, stop := range running {
			if !configured[key] {
				stop()
				delete(running, key)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-time.After(time.Second):
		}
	}
}

// start starts the goroutine of a channel; nil if that has no queue now.
func (a *Alerts) start(ctx context.Context, c config.Channel, channels *sync.WaitGroup) context.CancelFunc {
	a.queuesMu.Lock()
	q := a.queues[c.Key()]
	a.queuesMu.Unlock()
	if q == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	channels.Go(func() { q.run(ctx) })
	return stop
}

// step writes what is to be told now.
func (a *Alerts) step(now time.Time) {
	changed, acted := a.receive(), a.takeActions()
	set := a.Config().Alert
	for _, c := range set.To {
		r := rule{Channel: c, wait: set.GroupWait, repeat: set.Repeat, perHour: set.PerHour}
		q, err := a.queueOf(c, now)
		if err == nil {
			err = a.writeActions(q, now, &r, acted)
		}
		if err == nil {
			if c.Format != config.FormatAlertmanager {
				err = a.writeDue(q, now, &r)
			} else if changed || now.Sub(q.offer.at) >= postEvery {
				q.offer.at, err = now, a.offer(q, now, &r)
			}
		}
		if err != nil {
			a.Events.Emit(event.Event{Kind: event.NoticesFailed, Attrs: event.Attrs("channel", c.Name), Err: err})
		}
	}
}

// queueOf is the queue of a channel, with the channel as it is configured now.
func (a *Alerts) queueOf(c config.Channel, now time.Time) (*queue, error) {
	a.queuesMu.Lock()
	defer a.queuesMu.Unlock()
	q := a.queues[c.Key()]
	if q == nil {
		opened, err := openQueue(a.Dir, c, now)
		if opened == nil {
			return nil, err
		}
		q = opened
		q.send, q.events = a.Send, a.Events
		a.queues[c.Key()] = q
		if err != nil {
			a.Events.Emit(event.Event{Kind: event.NoticesFailed, Attrs: event.Attrs("channel", c.Name), Err: err})
		}
	}
	q.mu.Lock()
	q.channel = c
	q.mu.Unlock()
	return q, nil
}

// full reports whether there are as many notices as there may be.
func (a *Alerts) full() bool {
	n := int64(0)
	for _, c := range a.Counts() {
		n += c.Waiting
	}
	return n >= maxWaiting
}

// Counts returns what became of the notices of each channel that there is or was since the start.
func (a *Alerts) Counts() (all []Counts) {
	a.queuesMu.Lock()
	defer a.queuesMu.Unlock()
	for _, q := range a.queues {
		all = append(all, q.now())
	}
	slices.SortFunc(all, func(x, y Counts) int { return cmp.Compare(x.Channel, y.Channel) })
	return all
}

// A Result says what became of a test notice on one channel.
type Result struct {
	Channel string `json:"channel"` // its name
	Target  string `json:"target"`  // without secrets
	Error   string `json:"error"`   // why it was not delivered; empty if it was
}

// Tested is what became of a test on all channels that were meant.
type Tested struct {
	Channels []Result `json:"channels"`
}

// ErrNoChannel says that no channel has this name.
var ErrNoChannel = errors.New("there is no such channel")

// testPatience is how long a channel may take for a test: whoever has asked waits for ten seconds.
const testPatience = 8 * time.Second

// Test delivers a test notice now on the channel of a name, or on all for "".
func (a *Alerts) Test(ctx context.Context, now time.Time, name string) (Tested, error) {
	ctx, cancel := context.WithTimeout(ctx, testPatience)
	defer cancel()
	channels := slices.DeleteFunc(slices.Clone(a.Config().Alert.To), func(c config.Channel) bool { return name != "" && c.Name != name })
	if len(channels) == 0 && name != "" {
		return Tested{}, ErrNoChannel
	}
	all := make([]Result, len(channels))
	var tests sync.WaitGroup
	for i, c := range channels {
		all[i] = Result{Channel: c.Name, Target: c.Shown()}
		tests.Go(func() {
			if err := a.Send(ctx, c, testNotice(a.Node, now)); err != nil {
				all[i].Error = err.Error()
			}
		})
	}
	tests.Wait()
	return Tested{all}, nil
}
