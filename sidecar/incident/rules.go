package incident

import (
	"strings"

	"sluice/sidecar/event"
)

// An effect is what an event does to an incident.
type effect int

const (
	joins  effect = iota // it is an entry of the timeline, where there is an incident
	begins               // a cause is there from now on
	ends                 // a cause is gone
	pulses               // a cause has shown, and nothing will say when it is gone
)

// A rule says what events of a kind are for incidents.
type rule struct {
	effect    effect
	cause     string // empty: the name of the event
	severity  Severity
	condition Condition // empty: it is about a domain
	scope     string    // the attribute that tells causes of a name apart
}

// rules are those of all kinds that matter to incidents.
var rules = map[event.Kind]rule{
	event.Near:             {begins, CauseNear, Info, "", "scope"},
	event.LimitReached:     {begins, CauseLimit, Info, "", ""},
	event.LimitFreed:       {ends, CauseLimit, Info, "", ""},
	event.Spike:            {begins, CauseSpike, Warning, "", "scope"},
	event.Share:            {pulses, "", Info, "", "scope"},
	event.Tripped:          {begins, CauseDeferfail, Critical, "", ""},
	event.TrippedElsewhere: {begins, CauseDeferfail, Critical, "", ""},
	event.TripEnded:        {ends, CauseDeferfail, Info, "", ""},
	event.TripExcused:      {ends, CauseDeferfail, Info, "", ""},
	event.Stopped:          {joins, "", Info, "", ""}, // of Sluice's own: see culprits
	event.Started:          {joins, "", Info, "", ""},
	event.StaysStopped:     {joins, "", Info, "", ""},

	event.CameBack:          {pulses, "", Critical, "", "scope"},
	event.Forwarded:         {pulses, "", Info, "", "scope"},
	event.Loop:              {pulses, "", Warning, "", "address"},
	event.Released:          {joins, "", Info, "", ""},
	event.OutageLeftOut:     {joins, "", Info, "", ""},
	event.LockRemoved:       {joins, "", Info, "", ""},
	event.UsageRemoved:      {joins, "", Info, "", ""},
	event.LockMade:          {joins, "", Info, "", ""},
	event.LockTaken:         {joins, "", Info, "", ""},
	event.LockRemovedLate:   {joins, "", Info, "", ""},
	event.LockedElsewhere:   {joins, "", Info, "", ""},
	event.UnlockedElsewhere: {joins, "", Info, "", ""},
	event.ResetElsewhere:    {joins, "", Info, "", ""},
	event.Command:           {joins, "", Info, "", ""},
	event.Changed:           {joins, "", Info, "", ""},

	event.RedisAway:         {begins, "redis-away", Warning, Redis, "server"},
	event.RedisBack:         {ends, "redis-away", Info, Redis, "server"},
	event.Uncounted:         {pulses, "", Warning, Redis, ""},
	event.RedisReplaced:     {begins, "redis-replaced", Info, Redis, "server"},
	event.RedisReplayed:     {ends, "redis-replaced", Info, Redis, "server"},
	event.RedisNamesake:     {begins, "redis-namesake", Critical, Redis, ""},
	event.RedisNamesakeGone: {ends, "redis-namesake", Info, Redis, ""},
	event.RedisEvicts:       {pulses, "", Critical, Redis, "server"},
	event.RedisCrowded:      {pulses, "", Warning, Redis, ""},
	event.RedisKeyUnusable:  {pulses, "", Warning, Redis, "server"},
	event.BoardFailed:       {pulses, "", Warning, Redis, ""},

	event.LogTrouble: {begins, "log-trouble", Warning, Log, "file"},
	event.LogMended:  {ends, "log-trouble", Info, Log, "file"},
	event.LogLost:    {pulses, "", Warning, Log, "file"},
	event.LogSkipped: {pulses, "", Warning, Log, "file"},

	event.QueueGrowth:      {begins, "queue-growth", Warning, Queue, ""},
	event.QueueGrowthEnded: {ends, "queue-growth", Info, Queue, ""},
	event.QueueFrozen:      {begins, "queue-frozen", Warning, Queue, ""},
	event.QueueFrozenEnded: {ends, "queue-frozen", Info, Queue, ""},
	event.QueueOld:         {begins, "queue-old", Warning, Queue, ""},
	event.QueueOldEnded:    {ends, "queue-old", Info, Queue, ""},
	event.HeldOld:          {begins, "held-old", Warning, Queue, ""},
	event.HeldExpires:      {begins, "held-old", Critical, Queue, ""},
	event.HeldOldEnded:     {ends, "held-old", Info, Queue, ""},
	event.QueueUnread:      {pulses, "", Warning, Queue, ""},

	event.JournalFailed:  {begins, "journal-failed", Critical, Store, ""},
	event.JournalMended:  {ends, "journal-failed", Info, Store, ""},
	event.JournalDamaged: {pulses, "", Critical, Store, ""},
	event.StoreFailed:    {pulses, "", Warning, Store, ""},
	event.MemoryCeiling:  {pulses, "", Critical, Store, ""},
	event.NoteUnread:     {pulses, "", Warning, Store, ""},
	event.HoldUnread:     {pulses, "", Warning, Store, ""},

	event.LockTrouble:   {begins, "lock-trouble", Warning, Locks, ""},
	event.LockDirMended: {ends, "lock-trouble", Info, Locks, ""},
	event.LockDirLost:   {pulses, "", Warning, Locks, ""},
	event.LockDirShared: {pulses, "", Warning, Locks, ""},
	event.LockIgnored:   {pulses, "", Info, Locks, ""},
	event.StopIgnored:   {pulses, "", Info, Locks, ""},

	event.ConfigRefused:   {begins, "config-refused", Warning, Config, ""},
	event.ConfigRead:      {ends, "config-refused", Info, Config, ""},
	event.OwnersGone:      {pulses, "", Warning, Config, ""},
	event.FileUnread:      {pulses, "", Warning, Config, ""},
	event.EximUserUnknown: {pulses, "", Warning, Config, ""},

	event.NodesDiffer:  {begins, "nodes-differ", Warning, Config, ""},
	event.NodesAgree:   {ends, "nodes-differ", Info, Config, ""},
	event.LogBehind:    {begins, "log-behind", Warning, Log, ""},
	event.LogNotBehind: {ends, "log-behind", Info, Log, ""},
	event.Unasked:      {begins, "unasked", Critical, Front, ""},
	event.Asked:        {ends, "unasked", Info, Front, ""},

	event.PolicyPanicked:   {pulses, "", Critical, Front, ""},
	event.PolicyCrowded:    {pulses, "", Warning, Front, ""},
	event.MilterPanicked:   {pulses, "", Critical, Front, ""},
	event.MilterCrowded:    {pulses, "", Warning, Front, ""},
	event.SocketSilent:     {pulses, "", Critical, Front, ""},
	event.SocketGone:       {pulses, "", Critical, Front, ""},
	event.SocketRemade:     {pulses, "", Warning, Front, ""},
	event.SocketOpen:       {pulses, "", Critical, Front, ""},
	event.SocketsHidden:    {pulses, "", Warning, Front, ""},
	event.WhoBroken:        {pulses, "", Warning, Front, ""},
	event.AddressesUnknown: {pulses, "", Warning, Front, ""},
	event.DeliverFailed:    {pulses, "", Warning, Front, ""},
}

