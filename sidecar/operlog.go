package sidecar

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// An OperatorLog is what operators read: one method for each thing they should
// know, so that all of its wording is here. It stands for the log of the
// service, not for Exim's.
type OperatorLog struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time
}

// NewOperatorLog writes to log.
func NewOperatorLog(log *slog.Logger) *OperatorLog {
	return &OperatorLog{log: log, said: map[string]time.Time{}}
}

// sayEvery is how often something that may happen with every message, or
// every second, is said at most.
const sayEvery = 10 * time.Second

// seldom reports whether it is time to say something again.
func (l *OperatorLog) seldom(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.said[what]) < sayEvery {
		return false
	}
	l.said[what] = now
	return true
}

// LimitReached says that a domain has sent what it may, and is locked.
func (l *OperatorLog) LimitReached(domain, ratio string) {
	l.log.Info("limit reached, domain locked", "domain", domain, "sent", ratio)
}

// LimitFreed says that a domain may send again.
func (l *OperatorLog) LimitFreed(domain string) {
	l.log.Info("below the limit again, lock removed", "domain", domain)
}

// LogTrouble says that the main log cannot be read.
func (l *OperatorLog) LogTrouble(file string, err error) {
	l.log.Error("main log not read; outcomes and what passes unasked are not counted until it is; tried again every second", "file", file, "error", err)
}

// LogMended says that it can again.
func (l *OperatorLog) LogMended(file string) { l.log.Info("main log read again", "file", file) }

// LogLost says that a part of the main log may be missing.
func (l *OperatorLog) LogLost(file string) {
	l.log.Warn("the main log as read last is gone, also among the rotated ones: what it told since is not counted; "+
		"reading what is there; if it is elsewhere, move it to this name with .99 behind, and it is read", "file", file)
}

// LogSkipped says that a rotated file of the main log cannot be read.
func (l *OperatorLog) LogSkipped(file string, err error) {
	l.log.Warn("a rotated file of the main log cannot be read: what it tells from there on is not counted; reading the others; "+
		"it is tried again at the next rotation or start: mend it, or remove it", "file", file, "error", err)
}

// LogCatchingUp says that much of the main log was written while nobody read.
func (l *OperatorLog) LogCatchingUp(file string, bytes int64) {
	l.log.Info("catching up with the main log", "file", file, "bytes", bytes)
}

// LogCaughtUp says that it is read.
func (l *OperatorLog) LogCaughtUp(file string) {
	l.log.Info("caught up with the main log", "file", file)
}

// Tripped says that too much of what a domain sent was deferred or failed.
func (l *OperatorLog) Tripped(domain, ratio string, mostly Cause) {
	l.log.Warn("too many defers and failures, domain locked", "domain", domain, "bad", ratio, "mostly", mostly)
}

// TripEnded says that it is no longer too much.
func (l *OperatorLog) TripEnded(domain, ratio string) {
	l.log.Info("defers and failures low again, domain released", "domain", domain, "bad", ratio)
}

// OutageLeftOut says that a destination fails for everybody, so that what went
// there is not held against a domain.
func (l *OperatorLog) OutageLeftOut(domain, destination string, sends int) {
	l.log.Info("destination fails for everybody, left out", "domain", domain, "destination", destination, "sends", sends)
}

// NoteUnread says that something noted before the start cannot be understood.
func (l *OperatorLog) NoteUnread(key string, err error) {
	l.log.Error("note ignored, it cannot be understood; what is counted is not concerned", "note", key, "error", err)
}

// Released says what of the held mail of a domain has gone out.
func (l *OperatorLog) Released(domain string, recipients, left int) {
	l.log.Info("held mail released", "domain", domain, "recipients", recipients, "still_held", left)
}

// DeliverFailed says that Exim did not deliver what was released.
func (l *OperatorLog) DeliverFailed(ids []string, err error) {
	l.log.Warn("exim -M failed; held mail waits for the next queue run", "messages", len(ids), "first", ids[0], "error", err)
}

// Refused tells of one refusal, for those who look for it: there are as many
// as somebody likes to cause, and Exim logs each with its text.
func (l *OperatorLog) Refused(r Request, a Action, text string) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("refused", "stage", r.Stage, "action", a, "id", r.ID, "sender", r.Sender, "text", text)
	}
}

