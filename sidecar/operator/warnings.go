package operator

import (
	"fmt"
	"slices"
	"strings"

	"sluice/sidecar/live"
	"sluice/sidecar/printable"
)

// Warnings are what is wrong with a node, where somebody has to act, in words. One that begins with
// ERROR is about more than what is shown.
func (s *Status) Warnings() []string {
	return slices.Concat(configWarnings(&s.Config), s.Totals.warnings(), s.Totals.Shared.warnings(), s.partialWarning())
}

// PartialCounts says what marked counts are.
const PartialCounts = "what this node accepted, or last saw of all nodes if that is more. " +
	"What other nodes have sent is missing here and not lost: it shows again when Redis answers"

// partialWarning explains the marks, if there are any.
func (s *Status) partialWarning() []string {
	if slices.ContainsFunc(s.Domains, func(d DomainStatus) bool { return d.Partial }) ||
		slices.ContainsFunc(s.Scopes, func(sc ScopeStatus) bool { return sc.Partial }) {
		return []string{"counts with a * are " + PartialCounts + "."}
	}
	return nil
}

// configWarnings are about what the file has and is not in force.
func configWarnings(c *live.ConfigStatus) (w []string) {
	if c.Trouble != "" {
		w = append(w, fmt.Sprintf("%s is not in force as it is now, but as it was read at %s: %s", c.File, printable.DateTime(c.Read), c.Trouble))
	}
	if len(c.Restart) > 0 {
		w = append(w, fmt.Sprintf("what %s says of %s comes into force with a restart.", c.File, strings.Join(c.Restart, ", ")))
	}
	if n := len(c.Panel); n > 0 {
		w = append(w, fmt.Sprintf("%s of the panel skipped: %s", printable.Count(int64(n), "line", "lines"), strings.Join(c.Panel[:min(n, 3)], "; ")))
	}
	return w
}

// warnings are about the state of the whole node, where somebody has to act.
func (t *Totals) warnings() []string {
	var w []string
	if t.Journal != "" && t.Journal != "ok" {
		w = append(w, fmt.Sprintf("what is answered now would not survive a crash: %s. "+
			"Look at the file system of store.dir; mail goes on meanwhile.", t.Journal))
	}
	if t.Locks != "" && t.Locks != "ok" {
		w = append(w, fmt.Sprintf("lock files do not hold while sluice is stopped: %s. "+
			"Mail is counted and refused all the same.", t.Locks))
	}
	if t.Sockets != "" && t.Sockets != "ok" {
		w = append(w, "programs on this host that send over SMTP without AUTH share one budget: "+t.Sockets+".")
	}
	for _, l := range t.Logs {
		if l.Trouble != "" {
			w = append(w, fmt.Sprintf("outcomes are not counted: %s. Look at %s.", l.Trouble, l.Key))
		}
		if l.Lost != nil {
			w = append(w, l.LostPart()+". The log of sluice names the file, and says what to do.")
		}
	}
	if t.Who.Trouble != "" {
		first, _, _ := strings.Cut(t.Who.Trouble, "\n")
		w = append(w, fmt.Sprintf("who sends is not known until sluice is restarted: %s. Limits hold; please report it.", first))
	}
	if t.Who.Dropped > 0 {
		w = append(w, fmt.Sprintf("who sends was forgotten of %s since the start, because who.memory is full. Limits hold.",
			printable.Count(t.Who.Dropped, "quiet domain", "quiet domains")))
	}
	if t.Uncounted > 0 {
		w = append(w, fmt.Sprintf("%d sends of new subjects passed uncounted, because %s are counted, "+
			"which is store.max_subjects. Raise it.", t.Uncounted, printable.Count(t.Subjects, "subject", "subjects")))
	}
	return w
}

// warnings are about what is wrong between the nodes.
func (s *SharedStatus) warnings() (w []string) {
	if s == nil {
		return nil
	}
	if len(s.Servers) == 0 {
		w = append(w, fmt.Sprintf("no server of store.url answers: this node decides alone (store.outage = %q).", s.Mode))
	}
	for _, server := range s.Servers {
		if server.Mode != "shared" && server.Trouble != "" {
			w = append(w, fmt.Sprintf("Redis %s cannot be asked since %s: %s. This node decides alone (store.outage = %q).",
				server.Server, printable.DateTime(server.Since), strings.TrimSuffix(server.Trouble, "."), server.Mode)) // servers end some with a full stop
		}
		if server.Evicts != "" {
			w = append(w, server.evictionWarning())
		}
		if server.BadKey != "" {
			w = append(w, fmt.Sprintf("a key of Redis is not as Sluice writes it: %s. Whom it is about each node counts alone; delete it there (redis-cli DEL).", server.BadKey))
		}
	}
	if s.Unmerged > 0 {
		w = append(w, fmt.Sprintf("%s happened here that Redis does not know yet; it is told when it answers.",
			printable.Count(int64(s.Unmerged), "thing", "things")))
	}
	for _, n := range s.Nodes {
		if n.Namesake {
			w = append(w, fmt.Sprintf("ERROR: two live nodes are called %s, as a cloned machine and its original are: both work in their shares of what is left. "+
				"Give each a store.node of its own, and restart sluice there.", n.Node))
		}
		if n.Differs {
			w = append(w, fmt.Sprintf("%s has other limits in its configuration than this node.", n.Node))
		}
	}
	if int64(len(s.Nodes)) > s.Of {
		w = append(w, fmt.Sprintf("%d nodes share this Redis, and store.nodes says %d: without Redis they would accept "+
			"more than they should. Set it on all nodes.", len(s.Nodes), s.Of))
	}
	return w
}

func (s *ServerStatus) evictionWarning() string {
	return fmt.Sprintf("Redis %s drops counters when its memory is full (maxmemory-policy %s), and each of them is a new budget. "+
		"Set maxmemory-policy noeviction.", s.Server, s.Evicts)
}
