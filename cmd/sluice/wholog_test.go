package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"sluice/sidecar/attribution"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/mainlog/mainlogtest"
)

// readWho reads logs as who --log does.
func readWho(t testing.TB, config string, logs ...string) (who *attribution.Attribution, end time.Time) {
	t.Helper()
	var stderr bytes.Buffer
	who, end, err := whoFromLogs(&terminal{ctx: t.Context(), stdout: &stderr, stderr: &stderr, log: &stderr, configFile: config}, logs, foreignFlag{})
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return who, end
}

// authorsOf are "KEY TRIED" of all authors of a domain.
func authorsOf(who *attribution.Attribution, end time.Time, domain string) (authors []string) {
	r, _ := who.Of(end, domain)
	for _, a := range r.Authors {
		authors = append(authors, fmt.Sprintf("%s %d", a.Key, a.Tried))
	}
	return authors
}

// An oracle counts who has sent how much in a log, by patterns over its lines. It knows
// nothing of how sluice reads a log.
type oracle map[string]map[string]map[string]bool // sends, by domain and author

var (
	oracleRun     = regexp.MustCompile(`^\S+ \S+ (\[\d+\]) cwd=(.*) \d+ args: \S*sendmail`)
	oracleArrival = regexp.MustCompile(`^\S+ \S+ (\[\d+\]) (\S+) <= \S+@(\S+) (.*)$`)
	oracleAuth    = regexp.MustCompile(`^H=.* A=\w+:(\S+@(\S+)) S=`)
	oracleLocal   = regexp.MustCompile(`^U=(\w+) P=local S=`)
	oracleAttempt = regexp.MustCompile(`^\S+ \S+ \[\d+\] (\S+) (?:=>|->|==|\*\*) (\S+)(?: <(\S+)>)? R=\S+ T=remote_smtp `)
)

func askOracle(lines []string) oracle {
	ran, authors, domains, who := map[string]string{}, map[string]string{}, map[string]string{}, oracle{}
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\n")
		if m := oracleRun.FindStringSubmatch(line); m != nil {
			ran[m[1]] = m[2]
		}
		if m := oracleArrival.FindStringSubmatch(line); m != nil {
			if auth := oracleAuth.FindStringSubmatch(m[4]); auth != nil {
				authors[m[2]], domains[m[2]] = auth[1], auth[2]
			} else if local := oracleLocal.FindStringSubmatch(m[4]); local != nil {
				authors[m[2]], domains[m[2]] = "login:"+local[1], m[3]
				if directory := ran[m[1]]; directory != "" {
					authors[m[2]] = "script:" + directory
				}
			}
		}
		if m := oracleAttempt.FindStringSubmatch(line); m != nil {
			author, domain := authors[m[1]], domains[m[1]]
			if m[3] != "" && author == "" {
				author, domain = "forward:"+m[3], "forward:"+m[3][strings.IndexByte(m[3], '@')+1:]
			}
			if author == "" {
				continue
			}
			if who[domain] == nil {
				who[domain] = map[string]map[string]bool{}
			}
			if who[domain][author] == nil {
				who[domain][author] = map[string]bool{}
			}
			who[domain][author][m[1]+m[2]] = true
		}
	}
	return who
}

// authors are "KEY TRIED" of all of a domain, who has most first.
func (o oracle) authors(domain string) (authors []string) {
	keys := slices.SortedFunc(maps.Keys(o[domain]), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(o[domain][b]), len(o[domain][a])), cmp.Compare(a, b))
	})
	for _, key := range keys {
		authors = append(authors, fmt.Sprintf("%s %d", key, len(o[domain][key])))
	}
	return authors
}

// A tenantLog makes the log of a host with domains of which each has several mailboxes,
// scripts and forwarders, of all of whom one may have been stolen.
type tenantLog struct {
	random *rand.Rand
	now    time.Time
	n      int
	lines  []string
}

func newTenantLog(seed uint64, messages int) *tenantLog {
	l := &tenantLog{random: rand.New(rand.NewPCG(seed, 19)), now: time.Date(2026, 11, 20, 8, 0, 0, 0, time.Local)}
	for l.n < messages {
		domain := l.random.IntN(12)
		author := l.random.IntN(2 + domain)
		if l.random.IntN(3) == 0 {
			author = 0 // who was stolen
		}
		l.message(domain, author)
		l.now = l.now.Add(time.Duration(l.random.IntN(20)) * time.Second)
	}
	return l
}

func (l *tenantLog) add(format string, args ...any) {
	l.lines = append(l.lines, l.now.Format("2006-01-02 15:04:05 ")+fmt.Sprintf("[%d] ", 1000+l.n)+fmt.Sprintf(format, args...)+"\n")
}

func (l *tenantLog) message(domain, author int) {
	l.n++
	id, name := mainlogtest.ID(l.now, l.n), fmt.Sprintf("t%d.example", domain)
	original, to, listed := "", make([]string, 1+l.random.IntN(3)), ""
	for i := range to {
		to[i] = fmt.Sprintf("u%d.%d@far%d.example", l.n, i, l.random.IntN(5))
		listed += " " + to[i]
	}
	switch kind := (domain + author) % 4; kind {
	case 0, 1:
		l.add("%s <= someone%d@%s H=(pc) [192.0.2.%d]:4000 P=esmtpsa A=dovecot_login:box%d@%s S=900 T=\"hello A=x:y@z.example\" for%s", id, l.random.IntN(9), name, 1+l.random.IntN(250), author, name, listed+" box@"+name)
		l.add("%s => box <box@%s> R=local_user T=maildir_home", id, name)
	case 2:
		l.add("cwd=/home/acct%d/public_html/dir %d 3 args: /usr/sbin/sendmail -t -i", domain, author)
		l.add("%s <= www%d@%s U=acct%d P=local S=900 T=\"hello\"", id, l.random.IntN(9), name, domain)
	case 3:
		original = fmt.Sprintf(" <info%d@%s>", author, name)
		l.add("%s <= stranger%d@else.example H=mx.else.example [198.51.100.9]:25 P=esmtp S=900", id, l.random.IntN(99))
	}
	for _, to := range to {
		to += original
		switch l.random.IntN(8) {
		case 1:
			l.add("%s ** %s R=dnslookup T=remote_smtp H=mx.far.example [198.51.100.7]: SMTP error from remote mail server after RCPT TO:<x>: 550 5.1.1 no such user", id, to)
		case 2:
			for range 3 { // retries are nothing new
				l.add("%s == %s R=dnslookup T=remote_smtp defer (-44) H=mx.far.example [198.51.100.7]: SMTP error from remote mail server after RCPT TO:<x>: 450 4.2.0 later", id, to)
			}
			fallthrough
		default:
			l.add("%s => %s R=dnslookup T=remote_smtp H=mx.far.example [198.51.100.7] C=\"250 ok\"", id, to)
		}
	}
	l.add("%s Completed", id)
}

// The authors of each domain are those that an oracle finds, with what they have tried.
func TestWhoFromLogs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		dir, made := t.TempDir(), newTenantLog(seed, 1500)
		half := len(made.lines) / 2
		writeFile(t, dir+"/mainlog.1", strings.Join(made.lines[:half], ""))
		writeFile(t, dir+"/mainlog", strings.Join(made.lines[half:], ""))
		who, end := readWho(t, relayConfig(t, ""), dir+"/mainlog", dir+"/mainlog.1")
		domains, truth := 0, askOracle(made.lines)
		for domain, authors := range truth {
			sends := 0
			for _, tried := range authors {
				sends += len(tried)
			}
			if sends < 20 {
				continue
			}
			domains++
			if diff := gocmp.Diff(truth.authors(domain), authorsOf(who, end, domain)); diff != "" {
				t.Errorf("seed %d, %s: -oracle +who\n%s", seed, domain, diff)
			}
		}
		if domains < 15 {
			t.Errorf("only %d domains have 20 sends", domains)
		}
	}
}

// On logs of a real Exim, in which a client on this host sends in the name of many domains,
// and alpha by sendmail.
func TestWhoOfSamples(t *testing.T) {
	t.Parallel()
	config := relayConfig(t, "")
	for file, want := range map[string]map[string][]string{
		"default.log": {
			"alpha.test": {"login:alpha 3", "alpha@alpha.test 2", "client:127.0.0.1 1"},
		},
		"extra.log": {
			// With the bounce of one, that has failed: who sends pays for it.
			"alpha.test":         {"script:/srv/lab/home/alpha/public_html 6", "alpha@alpha.test 1", "script:/srv/lab/home/alpha/dir with space 1"},
			"x8.test":            {"client:127.0.0.1 20"},
			"service:alpha":      {"script:/srv/lab/home/alpha/public_html 1"},
			"forward:local.test": {"client:127.0.0.1 4", "alpha@alpha.test 3"},
		},
	} {
		who, end := readWho(t, config, samples+file)
		for domain, authors := range want {
			if diff := gocmp.Diff(authors, authorsOf(who, end, domain)); diff != "" {
				t.Errorf("%s, %s: -counted by hand +who\n%s", file, domain, diff)
			}
		}
	}
}

// evilLines are what a tenant, evil.example, and strangers can have Exim log to have others
// named. PID is the process of a message.
var evilLines = []string{
	"ID <= a@evil.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:a@evil.example S=9 T=\"x A=dovecot_login:ceo@victim.example S=1\"",
	"ID <= a@evil.example H=(x) [192.0.2.9]:1 P=esmtpsa A=login:ceo@victim.example S=9) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:a@evil.example S=9",
	"ID <= ceo@victim.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:a@evil.example S=9",
	"ID <= a@evil.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:ceo@victim.example\\000@evil.example S=9",
	"ID <= a@evil.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:../../victim.example\x1b]0;x\x07@evil.example S=9",
	"ID <= a@evil.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:" + strings.Repeat("ceo@victim.example/", 20) + "@evil.example S=9",
	"ID <= a@evil.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=dovecot_login:\x00\u202e\xff@evil.example S=9",
	"ID <= ceo@victim.example H=(pc) [192.0.2.66]:1 P=esmtp S=9 A=dovecot_login:ceo@victim.example",
	"ID <= ceo@victim.example H=(pc) [192.0.2.66]:1 U=victim P=esmtp S=9",
	"cwd=/home/victim/public_html 3 args: /usr/sbin/sendmail -t -i\nID <= ceo@victim.example U=evil P=local S=9",
	"cwd=/home/evil/../victim\x1b[2J\x00 3 args: /usr/sbin/sendmail -t -i\nID <= ceo@victim.example U=evil P=local S=9",
	"cwd=/home/evil/" + strings.Repeat("v", 300) + " 3 args: /usr/sbin/sendmail -t -i\nID <= ceo@victim.example U=evil P=local S=9",
	"ID <= <> R=VICTIM U=evil P=local S=9",
	"H=(pc) [192.0.2.66]:1 F=<ceo@victim.example> temporarily rejected RCPT <x@far.example>: Domain victim.example has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later",
}

// ofVictim matches the authors that are victim's.
var ofVictim = regexp.MustCompile(`^[^@]*@victim\.example$|^login:victim$|^script:/home/victim/`)

// Whatever a tenant or a stranger has Exim log, it is held against nobody else, and its names
// command no terminal.
func TestWhoNamesNobodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/owners", "victim.example: victim\nevil.example: evil\n")
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[identity]\nowners = %q\nmain_domains = \"\"\n[panel]\nfollow = false\n", dir+"/owners"))
	at, n := time.Date(2026, 11, 28, 10, 0, 0, 0, time.Local), 0
	var honest, both strings.Builder
	message := func(to *strings.Builder, lines string) {
		n++
		id := mainlogtest.ID(at, n)
		for line := range strings.SplitSeq(strings.ReplaceAll(lines, "ID ", id+" ")+"\n"+id+" => u@far.example R=dnslookup T=remote_smtp H=mx.far.example [198.51.100.7]\n"+id+" Completed", "\n") {
			fmt.Fprintf(to, "%s [%d] %s\n", at.Format(time.DateTime), n, line)
		}
	}
	for i := range 40 {
		var one strings.Builder
		message(&one, fmt.Sprintf("ID <= ceo@victim.example H=(pc) [192.0.2.1]:1 P=esmtpsa A=dovecot_login:box%d@victim.example S=9", i%3))
		honest.WriteString(one.String())
		both.WriteString(one.String())
		message(&both, strings.ReplaceAll(evilLines[i%len(evilLines)], "VICTIM", mainlogtest.ID(at, n)))
	}
	writeFile(t, dir+"/honest", honest.String())
	writeFile(t, dir+"/both", both.String())
	alone, end := readWho(t, dir+"/sluice.toml", dir+"/honest")
	beside, _ := readWho(t, dir+"/sluice.toml", dir+"/both")
	want, got := authorsOf(alone, end, "victim.example"), authorsOf(beside, end, "victim.example")
	if diff := gocmp.Diff(want, got); diff != "" || len(want) != 3 {
		t.Errorf("victim.example alone, and beside evil.example:\n%s", diff)
	}
	evil := 0
	for _, subject := range beside.Subjects() {
		r, _ := beside.Of(end, subject)
		for _, a := range r.Authors {
			if subject != "victim.example" && (a.Parent == "victim" || ofVictim.MatchString(a.Key)) {
				t.Errorf("of %s %s is named", subject, a.Key)
			}
			if strings.ContainsFunc(a.Key+a.Parent+a.Subject, func(r rune) bool { return r < ' ' || r > '~' }) || len(a.Key) > 200 {
				t.Errorf("of %s %q is named", subject, a.Key)
			}
			evil++
		}
	}
	if evil < 8 {
		t.Errorf("only %d authors are known", evil)
	}
}

// The guides' commands for whom to look for, on a log of today, and what who says of it.
func TestWhoSaysWhatTheGuidesGrepFor(t *testing.T) {
	t.Parallel()
	log := t.TempDir() + "/mainlog"
	day := time.Now().Format("2006-01-02 ")
	var text strings.Builder
	n := 0
	message := func(arrival string) {
		n++
		id := mainlogtest.ID(time.Now(), n)
		for line := range strings.SplitSeq(strings.ReplaceAll(arrival, "ID ", id+" ")+"\n"+id+" => u@far.example R=dnslookup T=remote_smtp H=mx.far.example [198.51.100.7]\n"+id+" Completed", "\n") {
			fmt.Fprintf(&text, "%s%02d:%02d:00 [%d] %s\n", day, n/60, n%60, n, line)
		}
	}
	for i := range 60 {
		switch {
		case i%6 < 3:
			message("ID <= hacked@shop.example H=(pc) [203.0.113.9]:1 P=esmtpsa A=dovecot_login:hacked@shop.example S=9")
		case i%6 == 3:
			message("ID <= info@shop.example H=(pc) [192.0.2.1]:1 P=esmtpsa A=dovecot_login:info@shop.example S=9")
		default:
			message("cwd=/home/bob/public_html/wp 4 args: /usr/sbin/sendmail -t -i -fwp@shop.example\nID <= wp@shop.example U=bob P=local S=9")
		}
	}
	message("cwd=/home/bob/public_html/old 4 args: /usr/sbin/sendmail -t -i -fold@shop.example\nID <= old@shop.example U=bob P=local S=9")
	writeFile(t, log, text.String())
	who, end := readWho(t, relayConfig(t, ""), log)
	want := []string{"hacked@shop.example 30", "script:/home/bob/public_html/wp 20", "info@shop.example 10", "script:/home/bob/public_html/old 1"}
	if diff := gocmp.Diff(want, authorsOf(who, end, "shop.example")); diff != "" {
		t.Error(diff)
	}
	var says []string // as uniq -c has it
	for _, a := range want {
		name, count, _ := strings.Cut(a, " ")
		says = append(says, count+" "+name)
	}
	mailboxes, scripts := []string{says[0], says[2]}, []string{says[1], says[3]}
	for _, c := range []struct {
		guide string
		want  []string
		as    *strings.Replacer
	}{
		{`grep "A=dovecot" /var/log/exim_mainlog | grep "yourdomain.com" | awk '{print $6}' | sort | uniq -c | sort -rn | head`, mailboxes, strings.NewReplacer()},
		// It shows the last argument of sendmail, and no directory.
		{`grep "$(date +%Y-%m-%d)" /var/log/exim_mainlog | grep "cwd=/home" | awk '{print $NF}' | sort | uniq -c | sort -rn | head -20`, scripts,
			strings.NewReplacer("-fwp@shop.example", "script:/home/bob/public_html/wp", "-fold@shop.example", "script:/home/bob/public_html/old")},
		{`grep "cwd=/home/username" /var/log/exim_mainlog | tail -50 | grep -o "cwd=[^ ]*" | sort | uniq -c | sort -rn`, scripts, strings.NewReplacer("cwd=", "script:")},
		{`grep "domain.com" /var/log/exim_mainlog | grep "cwd=" | tail -30 | grep -o "cwd=[^ ]*" | sort | uniq -c | sort -rn`, scripts, strings.NewReplacer("cwd=", "script:")},
		// Exim logs no headers.
		{`grep "X-PHP-Originating-Script" /var/log/exim_mainlog | grep "username"`, nil, strings.NewReplacer()},
	} {
		var found []string
		for line := range strings.Lines(guide(t, c.guide, log, "shop.example", "/home/bob")) {
			found = append(found, strings.TrimSpace(c.as.Replace(line)))
		}
		if diff := gocmp.Diff(c.want, found); diff != "" {
			t.Errorf("%s: -who +guide\n%s", c.guide, diff)
		}
	}
}

// What is printed of a log that was copied to a host where nothing is installed.
func TestWhoPrints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/mainlog", crowdedLog+strings.ReplaceAll(evilMail, "\\e", "\x1b"))
	config := relayConfig(t, "")
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"", exitDone, []string{"news@shop.example", "script:/home/bob/public_html", "forward:info@shop.example", "which are what a script said"}},
		{"shop.example", exitDone, []string{"shop.example: 2 sent, 1 refused\n", "    2     1  66  news@shop.example             proven ", "forward:shop.example: 1 sent\n", "which are what a script said"}},
		{"script:/home/bob", exitDone, []string{"shop.example: ", "script:/home/bob/public_html"}},
		{"evil.example", exitDone, []string{`a\x1b[2j@evil.example`, "subject most used by ", `\u001b]0;x`}},
		{"shop.example --by destination", exitDone, []string{"TRIED  DESTINATION\n", "far.example"}},
		{"--by network", exitDone, []string{"192.0.2.0/24", "this host"}},
		{"nobody.example", exitNo, []string{"who nobody.example: nobody who is known here has sent"}},
		{"shop!example", exitError, []string{`scope "shop!example" must be`}},
		{"--top 0", exitError, []string{"--top is 0"}},
		{"--by sender", exitError, []string{"--by must be one of"}},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(append([]string{"who"}, strings.Fields(c.args)...), "--config", config, "--log", dir+"/mainlog"), nil, &stdout, &stderr)
		text := stdout.String() + stderr.String()
		for _, says := range c.says {
			if code != c.code || !strings.Contains(text, says) {
				t.Errorf("who %s: exit %d, %q is not in\n%s", c.args, code, says, text)
			}
		}
		if strings.ContainsAny(text, "\x1b\x07") {
			t.Errorf("who %s commands the terminal: %q", c.args, text)
		}
	}
}

const evilMail = `2026-11-28 10:07:00 [200] 1xAAAH-00000000008-0008 <= a@evil.example H=(pc) [192.0.2.66]:1 P=esmtpsa A=login:a\e[2J@evil.example S=9 T="\e]0;x"
2026-11-28 10:07:00 [200] 1xAAAH-00000000008-0008 => u@far.example R=dnslookup T=remote_smtp H=mx.far.example [198.51.100.7]
`

// Of mail that a real Exim has in its queue, a header names the script; the main log has it
// of no message.
//
//	sendmail in /home/.../wp ─→ Exim ─→ queue, main log ─→ sluice who --log
func TestWhoReadsTheQueue(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	program := hosttest.Program(t, "exim4")
	dir := hosttest.OpenDir(t)
	www := dir + "/home/bob/wp"
	if err := errors.Join(os.MkdirAll(www, 0o755), os.Mkdir(dir+"/spool", 0o777), os.Chmod(dir+"/spool", 0o777), os.Mkdir(dir+"/log", 0o777), os.Chmod(dir+"/log", 0o777)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/exim.conf", fmt.Sprintf(`spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%slog
exim_user = Debian-exim
exim_group = Debian-exim
log_selector = +arguments +pid +subject +received_recipients
acl_not_smtp = accept
queue_only
begin routers
far:
  driver = manualroute
  route_list = * 127.0.0.1
  transport = remote_smtp
begin transports
remote_smtp:
  driver = smtp
`, dir))
	binary := dir + "/exim"
	if err := os.WriteFile(binary, fmt.Appendf(nil, "#!/bin/sh\nexec %s -C %s/exim.conf \"$@\"\n", program, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-t", "-i", "-fwp@shop.example")
	cmd.Dir, cmd.Stdin = www, strings.NewReader("To: u@far.example, v@far.example\nSubject: Your \"invoice\"\nX-PHP-Originating-Script: 1001:mailer.php\n\nbody\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sendmail: %v\n%s", err, out)
	}
	config := relayConfig(t, fmt.Sprintf("binary = %q\nmainlog = %q", binary, dir+"/log/mainlog"))
	who, end := readWho(t, config, dir+"/log/mainlog")
	r, _ := who.Of(end, "shop.example")
	if len(r.Authors) != 1 || r.Authors[0].Key != "script:"+www || r.Authors[0].Header != "1001:mailer.php" || r.Authors[0].Tried != 2 {
		t.Errorf("%+v", r)
	}
	if elsewhere, end := readWho(t, config, copied(t, dir+"/log/mainlog")); elsewhere != nil {
		if r, _ := elsewhere.Of(end, "shop.example"); len(r.Authors) != 1 || r.Authors[0].Header != "" {
			t.Errorf("of another host's log, by this one's queue: %+v", r)
		}
	}
}

// copied is a copy of a log, which is taken for another host's.
func copied(t *testing.T, log string) string {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "mainlog")
	writeFile(t, name, string(text))
	return name
}