// Watched tells of what passed only because its limit is watched.
func (l *OperatorLog) Watched(r Request, who, ratio string) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("over a limit that is watched, passed", "stage", r.Stage, "id", r.ID, "sender", r.Sender, "over", who, "sent", ratio)
	}
}

// Unidentified says that a message passed because nobody could be charged.
func (l *OperatorLog) Unidentified(r Request) {
	if l.seldom("unidentified") {
		l.log.Warn("passed uncharged: neither login, sender nor original recipient names a domain",
			"stage", r.Stage, "id", r.ID, "auth", r.Auth, "login", r.Login, "sender", r.Sender)
	}
}

// LockEvent tells what a hand did in the lock directory.
func (l *OperatorLog) LockEvent(e LockEvent) {
	domain := slog.String("domain", e.File.Domain)
	kind := slog.String("lock", string(e.File.Kind))
	switch e.Kind {
	case LockReleased:
		if e.File.Kind == LockUsage {
			l.log.Info("usage file removed by hand: domain starts at zero", domain)
			return
		}
		l.log.Info("lock removed by hand: domain released, starts at zero", domain, kind)
	case LockMade:
		l.log.Info("lock made by hand: domain refused until a hand removes it", domain, kind)
	case LockTaken:
		l.log.Info("lock touched or edited by hand: it stays until a hand removes it", domain, kind)
	case LockDirLost:
		l.log.Warn("lock directory was gone or is another one: nothing is released, locks made again", "error", e.Err)
	case LockTrouble:
		l.LockTrouble(e.File.Domain, e.Err)
	case LockDirShared:
		l.log.Warn("cPanel's own limiter uses the lock directory too: its locks count as made by hand, and ours that it removes as released by hand; part them", "error", e.Err)
	case LockIgnored:
		l.log.Warn("files in the lock directory have no effect: Exim asks for a domain's name in lower case, and as xn--...", "error", e.Err)
	case LockMended:
		l.log.Info("lock directory mended: all lock files are as they should be")
	}
}

// ReleasedSince says that a hand removed a lock that stood for counts which
// somebody else has reset already.
func (l *OperatorLog) ReleasedSince(f LockFile) {
	l.log.Info("lock or usage file removed by hand; the domain was released or reset since it was made: what was counted after that stands", "domain", f.Domain, "lock", string(f.Kind))
}

// LockTrouble says that a lock file could not be made or removed. A disk that is
// full is so for every domain.
func (l *OperatorLog) LockTrouble(domain string, err error) {
	if l.seldom("lock trouble " + strings.ReplaceAll(err.Error(), domain, "")) {
		l.log.Error("lock directory in trouble: domains are counted and refused all the same, but not while sluice is stopped", "domain", domain, "error", err)
	}
}

// Operator says who commanded what.
func (l *OperatorLog) Operator(who, command, scope string) {
	l.log.Info("command", "who", who, "command", command, "scope", scope)
}

// Changed says who changed which threshold.
func (l *OperatorLog) Changed(c Change) {
	told := []any{"who", c.Who, "scope", c.Scope, "change", c.Number, "what", c.Describe()}
	if !c.Until.IsZero() {
		told = append(told, "until", c.Until)
	}
	if c.Why != "" {
		told = append(told, "why", c.Why)
	}
	l.log.Info("thresholds changed", told...)
}

// ConfigRead says that the configuration file was read anew.
func (l *OperatorLog) ConfigRead(file string, restart []string) {
	l.log.Info("configuration read, in force now", "file", file)
	if len(restart) > 0 {
		l.log.Warn("these keys have changed in the file, and come into force with a restart: systemctl restart sluice", "file", file, "keys", restart)
	}
}

// ConfigRefused says that the configuration file as it is now is not in force.
func (l *OperatorLog) ConfigRefused(err error) {
	l.log.Error("configuration not read, the one before stays in force; see sluice config --check", "error", err)
}

// PanelRead says that the files of the panel have changed.
func (l *OperatorLog) PanelRead(settings, stops int) {
	l.log.Info("the panel's files read, in force now", "settings", settings, "held_or_suspended", stops)
}

