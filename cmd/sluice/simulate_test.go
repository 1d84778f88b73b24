package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/mainlog/mainlogtest"
	"sluice/sidecar/policyd/policytest"
)

// simulateRun runs the command and returns what it has found.
func simulateRun(t testing.TB, args ...string) simulated {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), append([]string{"simulate", "--json"}, args...), nil, &stdout, &stderr); code != exitDone {
		t.Fatalf("simulate %s: exit %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	var found simulated
	if err := json.Unmarshal(stdout.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// simulateConfig is a configuration without the files of this machine.
func simulateConfig(t testing.TB, limits string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.toml")
	text := "[store]\nnode = \"mx1\"\n[exim]\nlocal_domains = [\"here.example\"]\n[identity]\nowners = \"\"\nmain_domains = \"\"\n[limits]\n" + limits
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// writeLogs writes a log of a busy Exim in parts of so many bytes, the oldest
// packed, and returns their names and what is true of it.
func writeLogs(t testing.TB, dir string, parts, size int) (names []string, truth map[string]mainlogtest.Counts) {
	t.Helper()
	log := mainlogtest.New(7, 300, time.Date(2026, 11, 20, 8, 0, 0, 0, time.Local), 40*time.Millisecond)
	for n := range parts {
		name := filepath.Join(dir, fmt.Sprintf("mainlog.%d", parts-n))
		var text bytes.Buffer
		for text.Len() < size {
			for _, line := range log.Next() {
				text.WriteString(line)
			}
		}
		if n == 0 {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(text.Bytes())
			z.Close()
			name, text = name+".gz", packed
		}
		if err := os.WriteFile(name, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names, log.Truth
}

// A log, of 20 MB in the soak, rotated and packed and in any order: without limits all is sent,
// and what became of it is what is true of the log.
func TestSimulateALogInParts(t *testing.T) {
	t.Parallel()
	size := 1 << 20
	if hosttest.Soak() {
		size = 5 << 20
	}
	names, truth := writeLogs(t, t.TempDir(), 4, size)
	var want mainlogtest.Counts
	for _, c := range truth {
		want.Sent, want.Failed = want.Sent+c.Sent, want.Failed+c.Deferred+c.Failed
	}
	args := []string{names[2], names[0], names[3], names[1], names[2], "--config", simulateConfig(t, "hourly = 0\ndeferfail_percent = 0\n")}
	got := simulateRun(t, args...).Simulation
	if got.Sent != want.Sent || got.Bad != want.Failed || got.Refused != 0 || got.Senders != int64(len(truth)) || len(got.Domains) != 0 {
		t.Errorf("of %d domains %+v, simulated: %+v", len(truth), want, got)
	}
}

// --suggest is the least limit that touches so few domains: one less touches more. It counts
// what its table shows: who trips, or has another limit, is touched by whatever limit.
func TestSuggestedLimitIsTheLeast(t *testing.T) {
	t.Parallel()
	names, _ := writeLogs(t, t.TempDir(), 1, 1<<20)
	args := append(names, "--config", simulateConfig(t, "deferfail_min = 3\ndeferfail_percent = 20\n[limits.domain.\"d1.example\"]\nhourly = 1\n"))
	touched := func(hourly int64) int {
		return len(simulateRun(t, append(args, "--set", "default", fmt.Sprintf("hourly=%d", hourly))...).Simulation.Domains)
	}
	anyway := touched(0)
	if anyway < 2 {
		t.Fatalf("%d domains are refused something without a limit: too few for this test", anyway)
	}
	for _, most := range []int{0, anyway - 1, anyway, anyway + 7, 100} {
		suggested := simulateRun(t, append(args, "--suggest", fmt.Sprint(most))...).Suggested
		if suggested.Domains != most || suggested.Anyway != anyway || (suggested.Hourly == nil) != (most < anyway) {
			t.Errorf("asked for %d, %d are touched anyway: %+v", most, anyway, suggested)
		}
		if suggested.Hourly == nil {
			continue
		}
		at, below := touched(*suggested.Hourly), touched(*suggested.Hourly-1)
		if at > most || below <= most {
			t.Errorf("hourly = %d is suggested for at most %d domains; it touches %d, and one less %d", *suggested.Hourly, most, at, below)
		}
	}
}

func TestSuggestedLimitInWords(t *testing.T) {
	names, _ := writeLogs(t, t.TempDir(), 1, 1<<20)
	for _, c := range []struct{ n, limits, says string }{
		{"0", "deferfail_percent = 0\n", "is the least limit by which no domain would have been refused anything.\n"},
		{"1", "deferfail_percent = 0\n", "by which at most 1 domain would have"},
		{"9", "deferfail_percent = 0\n[limits.domain.\"d1.example\"]\nhourly = 1\n", "anything.\nAmong these are 1 to which that happens whatever the limit is, each for defers"},
		{"0", "deferfail_percent = 0\n[limits.domain.\"d1.example\"]\nhourly = 1\n", "There is no hourly limit by which no domain would have been refused anything: whatever it is, "},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"simulate", names[0], "--suggest", c.n, "--config", simulateConfig(t, c.limits)}, nil, &stdout, &stderr)
		if code != exitDone || !strings.Contains(stdout.String(), c.says) {
			t.Errorf("--suggest %s: exit %d, %q is not in\n%s%s", c.n, code, c.says, stdout.String(), stderr.String())
		}
	}
}

// What is true of this host is not believed of another one's log: A-10.
func TestALogOfAnotherHost(t *testing.T) {
	dir := t.TempDir()
	// Of this host shop.example is local, and ext@other.example's domain is bob's.
	writeFile(t, dir+"/localdomains", "shop.example\n")
	writeFile(t, dir+"/owners", "shop.example: bob\nother.example: bob\n")
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[exim]\nmainlog = %q\nlocal_domains = [%q]\n[identity]\nowners = %q\n[panel]\nfollow = false\n",
		dir+"/logs/mainlog", dir+"/localdomains", dir+"/owners"))
	for _, d := range []string{"/logs", "/copied"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"/mainlog", "/mainlog.2"} {
			writeFile(t, dir+d+name, `2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= news@shop.example H=(pc) [192.0.2.10]:4000 P=esmtpsa A=dovecot_login:news@shop.example S=1000 T="hi" for x@far.example y@home.example z@shop.example
2026-11-28 10:00:01 1xAAAA-00000000001-0001 ** x@far.example R=lookuphost T=remote_smtp H=mx.far.example [192.0.2.20]: SMTP error from remote mail server after RCPT TO:<x@far.example>: 550 5.1.1 no such user
2026-11-28 10:00:01 1xAAAA-00000000001-0001 => y <y@home.example> R=localuser T=local_delivery
2026-11-28 10:00:01 1xAAAA-00000000001-0001 => z <z@shop.example> R=localuser T=local_delivery
`)
		}
	}
	for _, c := range []struct {
		args    string
		foreign bool
		sent    int64 // y is on that host, and only its log says so; z is on both
	}{
		{"logs/mainlog", false, 1}, {"logs/mainlog.2", false, 1}, {"logs/../logs/mainlog", false, 1},
		{"copied/mainlog", true, 1}, {"copied/mainlog --no-foreign", false, 1}, {"logs/mainlog --foreign", true, 1},
	} {
		args := strings.Fields(c.args)
		args[0] = filepath.Join(dir, args[0])
		found := simulateRun(t, append(args, "--config", dir+"/sluice.toml")...)
		if found.Foreign != c.foreign || found.Simulation.Sent != c.sent || found.Simulation.Senders != 1 {
			t.Errorf("%s: %+v", c.args, found)
		}
	}
}

func TestSimulateComparesTwoSettings(t *testing.T) {
	t.Parallel()
	names, _ := writeLogs(t, t.TempDir(), 1, 3<<20)
	here, there := simulateConfig(t, "hourly = 25\ndeferfail_percent = 0\n"), simulateConfig(t, "hourly = 20\ndeferfail_percent = 0\n")
	both := simulateRun(t, append(names, "--config", here, "--compare", there)...)
	alone := simulateRun(t, append(names, "--config", there)...)
	if both.Compared == nil || both.Compared.Refused == 0 || both.Compared.Refused <= both.Simulation.Refused {
		t.Fatalf("with 20 as with 25: %+v", both)
	}
	if diff := cmp.Diff(alone.Simulation, *both.Compared); diff != "" {
		t.Errorf("alone and compared, -alone +compared:\n%s", diff)
	}
	set := simulateRun(t, append(names, "--config", here, "--set", "default", "hourly=20")...)
	if diff := cmp.Diff(alone.Simulation, set.Simulation); diff != "" {
		t.Errorf("in the file and by --set, -file +set:\n%s", diff)
	}
}

func TestSimulateSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	names, _ := writeLogs(t, dir, 1, 1000)
	noLog, config := filepath.Join(dir, "no.log"), simulateConfig(t, "")
	if err := os.WriteFile(noLog, []byte("dear all\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	cut, plain, xz := filepath.Join(dir, "cut.gz"), filepath.Join(dir, "plain.gz"), filepath.Join(dir, "log.xz")
	if err := errors.Join(os.WriteFile(xz, []byte("\xfd7zXZ\x00\x00\x04\xe6\xd6"), 0o644), os.WriteFile(cut, packed[:len(packed)/2], 0o644), os.WriteFile(plain, []byte("dear all, this is no archive\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{filepath.Join(dir, "none")}, "no such file"},
		{[]string{dir}, "it is no regular file"},
		{[]string{cut}, "cut.gz: unpack it: unexpected EOF; leave it out"},
		{[]string{plain}, "plain.gz: gzip: invalid header: it is not compressed by gzip: give its name another ending"},
		{[]string{noLog}, "no main log of Exim's"},
		{[]string{xz}, "it is compressed by xz: unpack it first, by xz -dk"},
		{[]string{names[0], "--set", "default", "hourly=-1"}, "hourly"},
		{[]string{names[0], "--set", "default", "hourley=3"}, `did you mean "hourly"`},
		{[]string{names[0], "--set", "default"}, "nothing to set"},
		{[]string{names[0], "--set", "defualt", "hourly=3"}, `--set defualt: that is no domain that is known here, and has no dot; did you mean "default"?`},
		{[]string{names[0], "--set", "acount:bob", "hourly=3"}, `scope "acount:bob" must be`},
		{[]string{names[0], "--suggest=-1"}, "--suggest"},
		{[]string{names[0], "--compare", filepath.Join(dir, "none")}, "no such file"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"simulate", "--config", config}, c.args...), nil, &stdout, &stderr)
		if code != exitError || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit %d, %q is not in\n%s", c.args, code, c.says, stderr.String())
		}
	}
}

// BenchmarkSimulate simulates a log of 1 GB, beside a node that counts the outcomes
// of the same one (as in BenchmarkMainLog), and tells of each quarter of it how much
// memory was alive. They take turns; the ratio is the median of the rounds. The day's
// log has the same messages, thirteen times as far apart. Alive is what is in the
// windows, which are full after the first hour, and what is in Exim's queue, which
// grows in this log: one message in thirty never leaves it. SLUICE_BENCH_MB makes it
// another size.
func BenchmarkSimulate(b *testing.B) {
	megabytes := int64(1024)
	if size := os.Getenv("SLUICE_BENCH_MB"); size != "" {
		var err error
		if megabytes, err = strconv.ParseInt(size, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		every time.Duration
	}{{"two-hours", 5 * time.Millisecond}, {"a-day", 66 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			path := filepath.Join(dir, "mainlog")
			lines, size := writeLog(b, path, megabytes<<20, c.every)
			config := simulateConfig(b, "hourly = 500\n")
			const rounds = 5
			var ratios []float64
			for b.Loop() {
				for range rounds {
					outcomes := followed(b, dir, path)
					ctx, stop := context.WithCancel(context.Background())
					alive := make(chan []uint64)
					go func() { alive <- sampleAlive(ctx) }()
					start := time.Now()
					found := simulateRun(b, path, "--config", config).Simulation
					took := time.Since(start)
					stop()
					b.ReportMetric(float64(lines)/took.Seconds(), "lines/s")
					ratios = append(ratios, outcomes.Seconds()/took.Seconds())
					quarters := quarterPeaks(<-alive)
					b.ReportMetric(quarters[1], "alive-MB-half")
					b.ReportMetric(quarters[3], "alive-MB-end")
					b.Logf("%d lines, %.0f MB: outcomes in %v, simulated in %v: %d sent, %d refused; alive in each quarter: %.0f MB", lines, float64(size)/1e6,
						outcomes.Round(time.Millisecond), took.Round(time.Millisecond), found.Sent, found.Refused, quarters)
				}
				b.ReportMetric(policytest.Median(ratios), "of-outcomes")
			}
		})
	}
}

// sampleAlive is how much the garbage collector found alive, as often as it is
// looked at, until ctx is done.
func sampleAlive(ctx context.Context) (alive []uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		metrics.Read(sample)
		alive = append(alive, sample[0].Value.Uint64())
	}
	return alive
}

