package queue

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/envelope"
)

// NotExim says what to use on a node whose queue is not Exim's. With Sendmail -Q moves into its
// quarantine what -q selects, here by sender.
const NotExim = "only Exim's queue can be shown and cleaned; if this node's is Postfix's: postqueue -p, and postsuper -h or -d; " +
	"if it is Sendmail's: mailq, and sendmail -qSSENDER -QREASON (sluice stop works there too)"

// A Selection says which messages of the queue are meant: those for which all of it is true that
// is set.
type Selection struct {
	Scope       string        `json:"scope,omitempty"`      // who pays, or who has sent it, or of a bounce what it answers
	BouncesOf   string        `json:"bounces_of,omitempty"` // of a bounce likewise
	Sender      string        `json:"sender,omitempty"`     // a part of the envelope sender; behind a ~ a regular expression
	Recipient   string        `json:"recipient,omitempty"`  // likewise, of one that is left
	Subject     string        `json:"subject,omitempty"`    // likewise
	To          string        `json:"to,omitempty"`         // domain of a recipient that is left, or the host that has deferred mail for it
	ID          string        `json:"id,omitempty"`
	Queue       string        `json:"queue,omitempty"` // name of a queue of Exim
	Frozen      bool          `json:"frozen,omitempty"`
	Held        bool          `json:"held,omitempty"`
	Bounces     bool          `json:"bounces,omitempty"`
	Quarantined bool          `json:"quarantined,omitempty"` // false: only what is not
	Older       time.Duration `json:"older,omitempty"`       // nanoseconds, since it arrived
	Younger     time.Duration `json:"younger,omitempty"`
	Since       time.Time     `json:"since,omitzero"` // it arrived then or later
	Until       time.Time     `json:"until,omitzero"` // and before

	Top  int `json:"top"`  // payers, or messages of a list, at most
	List int `json:"list"` // 0: no list
}

// A Report is what is in the queue, of what was selected.
type Report struct {
	Node       string    `json:"node"`
	Now        time.Time `json:"now"`
	Swept      time.Time `json:"swept"` // as it was then
	Took       float64   `json:"took"`  // the sweep, in seconds
	Messages   int64     `json:"messages"`
	Recipients int64     `json:"recipients"`
	Unknown    int64     `json:"unknown"`   // messages whose header cannot be read: nothing else is known of them
	Uncounted  int64     `json:"uncounted"` // messages above queue.max, of which only that is known
	HeldKnown  bool      `json:"held_known"`
	Trouble    string    `json:"trouble"`
	Quarantine Aside     `json:"quarantine"` // in all, whatever was selected
	Payers     []Share   `json:"payers"`
	List       []Message `json:"list,omitempty"`
}

// An Aside is what is in the quarantine.
type Aside struct {
	Messages int64     `json:"messages"`
	Size     int64     `json:"size"`   // bytes of the bodies
	Oldest   time.Time `json:"oldest"` // when it arrived
}

// A Share is what of the queue one payer has.
type Share struct {
	Payer      string    `json:"payer"` // empty: mail from elsewhere, or bounces that nobody here has caused
	Messages   int64     `json:"messages"`
	Recipients int64     `json:"recipients"`
	Held       int64     `json:"held"` // messages
	Frozen     int64     `json:"frozen"`
	Bounces    int64     `json:"bounces"` // messages with a null sender
	Oldest     time.Time `json:"oldest"`
	Author     Most      `json:"author"`
	To         Most      `json:"destination"`
}

// Most is who has most messages.
type Most struct {
	Name     string `json:"name"`
	Messages int64  `json:"messages"`
}

// A Message is one in the queue.
type Message struct {
	ID         string     `json:"id"`
	Payer      string     `json:"payer"`
	Author     string     `json:"author"`
	Sender     string     `json:"sender"`
	Arrived    time.Time  `json:"arrived"`
	Recipients int64      `json:"recipients"`
	To         string     `json:"destination"`
	Size       int64      `json:"size"`
	Frozen     *time.Time `json:"frozen"`
	Held       int64      `json:"held"` // recipients
	Queue      string     `json:"queue"`
	Unknown    bool       `json:"unknown,omitempty"`
}

