package event

import (
	"log/slog"
	"maps"
	"slices"
)

// Kinds of limits and held mail. After the colon are the attributes of each.
const (
	LimitReached  Kind = "limit-reached"  // a domain has used up its limit: sent, and if known culprit, culprit_sends
	Near          Kind = "near"           // most of a limit is used, and it will be full within the hour: scope, used, limit, full_in, and if known culprit, culprit_sends
	LimitFreed    Kind = "limit-freed"    // a domain is below its limit again
	Released      Kind = "released"       // held mail of a domain has gone out: recipients, still_held
	DeliverFailed Kind = "deliver-failed" // Exim did not deliver what was released: messages, first
	Share         Kind = "share"          // an author beyond its usual hour is refused for what it leaves to others of its domain, told once in a window: scope, sent, left_to_others
	Spike         Kind = "spike"          // an author sends much more in an hour than in any of the last 35 days: scope, sends, busiest_hour
	Refused       Kind = "refused"        // one refusal. Exim logs each with its text: stage, action, id, sender, text, and if known culprit, culprit_sends
	Watched       Kind = "watched"        // let pass because its limit is only watched: stage, id, sender, over, sent
)

// Kinds of defers and failures.
const (
	Tripped          Kind = "trip"             // too much of what a domain sent was deferred or failed: bad, mostly, and if known culprit, culprit_sends
	TripEnded        Kind = "trip-ended"       // a tripped domain may send again: bad
	TripExcused      Kind = "trip-excused"     // a tripped domain may send again, for what it was tripped by was not its fault: bad
	TrippedElsewhere Kind = "trip-elsewhere"   // another node has blocked a domain for its bad sends: node
	WouldTrip        Kind = "would-trip"       // a domain would be tripped if it were not only watched: bad, mostly
	WouldTripEnded   Kind = "would-trip-ended" // the end of would-trip: bad
	OutageLeftOut    Kind = "outage-left-out"  // sends are not held against their domain, for others had the fault too: destination, sends
)

// Kinds of lock files, and of what operators do to them.
const (
	LockRemoved     Kind = "lock-removed"          // by hand: lock
	UsageRemoved    Kind = "usage-removed"         // by hand
	LockMade        Kind = "lock-made"             // by hand: lock
	LockTaken       Kind = "lock-taken"            // an operator touched or edited a lock of Sluice's, and owns it now: lock
	LockRemovedLate Kind = "lock-removed-late"     // by hand, when its domain was already reset since: lock
	LockTrouble     Kind = "lock-trouble"          // a lock file could not be made or removed
	LockDirLost     Kind = "lock-directory-lost"   // the directory was missing, or replaced; locks are made anew
	LockDirShared   Kind = "lock-directory-shared" // two limiters in one directory
	LockIgnored     Kind = "lock-files-ignored"    // files are named nearly like locks
	LockDirMended   Kind = "lock-directory-mended" // the end of lock-trouble, in all of the directory: dir
)

// Kinds of stops.
const (
	Stopped      Kind = "stop"               // an author may send nothing from now on: scope, who, until, reject, node, why, and of: the domain in whose place Sluice has done it
	Started      Kind = "start"              // a stopped author may send again, or what was held is released: scope, who, release, of
	StaysStopped Kind = "stays-stopped"      // a domain was released, and an author of it is still stopped: scope
	StopIgnored  Kind = "stop-files-ignored" // files among those of the stopped name nobody
)

// Kinds of news from other nodes.
const (
	LockedElsewhere   Kind = "lock-elsewhere"   // an operator has locked a domain on all nodes: who, node
	UnlockedElsewhere Kind = "unlock-elsewhere" // such a lock was removed
	ResetElsewhere    Kind = "reset-elsewhere"  // a domain was released or reset
	BoardFailed       Kind = "nodes-not-told"   // the other nodes cannot be informed now
)

