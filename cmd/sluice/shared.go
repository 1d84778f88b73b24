package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/operator"
)

// printShared prints the nodes that share the counts.
func printShared(w io.Writer, s operator.SharedStatus) {
	if len(s.Nodes) == 0 {
		fmt.Fprintln(w, "\nWhich nodes share the counts is not known until Redis answers.")
		return
	}
	rows := [][]sidecar.Text{cells("NODE", "LAST SIGN", "MODE", "STORE")}
	for _, n := range s.Nodes {
		age := time.Duration(n.SignAge * float64(time.Second))
		rows = append(rows, cells(n.Node, sidecar.Brief(age)+" ago", n.Mode, fmt.Sprintf("%.1f ms", n.Milliseconds)))
	}
	fmt.Fprintln(w)
	printTable(w, "lrlr", rows)
	printf(w, "%s of store.nodes = %d; the mode here changed %s since the start.\n",
		sidecar.Count(int64(len(s.Nodes)), "node", "nodes"), s.Of, sidecar.Count(s.Changes, "time", "times"))
}

// sharedWarnings are about what is wrong between the nodes.
func sharedWarnings(s *operator.SharedStatus) (w []string) {
	if s == nil {
		return nil
	}
	if len(s.Servers) == 0 {
		w = append(w, fmt.Sprintf("no server of store.url answers: this node decides alone (store.outage = %q).", s.Mode))
	}
	for _, server := range s.Servers {
		if server.Mode != "shared" && server.Trouble != "" {
			w = append(w, fmt.Sprintf("Redis %s cannot be asked since %s: %s. This node decides alone (store.outage = %q).",
				server.Server, sidecar.DateTime(server.Since), strings.TrimSuffix(server.Trouble, "."), server.Mode)) // servers end some with a full stop
		}
		if server.Evicts != "" {
			w = append(w, evictionWarning(server))
		}
		if server.BadKey != "" {
			w = append(w, fmt.Sprintf("a key of Redis is not as Sluice writes it: %s. Whom it is about each node counts alone; delete it there (redis-cli DEL).", server.BadKey))
		}
	}
	if s.Unmerged > 0 {
		w = append(w, fmt.Sprintf("%s happened here that Redis does not know yet; it is told when it answers.",
			sidecar.Count(int64(s.Unmerged), "thing", "things")))
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

func evictionWarning(s operator.ServerStatus) string {
	return fmt.Sprintf("Redis %s drops counters when its memory is full (maxmemory-policy %s), and each of them is a new budget. "+
		"Set maxmemory-policy noeviction.", s.Server, s.Evicts)
}