func (m *Message) bounce() bool { return m.Sender == "" && !m.Unknown }

// Report tells what is in the queue.
func (x *Index) Report(node string, now time.Time, s Selection) (Report, error) {
	f, err := s.compile(now)
	if err != nil {
		return Report{}, err
	}
	r := Report{Node: node, Now: now, HeldKnown: x.options.Held != nil, Payers: []Share{}}
	x.mu.Lock()
	r.Swept, r.Took, r.Uncounted = x.swept.at, x.swept.took.Seconds(), x.swept.more
	if x.swept.trouble != nil {
		r.Trouble = x.swept.trouble.Error()
	}
	x.mu.Unlock()
	shares := map[string]*counted{}
	x.each(&f, func(m *Message) {
		r.count(shares, m)
		if r.List = append(r.List, *m); len(r.List) > 2*s.List {
			r.List = oldest(r.List, s.List)
		}
	})
	r.List = oldest(r.List, s.List)
	r.Payers = sharesOf(shares)
	r.Payers = r.Payers[:min(len(r.Payers), s.Top)]
	x.each(&filter{Selection: Selection{Quarantined: true}}, r.Quarantine.add)
	return r, nil
}

func (a *Aside) add(m *Message) {
	a.Messages++
	a.Size += m.Size
	if a.Oldest.IsZero() || m.Arrived.Before(a.Oldest) {
		a.Oldest = m.Arrived
	}
}

// oldest are the n messages that came first.
func oldest(all []Message, n int) []Message {
	slices.SortFunc(all, func(a, b Message) int { return cmp.Or(a.Arrived.Compare(b.Arrived), cmp.Compare(a.ID, b.ID)) })
	return all[:min(len(all), n)]
}

// show is a message as operators see it. mu is held.
func (x *Index) show(k key, m message, held map[string]int) Message {
	one := Message{ID: k.id(), Payer: x.names.of(m.payer), Author: x.names.of(m.author), Sender: x.names.of(m.sender), To: x.names.of(m.to),
		Queue: x.names.of(m.queue), Recipients: int64(m.recipients), Size: int64(m.size), Unknown: m.unknown}
	one.Arrived, _ = envelope.IDTime(one.ID)
	one.Held = int64(held[one.ID])
	if m.frozen > 0 {
		one.Frozen = new(time.Unix(int64(m.frozen), 0))
	}
	return one
}

// count counts a message.
func (r *Report) count(shares map[string]*counted, m *Message) {
	r.Messages++
	r.Recipients += m.Recipients
	if m.Unknown {
		r.Unknown++
		return
	}
	c := shares[m.Payer]
	if c == nil {
		c = &counted{Share: Share{Payer: m.Payer}, authors: map[string]int64{}, to: map[string]int64{}}
		shares[m.Payer] = c
	}
	c.add(m)
}

// sharesOf are the shares, the largest first.
func sharesOf(counts map[string]*counted) []Share {
	all := make([]Share, 0, len(counts))
	for _, c := range counts {
		c.Author, c.To = most(c.authors), most(c.to)
		all = append(all, c.Share)
	}
	slices.SortFunc(all, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), strings.Compare(a.Payer, b.Payer))
	})
	return all
}

// counted is a Share that is being counted.
type counted struct {
	Share
	authors, to map[string]int64
}

func (c *counted) add(m *Message) {
	c.Messages++
	c.Recipients += m.Recipients
	if m.Held > 0 {
		c.Held++
	}
	if m.Frozen != nil {
		c.Frozen++
	}
	if m.bounce() {
		c.Bounces++
	}
	if c.Oldest.IsZero() || m.Arrived.Before(c.Oldest) {
		c.Oldest = m.Arrived
	}
	if m.Author != "" {
		c.authors[m.Author]++
	}
	if m.To != "" {
		c.to[m.To]++
	}
}

// most is who has most, the first by name of several.
func most(counts map[string]int64) (m Most) {
	for name, n := range counts {
		if n > m.Messages || n == m.Messages && name < m.Name {
			m = Most{name, n}
		}
	}
	return m
}
