// Package mainlogtest makes main logs like those of a busy host with many tenants, for
// tests: outgoing mail, of which some is deferred and some fails, incoming mail, and what
// strangers try. It owns the state of each Log, with the true counts by domain. It asks
// nobody. It tells its caller each line, and in Log.Truth what should be counted.
package mainlogtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Counts are the outcomes of the sends of one domain.
type Counts struct{ Sent, Delivered, Deferred, Failed int64 }

// A Log makes the lines of a main log, message after message.
type Log struct {
	Truth map[string]Counts // by sender domain

	random  *rand.Rand
	domains int
	start   time.Time
	every   time.Duration
	n       int
	retries []retry
	waiting map[string]int // recipients by message id
	lines   []string
}

// A retry is a deferred recipient that gets its message later.
type retry struct {
	due    int // at which message
	id, to string
	domain string
}

// New returns a Log of messages from that many sender domains, which begins at start and
// has a message each every. The same seed makes the same log.
func New(seed uint64, domains int, start time.Time, every time.Duration) *Log {
	return &Log{Truth: map[string]Counts{}, random: rand.New(rand.NewPCG(seed, 1)), domains: domains, start: start, every: every, waiting: map[string]int{}}
}

// Next returns the lines of the next message, and of what else happens meanwhile, with
// their line ends. The result is valid until the next call.
func (l *Log) Next() []string {
	l.lines = l.lines[:0]
	l.n++
	now := l.start.Add(time.Duration(l.n) * l.every)
	l.out(now)
	if l.random.IntN(10) < 6 {
		l.in(now)
	}
	l.world(now)
	l.retry(now)
	return l.lines
}

// out adds a message of one of the domains, to one recipient or a few.
func (l *Log) out(now time.Time) {
	domain := fmt.Sprintf("d%d.example", l.random.IntN(l.domains))
	id := ID(now, l.n)
	l.add(now, id, "<= news@%s H=(client.%s) [192.0.2.%d] P=esmtpsa X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=no A=plain_login:news@%s S=%d id=%x@%s",
		domain, domain, 1+l.n%250, domain, 900+l.random.IntN(9000), l.random.Uint64(), domain)
	recipients := 1
	for recipients < 5 && l.random.IntN(3) == 0 {
		recipients++
	}
	c := l.Truth[domain]
	for i := range recipients {
		if l.recipient(now, id, domain, fmt.Sprintf("u%d.%d@r%d.test", l.n, i, l.random.IntN(500)), &c) {
			l.waiting[id]++
		}
	}
	l.Truth[domain] = c
	if l.waiting[id] == 0 {
		l.add(now, id, "Completed")
	}
}

// recipient delivers to one recipient, or defers or fails, and reports whether it is to be
// retried.
func (l *Log) recipient(now time.Time, id, domain, to string, c *Counts) (waiting bool) {
	_, host, _ := strings.Cut(to, "@")
	via := fmt.Sprintf("R=dnslookup T=remote_smtp H=mx.%s [198.51.100.7]", host)
	roll := l.random.IntN(100)
	if roll < 4 {
		l.add(now, id, "=> bob%d <bob%d@here.example> R=local_user T=maildir_home", l.n, l.n)
		return false
	}
	c.Sent++
	switch {
	case roll < 8:
		c.Failed++
		l.add(now, id, "** %s %s: SMTP error from remote mail server after RCPT TO:<%s>: 550 5.1.1 <%s>: no such user", to, via, to, to)
	case roll < 10:
		c.Deferred++
		l.add(now, id, "== %s R=dnslookup T=remote_smtp defer (111): Connection refused", to)
		return true
	case roll < 18:
		c.Deferred++
		l.add(now, id, "== %s R=dnslookup T=remote_smtp defer (-44) H=mx.%s [198.51.100.7]: SMTP error from remote mail server after RCPT TO:<%s>: 450 4.2.0 greylisted, try again later", to, host, to)
		l.retries = append(l.retries, retry{l.n + 200, id, to, domain})
		return true
	default:
		c.Delivered++
		l.add(now, id, "=> %s %s X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=yes C=\"250 2.0.0 Ok: queued as %X\"", to, via, l.random.Uint32())
	}
	return false
}

// in adds a message from elsewhere to somebody here, of which nothing counts.
func (l *Log) in(now time.Time) {
	n := l.random.IntN(5000)
	id := ID(now, l.n+1<<28)
	l.add(now, id, "<= who%d@w%d.test H=out%d.w%d.test [203.0.113.%d] P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S=%d id=%x@w%d.test",
		n, n%700, n%3, n%700, n%250, 2000+l.random.IntN(50000), l.random.Uint64(), n%700)
	l.add(now, id, "=> bob%d <bob%d@here.example> R=local_user T=maildir_home", n, n)
	l.add(now, id, "Completed")
}

// world adds what clients do that send nothing.
func (l *Log) world(now time.Time) {
	n := l.random.IntN(60000)
	line := now.Format("2006-01-02 15:04:05 ")
	switch l.random.IntN(5) {
	case 0:
		line += fmt.Sprintf("H=(win-%X) [203.0.113.%d] F=<spam%d@w%d.test> rejected RCPT <info@d%d.example>: relay not permitted", n, n%250, n, n%900, n%l.domains)
	case 1:
		line += fmt.Sprintf("plain_login authenticator failed for (localhost) [203.0.113.%d]: 535 Incorrect authentication data (set_id=news@d%d.example)", n%250, n%l.domains)
	case 2:
		line += fmt.Sprintf("no host name found for IP address 203.0.113.%d", n%250)
	case 3:
		line += fmt.Sprintf("SMTP connection from [203.0.113.%d] lost D=%ds", n%250, n%60)
	default:
		return
	}
	l.lines = append(l.lines, line+"\n")
}

// retry delivers what was greylisted for long enough.
func (l *Log) retry(now time.Time) {
	for len(l.retries) > 0 && l.retries[0].due <= l.n {
		r := l.retries[0]
		l.retries = l.retries[1:]
		l.add(now, r.id, "=> %s R=dnslookup T=remote_smtp H=mx.test [198.51.100.7] C=\"250 OK\"", r.to)
		c := l.Truth[r.domain]
		c.Deferred--
		c.Delivered++
		l.Truth[r.domain] = c
		if l.waiting[r.id]--; l.waiting[r.id] == 0 {
			l.add(now, r.id, "Completed")
			delete(l.waiting, r.id)
		}
	}
}

func (l *Log) add(now time.Time, id, format string, args ...any) {
	l.lines = append(l.lines, now.Format("2006-01-02 15:04:05 ")+id+" "+fmt.Sprintf(format, args...)+"\n")
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ID makes a message id of 16 characters from a time and a number.
func ID(at time.Time, n int) string {
	return digits(at.Unix(), 6) + "-" + digits(int64(n), 6) + "-" + digits(int64(n%3600), 2)
}

func digits(n int64, width int) string {
	b := make([]byte, width)
	for i := width - 1; i >= 0; i-- {
		b[i] = base62[n%62]
		n /= 62
	}
	return string(b)
}