// PanelSkipped names lines of the panel's files that cannot be understood.
func (l *OperatorLog) PanelSkipped(lines []string) {
	for _, line := range lines[:min(len(lines), 20)] {
		l.log.Warn("line of the panel skipped", "line", line)
	}
	if n := len(lines) - 20; n > 0 {
		l.log.Warn("more lines of the panel skipped; sluice status --json has them all", "lines", n)
	}
}

// Expired says that a threshold that was set for a time is in force no more.
func (l *OperatorLog) Expired() {
	l.log.Info("a threshold set for a time has expired: what was in force before is again; see sluice history")
}

// StayedBehind says that live values that were set before store.url was another one
// are not in force.
func (l *OperatorLog) StayedBehind(changes int) {
	l.log.Warn("store.url is another one than before, and what sluice set has changed there is not in force here; to bring it: "+
		"sluice history --export --left > FILE, then sluice set --import FILE", "changes", changes)
}

// NoLocalDomains says that every recipient would count as remote.
func (l *OperatorLog) NoLocalDomains(entries []string) {
	l.log.Warn("no local domain is known: every recipient of a message counts as remote; list those of Exim in exim.local_domains",
		"local_domains", entries)
}

// NoOwners says that one tenant could spend another's budget.
func (l *OperatorLog) NoOwners(file string) {
	l.log.Warn("Exim lets any local user send in any name (untrusted_set_sender), and there is no owner map: "+
		"on a host with several tenants one can spend and lock another's budget; list whose each domain is in identity.owners",
		"identity.owners", file)
}

// OwnersGone says that there is no owner map any more.
func (l *OperatorLog) OwnersGone(file string) {
	l.log.Warn("the owner map is gone or empty: local users are charged in whatever name they send, until it is back",
		"identity.owners", file)
}

// FileUnread says that local domains or owners cannot be read.
func (l *OperatorLog) FileUnread(err error) {
	if l.seldom("file unread") {
		l.log.Error("local domains or owners not read, going on with those read before", "error", err)
	}
}

// ClockStepped says that somebody set the system's clock.
func (l *OperatorLog) ClockStepped(by time.Duration) {
	l.log.Warn("the system's clock was set; windows go on evenly, and nothing is counted anew or forgotten early", "by", by)
}

// Uncounted says that the memory ceiling was reached.
func (l *OperatorLog) Uncounted(sends, subjects int64) {
	if l.seldom("uncounted") {
		l.log.Error("memory ceiling reached: new domains pass uncounted, those known stay exact; raise store.max_subjects",
			"uncounted_sends", sends, "subjects", subjects)
	}
}

// HoldUnread says that a note about held mail cannot be understood.
func (l *OperatorLog) HoldUnread(key string, err error) {
	l.log.Error("note about held mail ignored: exim -M has to be run for it by hand", "note", key, "error", err)
}

// StoreFailed says that the store did not answer.
func (l *OperatorLog) StoreFailed(err error) {
	if l.seldom("store") {
		l.log.Error("store failed", "error", err)
	}
}

// MilterOpen says that nobody can tell who asks on TCP.
func (l *OperatorLog) MilterOpen(at Listener) {
	l.log.Warn("milter on TCP: any local user can connect and charge any domain; use a unix socket where users are not trusted", "listen.milter", at)
}

// MilterRefused says that somebody asked who may not.
func (l *OperatorLog) MilterRefused(err error) {
	if l.seldom("milter refused") {
		l.log.Warn("milter client refused", "error", err)
	}
}

// MilterBroken says that a client does not speak the protocol.
func (l *OperatorLog) MilterBroken(err error) {
	if l.seldom("milter broken") {
		l.log.Warn("milter connection closed", "error", err)
	}
}

// MilterCrowded says that a connection was closed for there are too many.
func (l *OperatorLog) MilterCrowded(limit int) {
	if l.seldom("milter crowded") {
		l.log.Warn("milter connections at their maximum: new one closed, its mail passes unasked", "maximum", limit)
	}
}

// MilterNotAccepted says that connections cannot be accepted.
func (l *OperatorLog) MilterNotAccepted(err error) {
	if l.seldom("milter accept") {
		l.log.Warn("milter connections cannot be accepted, trying again", "error", err)
	}
}