// Kinds of settings and their changes.
const (
	Command           Kind = "command"             // an operator has run a command: who, command, scope
	Changed           Kind = "limits-changed"      // an operator has changed limits: who, scope, change, what, until, why
	Expired           Kind = "change-expired"      // a change that was made for a time has expired
	StayedBehind      Kind = "changes-left-behind" // changes made with another store.url are not in force: changes
	ConfigRead        Kind = "config-read"         // the configuration file was read anew: file
	RestartNeeded     Kind = "restart-needed"      // keys that are read only at the start have changed: file, keys
	ConfigRefused     Kind = "config-refused"      // the file has mistakes, the one before stays in force
	PanelRead         Kind = "panel-read"          // the panel's files have changed: settings, held_or_suspended
	PanelLineSkipped  Kind = "panel-line-skipped"  // a line that cannot be understood: line
	PanelLinesSkipped Kind = "panel-lines-skipped" // many more of them: lines
	EximListsRead     Kind = "exim-lists"          // what Exim's configuration says was read: local_domains, relay, relay_domains, unknown
	EximListsUnread   Kind = "exim-lists-unread"   // Exim cannot say what its configuration has
	NoLocalDomains    Kind = "no-local-domains"    // every recipient would count as remote: local_domains
	NoOwners          Kind = "no-owners"           // one tenant could use up another's limit: identity.owners
	OwnersGone        Kind = "owners-gone"         // there is no owner map any more: identity.owners
	FileUnread        Kind = "file-unread"         // a file of local domains or owners cannot be read
	EximUserUnknown   Kind = "exim-user-unknown"   // Exim's user is not known, and may not ask: exim.binary
)

// Kinds of the logs of Exim and Postfix.
const (
	LogTrouble    Kind = "log-trouble"     // a log cannot be read: file
	LogMended     Kind = "log-mended"      // the end of log-trouble: file
	LogLost       Kind = "log-lost"        // a part of a log may be missing: file
	LogSkipped    Kind = "log-skipped"     // a rotated file cannot be read: file
	LogCatchingUp Kind = "log-catching-up" // much was written while nobody read: file, bytes
	LogCaughtUp   Kind = "log-caught-up"   // all of it is read: file
)

// Kinds of Exim's queue. Each names who has most of it, and where most of it is to go: author,
// author_share, destination, destination_share, and reason, which is what the log has said last
// of mail for there.
const (
	QueueGrowth      Kind = "queue-growth"       // there is much more in it than in the week before: messages, week, and as above
	QueueGrowthEnded Kind = "queue-growth-ended" // the end of queue-growth: messages
	QueueFrozen      Kind = "queue-frozen"       // likewise of frozen messages: frozen, week, and as above
	QueueFrozenEnded Kind = "queue-frozen-ended" // the end of queue-frozen: frozen
	QueueOld         Kind = "queue-old"          // much waits for hours that nobody holds: old, and as above
	QueueOldEnded    Kind = "queue-old-ended"    // the end of queue-old: old
	HeldOld          Kind = "held-old"           // Sluice holds mail for more than a day; once a day: messages, bounces, and as above
	HeldExpires      Kind = "held-expires"       // likewise, and Exim would bounce it within days
	HeldOldEnded     Kind = "held-old-ended"     // the end of both: messages
	QueueUnread      Kind = "queue-unread"       // not all of Exim's spool can be read
	QueuePurged      Kind = "queue-purged"       // queue.purge_days has removed mail from the quarantine: messages
	QueueUnpurged    Kind = "queue-unpurged"     // it could not
)

// Kinds of scripts that were disabled. SCOPE is their author.
const (
	CameBack         Kind = "came-back"         // a disabled script can be run again: scope, file, account, action
	ScriptsUnwatched Kind = "scripts-unwatched" // it cannot be found out whether one can
)

// Loop is of mail that comes back again and again; at most once in 10 minutes of the same
// address: address, how, to, times, message, and of an alias alias, the file and line that has
// it, and stop, the command that ends it.
const Loop Kind = "loop"

// Forwarded is of a forwarder of which other servers call spam what strangers have sent it; once an hour: scope,
// sends, to, and reply, which is what one has said.
const Forwarded Kind = "forward"

// Kinds of the store and its notes.
const (
	StoreFailed    Kind = "store-failed"    // the store did not answer
	MemoryCeiling  Kind = "memory-ceiling"  // no room for new domains: uncounted_sends, subjects
	NoteUnread     Kind = "note-unread"     // a note from before the start cannot be read: note
	HoldUnread     Kind = "hold-unread"     // the same, about held mail: note
	JournalCut     Kind = "journal-cut"     // the last write before a crash was incomplete: file, at, bytes
	JournalDamaged Kind = "journal-damaged" // a part of the journal is lost: file, at, bytes, reason
	JournalFailed  Kind = "journal-failed"  // answers do not survive a crash from now on
	JournalMended  Kind = "journal-mended"  // the end of journal-failed
)