// quarterPeaks are the greatest of each quarter of samples, in MB.
func quarterPeaks(samples []uint64) (peaks [4]float64) {
	for i, s := range samples {
		peak := &peaks[i*4/len(samples)]
		*peak = max(*peak, float64(s)/1e6)
	}
	return peaks
}

// Just after logrotate there is nothing to tell, and no dates to tell it of.
func TestSimulateAnEmptyLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "mainlog")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"simulate", log, "--config", simulateConfig(t, "")}, nil, &stdout, &stderr); code != exitDone ||
		stdout.String() != "There is no mail in the logs.\n" {
		t.Errorf("exit %d: %s%s", code, stdout.String(), stderr.String())
	}
}

// A bounce in the log of a host whose Exim runs as another user is Exim's own, and charges
// nobody of this host: A-10.
func TestABounceOfAnotherHost(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	writeFile(t, log, `2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= news@shop.example H=(pc) [192.0.2.10]:4000 P=esmtpsa X=TLS1.3 A=dovecot_login:news@shop.example S=1000 id=a@b T="hi" for x@far.example
2026-11-28 10:00:01 1xAAAA-00000000001-0001 ** x@far.example R=lookuphost T=dkim_remote_smtp H=mx.far.example [192.0.2.20]: SMTP error from remote mail server after RCPT TO:<x@far.example>: 550 5.1.1 no such user
2026-11-28 10:00:01 1xAAAB-00000000002-0002 <= <> R=1xAAAA-00000000001-0001 U=mailnull P=local S=2000 T="Mail delivery failed: returning message to sender" for ext@other.example
2026-11-28 10:00:02 1xAAAB-00000000002-0002 => ext@other.example R=lookuphost T=remote_smtp H=mx.other.example [192.0.2.30] C="250 OK"
`)
	found := simulateRun(t, log)
	if s := found.Simulation; !found.Foreign || s.Senders != 1 || s.Sent != 1 || s.Bad != 1 {
		t.Errorf("%+v", found)
	}
}

