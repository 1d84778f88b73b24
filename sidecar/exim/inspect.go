package exim

import (
	"context"
	"regexp"
	"strings"
)

// AsksFirst reports whether an option (acl_smtp_rcpt) of Exim's configuration names the
// ACL ours, or an ACL that asks ours before anything in it could let mail pass. config
// is what -bP config prints. acl is what the option names.
func (e Exim) AsksFirst(ctx context.Context, config, option, ours string) (acl string, asks bool) {
	acl = e.Option(ctx, option)
	return acl, acl == ours || beginsWith(config, acl, ours)
}

func beginsWith(config, acl, ours string) bool {
	inside, accepts := false, 0
	for line := range strings.Lines(config) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == acl+":":
			inside = true
		case !inside:
		case len(words) > 2 && words[0] == "acl" && words[2] == ours:
			return true
		case strings.HasSuffix(words[0], ":"):
			return false
		case words[0] == "accept":
			if accepts++; accepts > 1 {
				return false
			}
		}
	}
	return false
}

var transportHead = regexp.MustCompile(`^(\S+) transport:$`)

// SMTPTransports are the names of the transports that speak SMTP.
func (e Exim) SMTPTransports(ctx context.Context) (names []string, err error) {
	text, err := e.Run(ctx, "", "-bP", "transports")
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := transportHead.FindStringSubmatch(line); m != nil {
			name = m[1]
		}
		if line == "driver = smtp" {
			names = append(names, name)
		}
	}
	return names, err
}

// MainLog is the file that Exim writes its main log to, in the form of exim.mainlog: %D
// and %M in it stand for the date. It is empty if Exim logs to no file, or to its
// built-in one.
func (e Exim) MainLog(ctx context.Context) string {
	for p := range strings.SplitSeq(e.Option(ctx, "log_file_path"), ":") {
		if p = strings.TrimSpace(p); strings.HasPrefix(p, "/") {
			return strings.Replace(p, "%s", "main", 1)
		}
	}
	return ""
}

// LogsArguments reports whether log_selector has +arguments.
func (e Exim) LogsArguments(ctx context.Context) (on bool) {
	for item := range strings.FieldsSeq(e.Option(ctx, "log_selector")) {
		if name := item[1:]; name == "arguments" || name == "all" {
			on = item[0] == '+'
		}
	}
	return on
}
