package doctor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
)

// running is what the running sluice reports, or why it does not answer.
type running struct {
	err     error
	version admin.Version
	config  []config.Value
	status  operator.Status
}

func (d *doctor) ask() (r running) {
	r.err = d.Ask(func(a *admin.Client) (err error) {
		if r.version, err = a.Version(d.ctx); err != nil {
			return err
		}
		if r.config, err = a.Config(d.ctx); err != nil {
			return err
		}
		r.status, err = a.Status(d.ctx, "")
		return err
	})
	return r
}

// progress is how far it has read the log that a key of the configuration names;
// nil if it follows none.
func (r *running) progress(key string) *logline.Progress {
	for _, l := range r.status.Totals.Logs {
		if l.Key == key && r.err == nil {
			return &l
		}
	}
	return nil
}

// checkServe looks whether sluice runs, whether it is this program, and whether
// it goes by this configuration.
func (d *doctor) checkServe() {
	if err := d.running.err; err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		do := "systemctl start sluice; journalctl -u sluice says why it ended."
		if errors.Is(err, admin.ErrSilent) {
			do = "systemctl restart sluice; journalctl -u sluice may say why it hangs."
		}
		d.wrong("serve", do, "no sluice answers, so nothing is counted and only lock files hold: %s", first)
		return
	}
	v := d.running.version
	switch {
	case v.Version != d.Version:
		d.wrong("serve", "systemctl restart sluice", "version %s runs since %s, and this program is %s", v.Version, printable.DateTime(v.Started), d.Version)
	case replaced(v.PID):
		d.wrong("serve", "systemctl restart sluice", "process %d runs a program that was replaced since %s", v.PID, printable.DateTime(v.Started))
	default:
		d.ok("serve", "process %d, version %s, since %s", v.PID, v.Version, printable.DateTime(v.Started))
	}
	d.checkConfig()
	d.checkCounts()
}

// checkCounts looks whether everything that is sent is counted, and kept.
func (d *doctor) checkCounts() {
	totals := d.running.status.Totals
	if totals.Journal != "ok" {
		d.wrong("counts", "Make room in "+d.config.Store.Dir+", or mend the disk.", "what is answered would not survive a crash: %s", totals.Journal)
	} else if totals.Uncounted > 0 {
		d.wrong("counts", "Raise store.max_subjects, or find out who makes up so many names.",
			"%s passed uncounted: store.max_subjects, %d, is reached", printable.Count(totals.Uncounted, "send", "sends"), d.config.Store.MaxSubjects)
	} else {
		d.ok("counts", "%s of %s, in %s", printable.Count(totals.Sends, "send", "sends"), printable.Count(totals.Subjects, "subject", "subjects"), d.config.Store.Dir)
	}
}

// replaced reports whether a process runs a program file that is gone.
func replaced(pid int) bool {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(program, " (deleted)")
}

// differing are the keys that are not the same in two configurations.
func differing(file, running []config.Value) []string {
	values := map[string]string{}
	for _, v := range running {
		values[v.Key] = fmt.Sprint(v.Value)
	}
	var keys []string
	for _, v := range file {
		if is, set := values[v.Key]; !set || is != fmt.Sprint(v.Value) {
			keys = append(keys, v.Key)
		}
		delete(values, v.Key)
	}
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// checkConfig looks whether what is in force is what the file and the panel say.
func (d *doctor) checkConfig() {
	const check = "configuration in force"
	c := d.running.status.Config
	differ := differing(d.config.Values(), d.running.config)
	switch {
	case c.Trouble != "":
		d.wrong(check, "Mend the file: it is read again by itself.", "the file as it is now is not in force: %s", c.Trouble)
	case len(c.Restart) > 0:
		d.wrong(check, "systemctl restart sluice", "comes into force with a restart: %s", strings.Join(c.Restart, ", "))
	case len(differ) > 0:
		d.wrong(check, "Wait a second and ask again, else systemctl restart sluice; or is it of another file (--config)?", "differs from the file in %s", strings.Join(differ, ", "))
	default:
		d.ok(check, "is that of the file")
	}
	skipped := slices.DeleteFunc(slices.Clone(c.Panel), func(line string) bool {
		return strings.HasPrefix(line, d.config.Identity.Owners+":") // see checkOwners
	})
	if n := len(skipped); n > 0 {
		d.wrong("panel", "Set it again in the panel, or mend the line.", "it skips %s of its files, the first is %s", printable.Count(int64(n), "line", "lines"), skipped[0])
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
	for _, n := range s.Nodes {
		if n.Namesake {
			d.wrong("names of nodes", "Give each node a store.node of its own (a cloned machine has that of its original), and restart sluice there.",
				"two live nodes are called %s: both work in their shares of what is left", n.Node)
		}
	}
	if !s.Reached() {
		d.note("nodes", "", "which nodes share this Redis is not known until it answers")
		return
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
		d.wrong("nodes", "See to sluice and to the way to Redis there.", "no sign of life from %s", strings.Join(silent, ", "))
	case int64(len(s.Nodes)) != s.Of:
		d.wrong("nodes", "Set store.nodes to the number of nodes, on all of them: each one's share of a limit while Redis is away follows from it.",
			"%s this Redis, and store.nodes is %d", printable.Count(int64(len(s.Nodes)), "node shares", "nodes share"), s.Of)
	case len(differ) > 0:
		d.wrong("nodes", "Give all nodes the same limits; `sluice config` on each shows them.", "%s has other limits than this node", strings.Join(differ, ", "))
	default:
		d.ok("nodes", "%d of %d, with the same limits", len(s.Nodes), s.Of)
	}
}

// signPatience is after how many seconds without a sign a node is silent. They
// come every second.
const signPatience = 10

func (d *doctor) checkServer(server operator.ServerStatus, s *operator.SharedStatus) {
	check := "Redis " + server.Server
	switch {
	case server.Blocked:
		d.wrong(check, "Where the unit denies all addresses, allow those of Redis: `systemctl edit sluice`, [Service], IPAddressAllow=ADDRESS, then systemctl restart sluice (docs/cluster.md). Else see to the firewall of this host.",
			"does not decide since %s: %s", printable.DateTime(server.Since), server.Trouble)
	case server.Trouble != "":
		d.wrong(check, fmt.Sprintf("See to that server. Until then this node decides by store.outage, %s.", s.Mode), "does not decide since %s: %s", printable.DateTime(server.Since), server.Trouble)
	case server.BadKey != "":
		d.wrong(check, "Delete that key (redis-cli DEL), and see who else writes to this Redis.", "whom a key is about each node counts alone: %s", server.BadKey)
	case server.Evicts != "":
		d.wrong(check, "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf.", "its maxmemory-policy is %s: when its memory is full it drops counts, and so hands out new budgets", server.Evicts)
	default:
		d.ok(check, "answers within %.1f ms and evicts nothing", server.Milliseconds)
	}
}