// A name of which the logs have nothing may be a typo: it is said, and simulated all the same.
func TestSimulateWarnsOfNamesThatAreNotInTheLogs(t *testing.T) {
	names, truth := writeLogs(t, t.TempDir(), 1, 100<<10)
	seen := slices.Sorted(maps.Keys(truth))[0]
	typo := strings.Replace(seen, "example", "exmaple", 1)
	var stdout, stderr bytes.Buffer
	args := []string{"simulate", names[0], "--config", simulateConfig(t, "")}
	for _, scope := range []string{typo, typo, seen, "news@" + typo, "nobody@" + seen, "account:bob", "forward:" + typo, "service:nobody", "default", "system"} {
		args = append(args, "--set", scope, "hourly=9")
	}
	code := run(t.Context(), args, nil, &stdout, &stderr)
	want := ""
	for _, w := range []string{"account:bob: nothing in the logs is charged to account:bob", typo + ": nothing in the logs is charged to " + typo + "; did you mean " + seen + "?",
		"forward:" + typo + ": nothing in the logs is charged to forward:" + typo, "news@" + typo + ": nothing in the logs is charged to " + typo + "; did you mean " + seen + "?",
		"nobody@" + seen + ": nothing in the logs is charged to nobody@" + seen, "service:nobody: nothing in the logs is charged to service:nobody"} {
		want += "sluice: warning: --set " + w + "\n"
	}
	if code != exitDone || stderr.String() != want {
		t.Errorf("exit %d, warned\n%swant\n%s", code, &stderr, want)
	}
}