// MilterCut says that the stop has cut off messages.
func (l *OperatorLog) MilterCut(n int) {
	l.log.Warn("milter stopped within messages, which pass unasked", "connections", n)
}

// MilterPanicked says that a question brought out a bug.
func (l *OperatorLog) MilterPanicked(p any, stack []byte) {
	if l.seldom("milter panic") {
		l.log.Error("policy panicked over a question of the milter, whose message passes", "panic", p, "stack", string(stack))
	}
}

// RedisLost says that a node decides alone from now on.
func (l *OperatorLog) RedisLost(server, mode string, reason error) {
	l.log.Warn("Redis cannot be asked: this node decides alone until it can, in the mode of store.outage; mail goes on",
		"server", server, "outage", mode, "error", reason)
}

// RedisBack says that it no longer does.
func (l *OperatorLog) RedisBack(server string, after time.Duration) {
	l.log.Info("Redis decides again, and knows what was accepted meanwhile", "server", server, "after", after.Round(time.Millisecond))
}

// RedisReplaced says that a Redis has yet to be told of what was accepted.
func (l *OperatorLog) RedisReplaced(server string) {
	l.log.Warn("this Redis does not know this node's counts (it is new, was restarted or has failed over): telling them", "server", server)
}

// RedisReplayed says that it was told, and of how many nodes that share it how
// many have done so by now.
func (l *OperatorLog) RedisReplayed(server string, sends, nodes, of int) {
	l.log.Info("this Redis knows this node's counts", "server", server, "sends", sends, "nodes_that_told", nodes, "store.nodes", of)
}

// RedisEvicts says that a Redis would drop counters.
func (l *OperatorLog) RedisEvicts(server, policy string) {
	l.log.Error("Redis drops counters when its memory is full, and each of them is a new budget: set maxmemory-policy noeviction",
		"server", server, "maxmemory-policy", policy)
}

// RedisCrowded says that shares are too large.
func (l *OperatorLog) RedisCrowded(nodes, of int) {
	if l.seldom("redis crowded") {
		l.log.Error("more nodes share this Redis than store.nodes says: without Redis they would accept more than they should; set it on all nodes",
			"nodes", nodes, "store.nodes", of)
	}
}

// LockOrdered says that a lock was made on all nodes.
func (l *OperatorLog) LockOrdered(domain, who string) {
	l.log.Info("domain locked on another node, for all nodes", "domain", domain, "who", who)
}

// LockWithdrawn says that such a lock was removed.
func (l *OperatorLog) LockWithdrawn(domain string) {
	l.log.Info("lock removed on another node: domain released", "domain", domain)
}

// TrippedElsewhere says that another node found a domain over its percentage.
func (l *OperatorLog) TrippedElsewhere(domain string) {
	l.log.Warn("too many defers and failures, as another node has found: domain locked", "domain", domain)
}

// ResetElsewhere says that a domain was released or reset on another node.
func (l *OperatorLog) ResetElsewhere(domain string) {
	l.log.Info("released or reset on another node: domain starts at zero", "domain", domain)
}

// BoardFailed says that the other nodes cannot be told of a lock now.
func (l *OperatorLog) BoardFailed(err error) {
	if l.seldom("board") {
		l.log.Warn("other nodes cannot be told of locks and releases now; tried again every second", "error", err)
	}
}

// JournalCut says that the last write before a crash was incomplete.
func (l *OperatorLog) JournalCut(file string, at, bytes int64) {
	l.log.Info("journal ended within a write that was never answered; cut", "file", file, "at", at, "bytes", bytes)
}

// JournalDamaged says that a part of the journal is lost.
func (l *OperatorLog) JournalDamaged(file string, at, bytes int64, reason error) {
	l.log.Error("journal damaged: what this part held is lost, the rest is there; the file is kept as .damaged",
		"file", file, "at", at, "bytes", bytes, "reason", reason)
}

// JournalFailed says that answers do not survive a crash from now on.
func (l *OperatorLog) JournalFailed(err error) {
	l.log.Error("journal failed: answers go on, but what is counted from now on would not survive a crash", "error", err)
}

// JournalMended says that they do again.
func (l *OperatorLog) JournalMended() {
	l.log.Info("journal mended: all counts are on disk again")
}