// Kinds of Redis, where nodes share one.
const (
	RedisAway     Kind = "redis-away"     // a node decides alone from now on: server, outage
	Uncounted     Kind = "uncounted"      // mail is deferred that this node may not count alone
	RedisBack     Kind = "redis-back"     // the end of redis-away: server, after
	RedisReplaced Kind = "redis-replaced" // a Redis does not have the counts of this node yet: server
	RedisReplayed Kind = "redis-replayed" // the end of redis-replaced: server, sends, nodes_that_told, store.nodes
	RedisEvicts   Kind = "redis-evicts"   // a Redis drops counters when its memory is full: server, maxmemory-policy
	RedisCrowded  Kind = "redis-crowded"  // more nodes than store.nodes, whose shares are too large: nodes, store.nodes

	RedisNamesake     Kind = "redis-namesake"      // another live node has this one's name: node
	RedisNamesakeGone Kind = "redis-namesake-gone" // the end of redis-namesake: node

	RedisKeyUnusable Kind = "redis-key-unusable" // somebody else has written to a key of counts: server
)

// Kinds of questions by milter.
const (
	MilterOpen        Kind = "milter-open"         // a listener on TCP, which cannot check who asks: listen.milter
	MilterRefused     Kind = "milter-refused"      // a client that may not ask
	MilterBroken      Kind = "milter-broken"       // a client that violates the protocol
	MilterCrowded     Kind = "milter-crowded"      // too many connections: maximum
	MilterNotAccepted Kind = "milter-not-accepted" // a failed accept
	MilterCut         Kind = "milter-cut"          // the service stopped within messages: connections
	MilterPanicked    Kind = "milter-panicked"     // a bug, found by a question: panic, stack
)

// Kinds of questions by Exim and Postfix. The server itself limits how often it emits
// them: the attribute more is how many it left out.
const (
	PolicyUnanswered  Kind = "policy-unanswered"   // a malformed question: error, more
	PolicyTooLate     Kind = "policy-too-late"     // the client had gone: error, more
	PolicyTooSlow     Kind = "policy-too-slow"     // a client did not write, or read, fast enough: client, more
	PolicyRefused     Kind = "policy-refused"      // a client that may not ask: error, more
	PolicyCrowded     Kind = "policy-crowded"      // no room for a new connection: more
	PolicyShed        Kind = "policy-shed"         // slow and idle connections closed for a new one: closed, more
	PolicyNotAccepted Kind = "policy-not-accepted" // a failed accept: error, closed, more
	PolicyCut         Kind = "policy-cut"          // the service stopped within questions: connections
	PolicyPanicked    Kind = "policy-panicked"     // a bug, found by a question: panic, stack, more
)

// Kinds of what operators are told of incidents.
const (
	NoticeFailed  Kind = "notice-failed"  // a channel has not taken a notice: channel, notice
	NoticeDropped Kind = "notice-dropped" // a channel has not taken a notice for a day, or refuses it for good: channel, notice
	NoticesFailed Kind = "notices-failed" // notices cannot be written: channel
)

// Kinds of what sluice status shows, when it lasts.
const (
	NodesDiffer  Kind = "nodes-differ"   // other nodes have other limits in their files: nodes
	NodesAgree   Kind = "nodes-agree"    // the end of nodes-differ
	LogBehind    Kind = "log-behind"     // much of the mail server's log is not read yet: file
	LogNotBehind Kind = "log-not-behind" // the end of log-behind
	Unasked      Kind = "unasked"        // mail goes, as the log says, and no mail server asks: sends
	Asked        Kind = "asked"          // the end of unasked
)

// Kinds of the service itself.
const (
	Serving        Kind = "serving"         // everything is open: node, version, policy, admin
	Stopping       Kind = "stopping"        // a stop was requested
	SocketsStopped Kind = "sockets-stopped" // no question is answered any more
	WorkStopped    Kind = "work-stopped"    // no lock is made or removed any more
	CountsSaved    Kind = "counts-saved"    // the last step of a stop
	SocketSilent   Kind = "socket-silent"   // it did not answer the watchdog's question
	SocketGone     Kind = "socket-gone"     // the file of a socket is gone, and cannot be made again: socket
	SocketRemade   Kind = "socket-remade"   // the file of a socket was gone, and was made again: socket
	EventsLost     Kind = "events-lost"     // too many at once for sluice events: events
	ClockStepped   Kind = "clock-stepped"   // somebody set the system's clock: by
	WhoBroken      Kind = "who-broken"      // a bug in the bookkeeping of who sends: panic
	SocketOpen     Kind = "socket-open"     // anybody may connect where mail servers ask: socket
	SocketsHidden  Kind = "sockets-hidden"  // the kernel does not tell whose connections there are

	AddressesUnknown Kind = "addresses-unknown" // the kernel does not tell which addresses this host has

	MetricsFailed Kind = "metrics-failed" // the file of metrics.textfile cannot be written
	MetricsMended Kind = "metrics-mended" // the end of metrics-failed: file
)

