package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// logRun runs sluice log and returns what it has printed, and the exit code.
func logRun(t testing.TB, args ...string) (printed string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"log"}, args...), nil, &stdout, &stderr)
	if code == exitError {
		t.Fatalf("log %s: %s", strings.Join(args, " "), stderr.String())
	}
	return stdout.String(), code
}

// relayConfig is a configuration under which a client on this host may send in any name, as
// where the sample logs come from.
func relayConfig(t testing.TB, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.toml")
	writeFile(t, file, "[exim]\n"+more+"\n[identity]\nrelay = [\"127.0.0.1\"]\nowners = \"\"\nmain_domains = \"\"\n[panel]\nfollow = false\n")
	return file
}

// guide runs a command of the guides to which operators are sent, on another log, and for
// another domain and account than they name.
func guide(t testing.TB, command, log, domain, account string) string {
	t.Helper()
	for _, need := range [...]string{"exigrep", "zgrep"} {
		if _, err := exec.LookPath(need); err != nil {
			hosttest.Missing(t, err)
		}
	}
	command = strings.NewReplacer("yourdomain.com", domain, "domain.com", domain, "/var/log/exim_mainlog", log, "/home/username", account).Replace(command)
	out, err := exec.CommandContext(t.Context(), "bash", "-c", command).Output()
	if exit, ok := err.(*exec.ExitError); err != nil && !(ok && exit.ExitCode() == 1) { // grep has found nothing
		t.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

var eximID = regexp.MustCompile(`(?m)^\S+ \S+ (?:\[\d+\] )?(\w{6}-\w{6}-\w{2}|\w{6}-\w{11}-\w{4}) `)

// idsIn are the ids of the messages that some lines are about.
func idsIn(lines string) (ids []string) {
	for _, m := range eximID.FindAllStringSubmatch(lines, -1) {
		ids = append(ids, m[1])
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sortedLines are the lines of a text that begin with a time.
func sortedLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "20") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

const samples = "../../testdata/exim-log/"

// On logs of a real Exim `sluice log` has the messages that the guides' commands find, and
// of each the lines that exigrep joins.
func TestLogHasWhatTheGuidesGrepsFind(t *testing.T) {
	t.Parallel()
	config := relayConfig(t, "")
	for _, log := range []string{samples + "default.log", samples + "extra.log"} {
		for _, c := range []struct{ guide, args string }{
			{`grep "yourdomain.com" /var/log/exim_mainlog | tail -100`, ""},
			{`grep "yourdomain.com" /var/log/exim_mainlog | tail -200`, ""},
			{`exigrep "yourdomain.com" /var/log/exim_mainlog`, ""},
			{`exigrep "yourdomain.com" /var/log/exim_mainlog | grep "defer"`, "--deferred"},
			{`exigrep "yourdomain.com" /var/log/exim_mainlog | grep "=>"`, "--delivered"},
			{`exigrep "yourdomain.com" /var/log/exim_mainlog | grep "=>" | tail -50`, "--delivered --last 50"},
		} {
			args := append([]string{"alpha.test", "--log", log, "--config", config}, strings.Fields(c.args)...)
			found, _ := logRun(t, args...)
			want := idsIn(guide(t, c.guide, log, "alpha.test", ""))
			if diff := cmp.Diff(want, idsIn(found)); diff != "" || len(want) == 0 {
				t.Errorf("%s on %s: -guide +sluice log %s:\n%s", c.guide, log, c.args, diff)
			}
		}
		found, _ := logRun(t, "alpha.test", "--log", log, "--config", config)
		joined, ours := sortedLines(guide(t, `exigrep "yourdomain.com" /var/log/exim_mainlog`, log, "alpha.test", "")), sortedLines(found)
		ours = slices.DeleteFunc(ours, func(line string) bool { // exigrep does not know which programs have submitted what it finds
			return strings.Contains(line, " cwd=") && !strings.Contains(line, "alpha.test")
		})
		if diff := cmp.Diff(joined, ours); diff != "" {
			t.Errorf("%s: -exigrep +sluice log\n%s", log, diff)
		}
	}
}

// --count counts what the guides count with grep -c.
func TestLogCountsLikeTheGuides(t *testing.T) {
	t.Parallel()
	config := relayConfig(t, "")
	for _, log := range []string{samples + "default.log", samples + "extra.log"} {
		for _, c := range []struct{ guide, kind string }{
			{`exigrep "yourdomain.com" /var/log/exim_mainlog | grep -c "defer "`, "--deferred"}, // "defer" is in "Frozen (delivery error message)" of no log, but in a subject of some
			{`exigrep "yourdomain.com" /var/log/exim_mainlog | grep -c -e "=>" -e "->"`, "--delivered"},
		} {
			want := strings.TrimSpace(guide(t, c.guide, log, "alpha.test", ""))
			found, _ := logRun(t, "alpha.test", c.kind, "--count", "--log", log, "--config", config)
			var n logCount
			text, _ := logRun(t, "alpha.test", c.kind, "--count", "--json", "--log", log, "--config", config)
			if err := json.Unmarshal([]byte(text), &n); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(found, want+" line") || fmt.Sprint(n.Lines) != want || n.Messages == 0 {
				t.Errorf("%s on %s: %s, sluice log: %s%s", c.guide, log, want, found, text)
			}
		}
	}
}

// A log in which others name shop.example too. Who is charged is in the comments.
const crowdedLog = `2026-11-28 09:59:59 [100] cwd=/home/bob/public_html 3 args: /usr/sbin/sendmail -t -i
2026-11-28 10:00:00 [100] 1xAAAA-00000000001-0001 <= bob@shop.example U=bob P=local S=400 T="from a script"
2026-11-28 10:00:01 [101] 1xAAAA-00000000001-0001 => x@far.example R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.20] C="250 ok"
2026-11-28 10:00:01 [101] 1xAAAA-00000000001-0001 Completed
2026-11-28 10:01:00 [102] 1xAAAB-00000000002-0002 <= news@shop.example H=(pc) [192.0.2.10]:4000 P=esmtpsa A=dovecot_login:news@shop.example S=1000 T="hi" for y@far.example
2026-11-28 10:01:01 [103] 1xAAAB-00000000002-0002 == y@far.example R=dnslookup T=remote_smtp defer (-44) H=mx.far.example [192.0.2.20]: SMTP error from remote mail server after RCPT TO:<y@far.example>: 450 later
2026-11-28 10:01:30 [103] 1xAAAB-00000000002-0002 Frozen
2026-11-28 10:02:00 [104] 1xAAAC-00000000003-0003 <= liar@other.example H=(shop.example) [192.0.2.11]:4000 P=esmtpsa A=dovecot_login:liar@other.example S=1000 T="shop.example <= news@shop.example" for news@shop.example.far.example
2026-11-28 10:02:01 [105] 1xAAAC-00000000003-0003 => news@shop.example.far.example R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.20] C="250 shop.example ok"
2026-11-28 10:02:01 [105] 1xAAAC-00000000003-0003 Completed
2026-11-28 10:03:00 [106] 1xAAAD-00000000004-0004 <= news@shop.example H=(pc) [192.0.2.12]:4000 P=esmtpsa A=dovecot_login:liar@other.example S=1000 T="in another's name" for z@far.example
2026-11-28 10:03:01 [107] 1xAAAD-00000000004-0004 => z@far.example R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.20] C="250 ok"
2026-11-28 10:03:01 [107] 1xAAAD-00000000004-0004 Completed
2026-11-28 10:04:00 [108] 1xAAAE-00000000005-0005 <= stranger@far.example H=mx.far.example [192.0.2.20]:4000 P=esmtp S=1000 T="to a forwarder" for info@shop.example
2026-11-28 10:04:01 [109] 1xAAAE-00000000005-0005 ** bob@gone.example <info@shop.example> R=dnslookup T=remote_smtp H=mx.gone.example [192.0.2.21]: SMTP error from remote mail server after RCPT TO:<bob@gone.example>: 550 no such user
2026-11-28 10:04:01 [110] 1xAAAE-00000000006-0006 <= <> R=1xAAAE-00000000005-0005 U=Debian-exim P=local S=2000 for stranger@far.example
2026-11-28 10:04:02 [110] 1xAAAE-00000000006-0006 => stranger@far.example R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.20] C="250 ok"
2026-11-28 10:04:02 [110] 1xAAAE-00000000006-0006 Completed
2026-11-28 10:04:02 [109] 1xAAAE-00000000005-0005 Completed
2026-11-28 10:05:00 [111] H=(pc) [192.0.2.10]:4001 F=<news@shop.example> A=dovecot_login:news@shop.example temporarily rejected RCPT <w@far.example>: Domain shop.example has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later
2026-11-28 10:06:00 [112] 1xAAAG-00000000007-0007 <= news@shop.example H=(pc) [192.0.2.66]:4000 P=esmtp S=1000 T="from outside, in its name" for box@here.example
2026-11-28 10:06:01 [113] 1xAAAG-00000000007-0007 => box <box@here.example> R=local_user T=maildir_home
2026-11-28 10:06:01 [113] 1xAAAG-00000000007-0007 Completed
`

// What is shown is what somebody pays for, and no line that only names them.
func TestLogIsOfWhoPays(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "mainlog")
	writeFile(t, log, crowdedLog)
	config := relayConfig(t, `local_domains = ["shop.example", "other.example", "here.example"]`)
	const script, auth, forged, inName, forward, bounce = "1xAAAA-00000000001-0001", "1xAAAB-00000000002-0002", "1xAAAC-00000000003-0003", "1xAAAD-00000000004-0004", "1xAAAE-00000000005-0005", "1xAAAE-00000000006-0006"
	for _, c := range []struct {
		args  string
		ids   []string
		lines int
	}{
		{"shop.example", []string{script, auth}, 8}, // with the program's line, and what was refused
		{"SHOP.example.", []string{script, auth}, 8},
		{"news@shop.example", []string{auth}, 4},
		{"account:bob", []string{script}, 4},
		{"script:/home/bob/public_html", []string{script}, 4},
		{"script:/home/bob", nil, 0},
		{"forward:info@shop.example", []string{forward, bounce}, 6},
		{"other.example", []string{forged, inName}, 6},
		{"forward:shop.example", []string{forward, bounce}, 6},
		{"forward:shop.example --failed", []string{forward}, 1},
		{"shop.example --deferred", []string{auth}, 1},
		{"shop.example --refused", nil, 1},
		{"shop.example --deferred --delivered", []string{script, auth}, 2},
		{"shop.example --last 2", []string{auth}, 2}, // Frozen, and what was refused
		{script, []string{script}, 4},
		{forward, []string{forward, bounce}, 6},
		{"nobody.example", nil, 0},
		{"1xAAAZ-00000000001-0001", nil, 0},
	} {
		found, code := logRun(t, append(strings.Fields(c.args), "--log", log, "--config", config)...)
		if diff := cmp.Diff(c.ids, idsIn(found)); diff != "" || strings.Count(found, "\n") != c.lines || (code == exitNo) != (c.lines == 0) {
			t.Errorf("log %s: exit %d, %d lines and not %d\n%s%s", c.args, code, strings.Count(found, "\n"), c.lines, found, diff)
		}
	}
}

// The configured log is read with its rotated files, packed ones too, whatever their order;
// of a message that was rotated on its way all lines are there.
func TestLogReadsRotatedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lines := slices.Collect(strings.Lines(crowdedLog))
	writeFile(t, dir+"/mainlog", strings.Join(lines[6:], ""))
	writeFile(t, dir+"/mainlog.1", strings.Join(lines[3:6], ""))
	writeFile(t, dir+"/mainlog.copy", crowdedLog) // is no rotated one
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(strings.Join(lines[:3], "")))
	z.Close()
	writeFile(t, dir+"/mainlog.2.gz", packed.String())
	config := relayConfig(t, fmt.Sprintf("mainlog = %q", dir+"/mainlog"))

	found, _ := logRun(t, "shop.example", "--config", config)
	want := strings.Join(slices.Concat(lines[:7], lines[19:20]), "")
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("-want +shown\n%s", diff)
	}
	all := guide(t, `zgrep -h "yourdomain.com" /var/log/exim_mainlog /var/log/exim_mainlog.1 /var/log/exim_mainlog.2.gz`, dir+"/mainlog", "shop.example", "")
	if missed := len(idsIn(found)) - len(idsIn(found+all)); missed != -4 { // the forged, the forwarded and those in its name
		t.Errorf("zgrep finds %d messages more:\n%s", -missed, all)
	}
}

// --since is about lines: of an older message, those that are new.
func TestLogSince(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "mainlog")
	old, recent := time.Now().Add(-2*time.Hour).Format(time.DateTime), time.Now().Add(-time.Minute).Format(time.DateTime)
	lines := []string{
		old + " 1xAAAA-00000000001-0001 <= news@shop.example H=(pc) [192.0.2.10]:4000 P=esmtpsa A=login:news@shop.example S=10\n",
		old + " 1xAAAA-00000000001-0001 Frozen\n",
		recent + " 1xAAAA-00000000001-0001 Unfrozen by errmsg timer\n",
		recent + " 1xAAAA-00000000001-0001 ** x@far.example: retry timeout exceeded\n",
	}
	writeFile(t, log, strings.Join(lines, ""))
	config := relayConfig(t, "")
	for since, want := range map[string]string{"1h": lines[2] + lines[3], "1d": strings.Join(lines, "")} {
		if found, _ := logRun(t, "shop.example", "--log", log, "--config", config, "--since", since); found != want {
			t.Errorf("--since %s:\n%swant\n%s", since, found, want)
		}
	}
}

// What a log says is shown so that it commands no terminal, and in JSON as it is.
func TestLogIsPrintable(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "mainlog")
	writeFile(t, log, "2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= news@shop.example H=(pc) [192.0.2.10]:4000 P=esmtpsa A=login:news@shop.example S=10 T=\"\x1b]0;x\x07\u202e\xff\"\n")
	found, _ := logRun(t, "shop.example", "--log", log, "--config", relayConfig(t, ""))
	if !strings.Contains(found, `T="\u001b]0;x\u0007\u202e\xff"`) {
		t.Errorf("shown: %q", found)
	}
	text, _ := logRun(t, "shop.example", "--json", "--log", log, "--config", relayConfig(t, ""))
	var line loggedLine
	if err := json.Unmarshal([]byte(text), &line); err != nil || !strings.Contains(line.Line, "T=\"\x1b]0;x\x07\u202e\ufffd\"") || line.Kind != "arrived" || line.ID == "" || strings.Contains(text, "\x1b") {
		t.Errorf("JSON: %v %q", err, text)
	}
}

func TestLogSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/mainlog", crowdedLog)
	config := relayConfig(t, fmt.Sprintf("mainlog = %q", dir+"/none/mainlog"))
	for args, says := range map[string]string{
		"shop.example":                                     "there is no " + dir + "/none/mainlog, which the configuration names as exim.mainlog; name the logs with --log",
		"shop.example --log " + dir + "/nothing":           "no such file",
		"shop.example --log " + config:                     "this is no main log of Exim's",
		"shop!example --log " + dir + "/mainlog":           `scope "shop!example" must be`,
		"shop.example --since x":                           `--since is "x", it must be a time`,
		"shop.example --last=-1":                           "--last is -1",
		"--log " + dir + "/mainlog":                        `expected "<scope>"`,
		"nobody.example --count --log " + dir + "/mainlog": "there is nothing of it in the logs",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"log", "--config", config}, strings.Fields(args)...), nil, &stdout, &stderr)
		if code == exitDone || !strings.Contains(stderr.String(), says) {
			t.Errorf("log %s: exit %d, %q is not in\n%s", args, code, says, stderr.String())
		}
	}
	if err := os.Remove(dir + "/mainlog"); err != nil {
		t.Fatal(err)
	}
}
