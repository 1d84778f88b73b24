package mainlog

import (
	"path"
	"slices"
	"strings"

	"sluice/sidecar/logline"
)

// parseNameless reads a line without a message id: a refused recipient, or a program that
// was run.
func parseNameless(e *logline.Entry, s string) bool {
	if rest, ok := strings.CutPrefix(s, "cwd="); ok {
		return parseRun(e, rest)
	}
	return parseRefusal(e, s)
}

// parseRun reads what follows cwd= (log_selector +arguments, exim.c). It skips runs that
// submit nothing: of Exim itself, of mailq, exim -bt and the like.
//
//	/home/bob/public_html 3 args: /usr/sbin/sendmail -t -i
func parseRun(e *logline.Entry, s string) bool {
	before, args, ok := strings.Cut(s, " args: ")
	count := strings.LastIndexByte(before, ' ')
	if !ok || count < 0 {
		return false
	}
	if !maySubmit(args) {
		return false
	}
	e.Kind, e.Directory = logline.Ran, before[:count]
	return true
}

// maySubmit reports whether a program with these arguments may submit a message. Exim
// quotes those that have blanks.
func maySubmit(args string) bool {
	program, args, _ := strings.Cut(args, " ")
	switch path.Base(program) {
	case "mailq", "runq", "newaliases": // the other names of Exim (exim.c) submit
		return false
	}
	quoted := false
	for arg := range strings.FieldsSeq(args) {
		switch opens := strings.HasPrefix(arg, `"`); {
		case quoted || opens:
			quoted = !strings.HasSuffix(arg, `"`) || opens && len(arg) == 1
		case arg == "--": // addresses follow
			return true
		case arg == "-bm", arg == "-bs", arg == "-bS":
		case hasAnyPrefix(arg, "-b", "-M", "-q", "-R", "-S"):
			return false
		}
	}
	return true
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// refusals are the ways in which Exim logs a refusal (smtp_in.c, receive.c).
var refusals = [...]string{"rejected RCPT ", "rejected after DATA", "rejected by non-SMTP ACL"}

// parseRefusal reads the refusal of a recipient or of a whole message:
//
//	H=name (helo) [address]:port X=... U=ident F=<sender> A=method:id temporarily rejected RCPT <recipient>: text
//	H=... F=<sender> temporarily rejected after DATA: text
//	U=login F=<sender> rejected by non-SMTP ACL: text
func parseRefusal(e *logline.Entry, s string) bool {
	if !strings.Contains(s, "rejected ") { // nearly always
		return false
	}
	var host, login string
	rest := " " + s
	for {
		if sender, ok := strings.CutPrefix(rest, " F="); ok {
			e.Sender, rest = cutAngles(sender)
			break
		}
		var key, value string
		if key, value, rest = cutField(rest); rest == "" {
			return false
		}
		switch key {
		case "H":
			host = value
		case "U":
			login = value
		}
	}
	at, what := indexOfRefusal(rest)
	if at < 0 {
		return false
	}
	if id, ok := strings.CutPrefix(rest[:at], " A="); ok {
		e.Auth = authID(strings.TrimSuffix(strings.TrimSpace(id), " temporarily"))
	}
	rest = rest[at+len(what):]
	if what == refusals[0] {
		if !strings.HasPrefix(rest, "<") {
			return false
		}
		e.Recipient, rest = cutAngles(rest)
	}
	if e.Kind = logline.Refused; host != "" {
		e.ClientAddress = addressOf(host)
	} else {
		e.Login = login
	}
	_, e.Text, _ = strings.Cut(rest, ": ")
	return true
}

func indexOfRefusal(s string) (at int, what string) {
	for _, r := range refusals {
		if i := strings.Index(s, r); i >= 0 {
			return i, r
		}
	}
	return -1, ""
}

// recipients are those at the end of an arrival line, where they are logged
// (+received_recipients). A logged subject with " for " in it is not taken for them,
// because its last word ends with a quote.
func recipients(s string) string {
	if !strings.Contains(s, " for ") { // nearly always; LastIndex takes ten times as long to tell
		return ""
	}
	i := strings.LastIndex(s, " for ")
	list := s[i+len(" for "):]
	for to := range strings.FieldsSeq(list) {
		if strings.IndexByte(to, '@') < 0 || strings.IndexByte(to, '"') >= 0 {
			return ""
		}
	}
	return list
}