// A wording is how an event appears in the log.
type wording struct {
	level slog.Level
	text  string
	limit limit
}

// kinds has the wording of every kind. Texts do not change: operators' scripts search for
// them.
var kinds = map[Kind]wording{
	LimitReached:  {slog.LevelInfo, "limit reached, domain locked", unlimited},
	Near:          {slog.LevelInfo, "most of the limit is used, and at this rate all of it within the hour", unlimited},
	LimitFreed:    {slog.LevelInfo, "below the limit again, locked no more", unlimited},
	Released:      {slog.LevelInfo, "held mail released", unlimited},
	DeliverFailed: {slog.LevelWarn, "exim -M failed; held mail waits for the next queue run", unlimited},
	Share:         {slog.LevelInfo, "more than this author usually sends, refused: the others of its domain keep their room", unlimited},
	Spike:         {slog.LevelWarn, "this author sends much more than in any hour of the last 35 days; see sluice who", unlimited},
	Refused:       {slog.LevelDebug, "refused", unlimited},
	Watched:       {slog.LevelDebug, "over a limit that is watched, passed", unlimited},

	Tripped:          {slog.LevelWarn, "too many defers and failures, domain locked", unlimited},
	TripEnded:        {slog.LevelInfo, "defers and failures low again, domain released", unlimited},
	TripExcused:      {slog.LevelInfo, "the defers and failures are a fault that others have too, domain released", unlimited},
	TrippedElsewhere: {slog.LevelWarn, "too many defers and failures, as another node has found: domain locked", unlimited},
	WouldTrip:        {slog.LevelWarn, "too many defers and failures: the domain would be locked, and is only watched", unlimited},
	WouldTripEnded:   {slog.LevelInfo, "defers and failures low again: the domain would be released, and is only watched", unlimited},
	OutageLeftOut:    {slog.LevelInfo, "destination fails for everybody, left out", unlimited},

	LockRemoved:     {slog.LevelInfo, "lock removed by hand: domain released, starts at zero", unlimited},
	UsageRemoved:    {slog.LevelInfo, "usage file removed by hand: domain starts at zero", unlimited},
	LockMade:        {slog.LevelInfo, "lock made by hand: domain refused until a hand removes it", unlimited},
	LockTaken:       {slog.LevelInfo, "lock touched or edited by hand: it stays until a hand removes it", unlimited},
	LockRemovedLate: {slog.LevelInfo, "lock or usage file removed by hand; the domain was released or reset since it was made: what was counted after that stands", unlimited},
	LockTrouble:     {slog.LevelError, "lock directory in trouble: domains are counted and refused all the same, but not while sluice is stopped", perError},
	LockDirLost:     {slog.LevelWarn, "lock directory was gone or is another one: nothing is released, locks made again", unlimited},
	LockDirShared:   {slog.LevelWarn, "cPanel's own limiter uses the lock directory too: its locks count as made by hand, and ours that it removes as released by hand; part them", unlimited},
	LockIgnored:     {slog.LevelWarn, "files in the lock directory have no effect: Exim asks for a domain's name in lower case, and as xn--...", unlimited},
	LockDirMended:   {slog.LevelInfo, "lock directory mended: all lock files are as they should be", unlimited},

	Stopped:      {slog.LevelWarn, "stopped: nothing of this author goes, others of its domain go on", unlimited},
	Started:      {slog.LevelInfo, "started: this author may send again", unlimited},
	StaysStopped: {slog.LevelWarn, "the domain is released, and this author stays stopped: sluice start SCOPE", unlimited},
	StopIgnored:  {slog.LevelWarn, "files in the directory of the stopped have no effect: Exim asks for a mailbox or login: and a login, in lower case", unlimited},

	LockedElsewhere:   {slog.LevelInfo, "domain locked on another node, for all nodes", unlimited},
	UnlockedElsewhere: {slog.LevelInfo, "lock removed on another node: domain released", unlimited},
	ResetElsewhere:    {slog.LevelInfo, "released or reset on another node: domain starts at zero", unlimited},
	BoardFailed:       {slog.LevelWarn, "other nodes cannot be told of locks and releases now; tried again every second", perKind},

	Command: {slog.LevelInfo, "command", unlimited},
	Changed: {slog.LevelInfo, "thresholds changed", unlimited},
	Expired: {slog.LevelInfo, "a threshold set for a time has expired: what was in force before is again; see sluice history", unlimited},
	StayedBehind: {slog.LevelWarn, "store.url is another one than before, and what sluice set has changed there is not in force here; to bring it: " +
		"sluice history --export --left > FILE, then sluice set --import FILE", unlimited},
	ConfigRead:        {slog.LevelInfo, "configuration read, in force now", unlimited},
	RestartNeeded:     {slog.LevelWarn, "these keys have changed in the file, and come into force with a restart: systemctl restart sluice", unlimited},
	ConfigRefused:     {slog.LevelError, "configuration not read, the one before stays in force; see sluice config --check", unlimited},
	PanelRead:         {slog.LevelInfo, "the panel's files read, in force now", unlimited},
	PanelLineSkipped:  {slog.LevelWarn, "line of the panel skipped", unlimited},
	PanelLinesSkipped: {slog.LevelWarn, "more lines of the panel skipped; sluice status --json has them all", unlimited},
	EximListsRead:     {slog.LevelInfo, "what Exim's configuration says of local domains and relays is in force where the file has none; unknown is what only Exim can look up", unlimited},
	EximListsUnread:   {slog.LevelWarn, "Exim does not say which domains are local and for whom it relays; what it said before stays in force", perKind},
	NoLocalDomains:    {slog.LevelWarn, "no local domain is known: every recipient of a message counts as remote; list those of Exim in exim.local_domains", unlimited},
	NoOwners: {slog.LevelWarn, "Exim lets any local user send in any name (untrusted_set_sender), and there is no owner map: " +
		"on a host with several tenants one can spend and lock another's budget; list whose each domain is in identity.owners", unlimited},
	OwnersGone:      {slog.LevelWarn, "the owner map is gone or empty: local users are charged in whatever name they send, until it is back", unlimited},
	FileUnread:      {slog.LevelError, "local domains or owners not read, going on with those read before", perKind},
	EximUserUnknown: {slog.LevelWarn, "Exim's user is not known: its ACLs get no answer, for only root may ask; set exim.binary", unlimited},

	LogTrouble: {slog.LevelError, "main log not read; outcomes and what passes unasked are not counted until it is; tried again every second", unlimited},
	LogMended:  {slog.LevelInfo, "main log read again", unlimited},
	LogLost: {slog.LevelWarn, "the main log as read last is gone, also among the rotated ones: what it told since is not counted; reading what is there; " +
		"if it is elsewhere, or compressed otherwise than by gzip, put it unpacked where this name has .99 behind, and it is read", unlimited},
	LogSkipped: {slog.LevelWarn, "a rotated file of the main log cannot be read: what it tells from there on is not counted; reading the others; " +
		"it is tried again at the next rotation or start: mend it, or remove it", unlimited},
	LogCatchingUp: {slog.LevelInfo, "catching up with the main log", unlimited},
	LogCaughtUp:   {slog.LevelInfo, "caught up with the main log", unlimited},

	QueueGrowth:      {slog.LevelWarn, "Exim's queue grows: far more is in it than at any time of the last week; sluice queue", unlimited},
	QueueGrowthEnded: {slog.LevelInfo, "Exim's queue is down again", unlimited},
	QueueFrozen:      {slog.LevelWarn, "far more messages in Exim's queue are frozen than at any time of the last week; sluice queue --frozen", unlimited},
	QueueFrozenEnded: {slog.LevelInfo, "fewer messages in Exim's queue are frozen again", unlimited},
	QueueOld:         {slog.LevelWarn, "many messages have waited in Exim's queue for more than 4 hours, and nobody holds them; sluice queue --older 4h", unlimited},
	QueueOldEnded:    {slog.LevelInfo, "what has waited long in Exim's queue is less again", unlimited},
	HeldOld:          {slog.LevelWarn, "mail is held for more than a day; sluice queue --held --older 24h", unlimited},
	HeldExpires:      {slog.LevelError, "mail is held that Exim will bounce within days; release it, or remove it; sluice queue --held --older 24h", unlimited},
	HeldOldEnded:     {slog.LevelInfo, "no mail is held for more than a day any more", unlimited},
	CameBack:         {slog.LevelError, "a script that was disabled can be run again: look who has put it back, and stop its author", unlimited},
	ScriptsUnwatched: {slog.LevelError, "scripts that were disabled are not looked at: it would not be noticed if one came back", unlimited},
	Forwarded:        {slog.LevelInfo, "other servers call spam what this address forwards for strangers; nobody is refused for it, sluice stop SCOPE ends it", unlimited},
	Loop:             {slog.LevelWarn, "mail goes round in a loop: somewhere it is sent back to this address", unlimited},
	QueuePurged:      {slog.LevelInfo, "mail that was in the quarantine for queue.purge_days is removed for good", unlimited},
	QueueUnpurged:    {slog.LevelError, "what was in the quarantine for queue.purge_days is there still: it could not be removed", unlimited},
	QueueUnread:      {slog.LevelError, "not all of Exim's queue can be read: what is in it is not known, and nobody is warned of it", perKind},

	StoreFailed:    {slog.LevelError, "store failed", perKind},
	MemoryCeiling:  {slog.LevelError, "memory ceiling reached: new domains pass uncounted, those known stay exact; raise store.max_subjects", perKind},
	NoteUnread:     {slog.LevelError, "note ignored, it cannot be understood; what is counted is not concerned", unlimited},
	HoldUnread:     {slog.LevelError, "note about held mail ignored: exim -M has to be run for it by hand", unlimited},
	JournalCut:     {slog.LevelInfo, "journal ended within a write that was never answered; cut", unlimited},
	JournalDamaged: {slog.LevelError, "journal damaged: what this part held is lost, the rest is there; the file is kept as .damaged", unlimited},
	JournalFailed:  {slog.LevelError, "journal failed: answers go on, but what is counted from now on would not survive a crash", unlimited},
	JournalMended:  {slog.LevelInfo, "journal mended: all counts are on disk again", unlimited},

	RedisAway:     {slog.LevelWarn, "Redis cannot be asked: this node decides alone until it can, in the mode of store.outage; mail goes on", unlimited},
	Uncounted:     {slog.LevelWarn, "mail is deferred or held: Redis does not answer, and this node may accept no more of it alone; see redis-away", perKind},
	RedisBack:     {slog.LevelInfo, "Redis decides again, and knows what was accepted meanwhile", unlimited},
	RedisReplaced: {slog.LevelWarn, "this Redis does not know this node's counts (it is new, was restarted or has failed over): telling them", unlimited},
	RedisReplayed: {slog.LevelInfo, "this Redis knows this node's counts", unlimited},
	RedisEvicts:   {slog.LevelError, "Redis drops counters when its memory is full, and each of them is a new budget: set maxmemory-policy noeviction", unlimited},
	RedisCrowded:  {slog.LevelError, "more nodes share this Redis than store.nodes says: without Redis they would accept more than they should; set it on all nodes", perKind},
	RedisNamesake: {slog.LevelError, "another live node has the name of this one, as a cloned machine has: both work in their shares of what is left; " +
		"give each a store.node of its own, and restart sluice there", unlimited},
	RedisNamesakeGone: {slog.LevelInfo, "no other node has the name of this one any more", unlimited},
	RedisKeyUnusable:  {slog.LevelError, "a key of Redis is not as Sluice writes it: whom it is about each node counts alone; delete it there (redis-cli DEL), and see who writes to it", perError},

	MilterOpen:        {slog.LevelWarn, "milter on TCP: any local user can connect and charge any domain; use a unix socket where users are not trusted", unlimited},
	MilterRefused:     {slog.LevelWarn, "milter client refused", perKind},
	MilterBroken:      {slog.LevelWarn, "milter connection closed", perKind},
	MilterCrowded:     {slog.LevelWarn, "milter connections at their maximum: new one closed, its mail passes unasked", perKind},
	MilterNotAccepted: {slog.LevelWarn, "milter connections cannot be accepted, trying again", perKind},
	MilterCut:         {slog.LevelWarn, "milter stopped within messages, which pass unasked", unlimited},
	MilterPanicked:    {slog.LevelError, "policy panicked over a question of the milter, whose message passes", perKind},

	PolicyUnanswered:  {slog.LevelWarn, "policy question not answered", unlimited},
	PolicyTooLate:     {slog.LevelWarn, "policy answer came too late: the client has gone", unlimited},
	PolicyTooSlow:     {slog.LevelWarn, "policy client closed: too slow", unlimited},
	PolicyRefused:     {slog.LevelWarn, "policy client refused", unlimited},
	PolicyCrowded:     {slog.LevelWarn, "policy connections at their maximum, all being answered: new one refused", unlimited},
	PolicyShed:        {slog.LevelWarn, "policy connections at their maximum: slow and idle ones closed", unlimited},
	PolicyNotAccepted: {slog.LevelWarn, "policy connections cannot be accepted: slow and idle ones closed, trying again", unlimited},
	PolicyCut:         {slog.LevelWarn, "policy server stopped with questions unanswered", unlimited},
	PolicyPanicked:    {slog.LevelError, "policy panicked over a question, which gets no answer", unlimited},

	NoticeFailed:  {slog.LevelWarn, "a notice to operators was not delivered; it is tried again", perError},
	NoticeDropped: {slog.LevelError, "a notice to operators was not delivered, and is given up; sluice incident has what it said, sluice alert test finds out why", unlimited},
	NoticesFailed: {slog.LevelError, "notices to operators cannot be written, see store.dir: incidents may not be told", perError},

	NodesDiffer:  {slog.LevelWarn, "other nodes have other limits in their files: how much may be sent depends on the node; sluice status says which", unlimited},
	NodesAgree:   {slog.LevelInfo, "all nodes have the same limits in their files again", unlimited},
	LogBehind:    {slog.LevelWarn, "the main log is written faster than it is read: what became of mail is known late", unlimited},
	LogNotBehind: {slog.LevelInfo, "the main log is read up to its end again, or nearly", unlimited},
	Unasked:      {slog.LevelError, "mail goes and no mail server asks: nothing is refused; sluice doctor says why", unlimited},
	Asked:        {slog.LevelInfo, "a mail server asks again", unlimited},

	Serving:        {slog.LevelInfo, "serving", unlimited},
	Stopping:       {slog.LevelInfo, "stopping: no more questions, those in flight are answered", unlimited},
	SocketsStopped: {slog.LevelInfo, "stopped: the sockets", unlimited},
	WorkStopped:    {slog.LevelInfo, "stopped: locks and releases", unlimited},
	CountsSaved:    {slog.LevelInfo, "saved: the counts", unlimited},
	SocketSilent:   {slog.LevelError, "the policy socket does not answer us; systemd restarts sluice if that goes on", unlimited},
	SocketGone:     {slog.LevelError, "nobody can connect to a socket: its file was removed or replaced, and cannot be made again; tried again every second", unlimited},
	SocketRemade:   {slog.LevelWarn, "the file of a socket was removed or replaced, and is made again: for a second nobody could connect", unlimited},
	SocketOpen: {slog.LevelError, "anybody may connect where mail servers ask, and keep them from an answer: its file system has no access control lists; " +
		"put the socket into one that has, as /run", unlimited},
	SocketsHidden: {slog.LevelError, "whose connections come from this host cannot be found out: programs here that send over SMTP without AUTH share one budget, that of the loopback; " +
		"allow AF_NETLINK in the unit, and restart sluice", perKind},
	AddressesUnknown: {slog.LevelError, "the addresses of this host cannot be followed: mail from one that is added later counts as from outside; tried again every 10 seconds", unlimited},
	WhoBroken:        {slog.LevelError, "who sends is not known any more: names are left out of refusals, status and sluice who until sluice is restarted; limits hold", unlimited},
	EventsLost:       {slog.LevelWarn, "too many events at once: the log has them, and sluice events does not", unlimited},
	ClockStepped:     {slog.LevelWarn, "the system's clock was set; windows go on evenly, and nothing is counted anew or forgotten early", unlimited},
	MetricsFailed: {slog.LevelWarn, "metrics not written for node_exporter; tried again every 15 seconds; under systemd another directory than Debian's needs " +
		"a drop-in for sluice.service with ReadWritePaths=", unlimited},
	MetricsMended: {slog.LevelInfo, "metrics written again", unlimited},
}

// Text is the log's text for events of this kind.
func (k Kind) Text() string { return kinds[k].text }

// Level is the log level of events of this kind.
func (k Kind) Level() slog.Level { return kinds[k].level }

// Kinds lists all kinds, by their names.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }
