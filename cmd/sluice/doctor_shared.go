package main

import (
	"fmt"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/operator"
)

// What doctor learns from the running sluice of its configuration, of the panel,
// and of the nodes that share its counts.

// checkConfig looks whether what is in force is what the files say.
func (d *doctor) checkConfig() {
	const check = "configuration in force"
	c := d.running.status.Config
	differ := differing(d.config.Values(), d.running.config)
	switch {
	case c.Trouble != "":
		d.add(check, wrong, "Mend the file: it is read again by itself.", "the file as it is now is not in force: %s", c.Trouble)
	case len(c.Restart) > 0:
		d.add(check, wrong, "systemctl restart sluice", "comes into force with a restart: %s", strings.Join(c.Restart, ", "))
	case len(differ) > 0:
		d.add(check, wrong, "Wait a second and ask again, else systemctl restart sluice; or is it of another file (--config)?", "differs from the file in %s", strings.Join(differ, ", "))
	default:
		d.add(check, healthy, "", "is that of the file")
	}
	skipped := slices.DeleteFunc(slices.Clone(c.Panel), func(line string) bool {
		return strings.HasPrefix(line, d.config.Identity.Owners+":") // see checkOwners
	})
	if n := len(skipped); n > 0 {
		d.add("panel", wrong, "Set it again in the panel, or mend the line.", "it skips %s of its files, the first is %s", sidecar.Count(int64(n), "line", "lines"), skipped[0])
	}
}

// checkShared looks at Redis, and at the other nodes.
func (d *doctor) checkShared() {
	s := d.running.status.Totals.Shared
	if s == nil {
		return
	}
	for _, server := range s.Servers {
		d.checkServer(server, s)
	}
	var silent, differ []string
	for _, n := range s.Nodes {
		if n.SignAge > signPatience {
			silent = append(silent, fmt.Sprintf("%s (%.0f s)", n.Node, n.SignAge))
		}
		if n.Differs {
			differ = append(differ, n.Node)
		}
	}
	switch {
	case len(silent) > 0:
		d.add("nodes", wrong, "See to sluice and to the way to Redis there.", "no sign of life from %s", strings.Join(silent, ", "))
	case int64(len(s.Nodes)) != s.Of:
		d.add("nodes", wrong, "Set store.nodes to the number of nodes, on all of them: each one's share of a limit while Redis is away follows from it.",
			"%s this Redis, and store.nodes is %d", sidecar.Count(int64(len(s.Nodes)), "node shares", "nodes share"), s.Of)
	case len(differ) > 0:
		d.add("nodes", wrong, "Give all nodes the same limits; `sluice config` on each shows them.", "%s has other limits than this node", strings.Join(differ, ", "))
	default:
		d.add("nodes", healthy, "", "%d of %d, with the same limits", len(s.Nodes), s.Of)
	}
}

// signPatience is after how many seconds without a sign a node is silent. They
// come every second.
const signPatience = 10

func (d *doctor) checkServer(server operator.ServerStatus, s *operator.SharedStatus) {
	check := "Redis " + server.Server
	switch {
	case server.Trouble != "":
		d.add(check, wrong, fmt.Sprintf("See to that server. Until then this node decides by store.outage, %s.", s.Mode), "does not decide since %s: %s", sidecar.DateTime(server.Since), server.Trouble)
	case server.Evicts != "":
		d.add(check, wrong, "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf.", "its maxmemory-policy is %s: when its memory is full it drops counts, and so hands out new budgets", server.Evicts)
	default:
		d.add(check, healthy, "", "answers within %.1f ms and evicts nothing", server.Milliseconds)
	}
}