// The names of causes of a domain's incidents.
const (
	CauseNear      = "near"      // a limit is nearly used up
	CauseLimit     = "limit"     // a limit is used up
	CauseSpike     = "spike"     // an author sends much more than in any hour of the last 35 days
	CauseDeferfail = "deferfail" // too much was deferred or failed: the domain is refused
	CauseCulprit   = "culprit"   // the same of one author, which alone is stopped
)

// ruleOf returns the rule of an event, the domain that it is about, empty for a condition of
// the node, and the scope of its cause; false if it is nothing to incidents.
func ruleOf(e event.Event) (r rule, domain, scope string, ok bool) {
	if r, ok = rules[e.Kind]; !ok {
		return r, "", "", false
	}
	if r.cause == "" {
		r.cause = string(e.Kind)
	}
	if r.scope != "" {
		scope = e.Attr(r.scope)
	}
	switch of := e.Attr("of"); {
	case r.condition != "":
		return r, "", scope, true
	case e.Kind == event.Stopped && of != "": // by Sluice, in place of the domain
		return rule{begins, CauseCulprit, Warning, "", ""}, of, e.Attr("scope"), true
	case e.Kind == event.Started && of != "":
		return rule{ends, CauseCulprit, Info, "", ""}, of, e.Attr("scope"), true
	case e.Domain != "":
		return r, e.Domain, scope, true
	}
	named := e.Attr("scope") // of a command
	return r, named[strings.LastIndexByte(named, '@')+1:], named, named != ""
}