// one relay host defers the mail of five tenants, each to recipients at domains of their own, as
// Exim logs it now and did before 4.87. What they send next is refused to none of them.
func TestSimulateExcusesWhoIsDeferredWithOthers(t *testing.T) {
	for name, deferral := range map[string]string{
		"H=":     "defer (-44) H=relay.provider.example [198.51.100.7]: SMTP error from remote mail server after RCPT TO:<%s>: 450 4.7.1 try again later",
		"4.86":   "defer (-44): SMTP error from remote mail server after RCPT TO:<%s>: host relay.provider.example [198.51.100.7]: 450 4.7.1 try again later",
		"silent": "defer (110): Connection timed out: SMTP timeout while connected to relay.provider.example [198.51.100.7] after RCPT TO:<%s>",
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			for n := range 30 { // the last five are delivered
				at := time.Date(2026, 11, 20, 8, 0, n, 0, time.Local)
				domain, to := fmt.Sprintf("u%d.example", n%5), fmt.Sprintf("a@far%d.example", n)
				stamp := at.Format("2006-01-02 15:04:05 ") + mainlogtest.ID(at, n)
				fmt.Fprintf(&log, "%s <= x@%s H=(pc) [192.0.2.10] P=esmtpsa A=login:x@%[2]s S=900 for %s\n", stamp, domain, to)
				if n < 25 {
					fmt.Fprintf(&log, "%s == %s R=smart T=smarthost_smtp "+deferral+"\n", stamp, to, to)
				} else {
					fmt.Fprintf(&log, "%s => %s R=smart T=smarthost_smtp H=relay.provider.example [198.51.100.7] C=\"250 OK\"\n", stamp, to)
				}
			}
			file := filepath.Join(t.TempDir(), "log")
			writeFile(t, file, log.String())
			if s := simulateRun(t, file, "--config", simulateConfig(t, "")).Simulation; s.Senders != 5 || s.Sent != 30 || s.Bad != 25 || s.Refused != 0 || len(s.Domains) > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Of a log of another host nobody knows which domains are local there. What its aliases and
// lists have made of an address is sent all the same, and not the address beside it.
func TestAForwarderOfAnotherHostIsCountedOnce(t *testing.T) {
	const arrival, id = "2026-11-28 10:00:00 1xAAAA-000001-01 <= ", "2026-11-28 10:00:01 1xAAAA-000001-01 "
	const by = " R=lookuphost T=remote_smtp H=mx [192.0.2.20]\n"
	for _, c := range []struct {
		log  string
		want map[string]int64
	}{
		{arrival + "x@far.example H=(pc) [192.0.2.10] P=esmtp S=1 for info@shop.example\n" + id + "=> bob@other.example <info@shop.example>" + by,
			map[string]int64{"forward:shop.example": 1}},
		{arrival + "news@shop.example H=(pc) [192.0.2.10] P=esmtpsa A=plain:news@shop.example S=1\n" + id + "=> a@far.example <list@lists.example>" + by +
			id + "== b@far.example <list@lists.example>" + by + id + "=> c@far.example" + by,
			map[string]int64{"shop.example": 1, "forward:lists.example": 2}},
		{arrival + "news@shop.example H=(pc) [192.0.2.10] P=esmtpsa A=plain:news@shop.example S=1\n" +
			id + `=> a b@far.example <"A b"@far.example>` + by + id + "== 1xAAAA-000001-01-0123456789ab@hold.sluice.invalid <c@far.example> R=sluice_hold defer (-1): Domain shop.example is locked.\n",
			map[string]int64{"shop.example": 2}}, // no alias, and no redirect but Sluice's own
	} {
		name := filepath.Join(t.TempDir(), "log")
		writeFile(t, name, c.log)
		who, end := readWho(t, "", name)
		got := map[string]int64{}
		for _, d := range who.Scope(end, "", 10) {
			got[d.Domain] += d.Sent
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%v, want %v:\n%s", got, c.want, c.log)
		}
	}
}

// A client that has not logged in and sends to elsewhere is one for which Exim relays: it is charged
// as serve charges it. Who sends to somebody here, or to a forwarder, is not.
func TestClientsThatRelayAreCounted(t *testing.T) {
	const arrival, id = "2026-11-28 10:00:00 1xAAAA-000001-01 <= x@shop.example H=(pc) [198.51.100.7] P=esmtp S=1\n", "2026-11-28 10:00:01 1xAAAA-000001-01 "
	const by = " R=lookuphost T=remote_smtp H=mx [192.0.2.20]\n"
	for _, c := range []struct {
		log, want string
		sent      int64
	}{
		{arrival + id + "=> a@far.example" + by + id + "** b@far.example" + by + id + "** c@nowhere.example: Unrouteable address\n", "relay:198.51.100.7 client:198.51.100.7 3", 3},
		{arrival + id + "=> a@far.example <info@shop.example>" + by, "forward:shop.example forward:info@shop.example 1", 1},
		{arrival + id + "** nosuch@shop.example: Unrouteable address\n" + id + "=> info <info@shop.example> R=local T=local_delivery\n", "", 0},
	} {
		name, got := filepath.Join(t.TempDir(), "log"), ""
		writeFile(t, name, c.log)
		who, end := readWho(t, "", name)
		for _, d := range who.Scope(end, "", 10) {
			for _, a := range d.Authors {
				got += fmt.Sprintf("%s %s %d", d.Domain, a.Key, a.Sent)
			}
		}
		if got != c.want {
			t.Errorf("%q, want %q:\n%s", got, c.want, c.log)
		}
		if found := simulateRun(t, name, "--foreign"); found.Simulation.Sent != c.sent {
			t.Errorf("%d sent in a simulation of\n%s", found.Simulation.Sent, c.log)
		}
	}
}

// In a log of another host, of which there is no owner map, a login as the panels take it is the
// mailbox that it names, in whatever name it sends. Other logins are none.
func TestPanelLoginsOfAnotherHost(t *testing.T) {
	for login, want := range map[string]string{
		"news@shop.example": "shop.example news@shop.example", "News+shop.example": "shop.example news@shop.example", "news%shop.example": "shop.example news@shop.example",
		"news:shop.example": "shop.example news@shop.example", "bob": "forged.example login:bob", "bob+tag": "forged.example login:bob+tag", "bob+a..b": "forged.example login:bob+a..b",
	} {
		name := filepath.Join(t.TempDir(), "log")
		writeFile(t, name, "2026-11-28 10:00:00 1xAAAA-000001-01 <= x@forged.example H=(pc) [198.51.100.7] P=esmtpsa A=plain:"+login+" S=1\n"+
			"2026-11-28 10:00:01 1xAAAA-000001-01 => a@far.example R=lookuphost T=remote_smtp H=mx [192.0.2.20]\n")
		who, end := readWho(t, "", name)
		got := ""
		for _, d := range who.Scope(end, "", 10) {
			got += d.Domain + " " + d.Authors[0].Key
		}
		if got != want {
			t.Errorf("%s: %q, want %q", login, got, want)
		}
	}
}
