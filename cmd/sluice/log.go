package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/printable"
	"sluice/sidecar/simulate"
)

type logCmd struct {
	Scope     string   `arg:"" predictor:"scope" help:"Who pays, like example.com or account:bob, who sends, as sluice who shows it, or the id of a message."`
	Log       logFiles `placeholder:"FILE..." help:"Read these main logs of Exim, .gz too, in any order. By default the one of the configuration, with its rotated files."`
	Delivered bool     `help:"Only lines of deliveries."`
	Deferred  bool     `help:"Only lines of attempts that are to be repeated."`
	Failed    bool     `help:"Only lines of recipients that will never get it."`
	Refused   bool     `help:"Only lines of what was refused at SMTP or by sendmail."`
	Since     string   `placeholder:"TIME" help:"Only what was logged within this time: 90m, 24h, 7d."`
	Last      *int     `placeholder:"N" help:"Only the last N lines."`
	Count     bool     `help:"Only how many lines there are, and of how many messages."`
	foreignFlag
	jsonFlag
}

// Help is the long help.
func (logCmd) Help() string {
	return `Prints what Exim has logged about the messages of somebody: all lines of each, from the
program that submitted it (log_selector = +arguments) to Completed, what was refused, and
the bounces that its mail has caused. grep finds lines that have a name in them, exigrep
messages that have, of whomever; this finds what somebody pays for or has sent, by the same
rules as limits do, whatever a sender, a recipient or a subject says. sluice need not run,
and nothing has to be installed: copy the program to the host, and name the logs.

What others have sent to a forwarder of a domain is under forward:DOMAIN.
The exit code is 1 where there is nothing.

Examples:
  sluice log example.com --last 100
  sluice log news@example.com --deferred --count
  sluice log forward:example.com --failed --since 24h
  sluice log 1xUzc7-0006ja-2I
  sluice log account:bob --log /var/log/exim_mainlog*` +
		jsonHelp(loggedLine{}, "There is one object for each line.") +
		jsonHelp(logCount{}, "With --count:")
}

// logFiles are the files that --log was given.
type logFiles []string

// Decode takes all arguments up to the next flag, so that a shell may expand *.
func (f *logFiles) Decode(ctx *kong.DecodeContext) error {
	var name string
	if err := ctx.Scan.PopValueInto("FILE", &name); err != nil {
		return err
	}
	*f = append(*f, name)
	for next := ctx.Scan.Peek(); !next.IsEOL() && next.IsValue(); next = ctx.Scan.Peek() {
		*f = append(*f, ctx.Scan.Pop().String())
	}
	return nil
}

// A loggedLine is one line, for --json.
type loggedLine struct {
	At        time.Time `json:"at"`
	ID        string    `json:"id,omitempty"`
	Kind      string    `json:"kind"`
	Recipient string    `json:"recipient,omitempty"`
	Line      string    `json:"line"`
}

// A logCount is how much there is.
type logCount struct {
	Lines    int64 `json:"lines"`
	Messages int64 `json:"messages"`
}

func (c logCmd) Run(t *terminal) error {
	if err := c.run(t); err != nil {
		return fmt.Errorf("log %s: %w", printable.Of(c.Scope), err)
	}
	return nil
}

func (c logCmd) run(t *terminal) error {
	since, err := c.since(time.Now())
	if err != nil {
		return err
	}
	names, err := c.files(t)
	if err != nil {
		return err
	}
	options, _, err := c.settingsFor(t, names)
	if err != nil {
		return err
	}
	search, err := simulate.NewSearch(options, c.Scope)
	if err != nil {
		return err
	}
	out := &lineWriter{logCmd: c, from: since, to: t.stdout, messages: map[string]bool{}}
	if err := searchLogs(t, names, search, out.add); err != nil {
		return err
	}
	return out.end()
}

// since is the earliest time of which lines are shown; zero: all are.
func (c logCmd) since(now time.Time) (time.Time, error) {
	switch {
	case c.Last != nil && *c.Last < 1:
		return time.Time{}, fmt.Errorf("--last is %d, it must be 1 at least", *c.Last)
	case c.Since == "":
		return time.Time{}, nil
	}
	within, err := parseTime("--since", c.Since)
	return now.Add(-within), err
}

// files are the logs to read.
func (c logCmd) files(t *terminal) ([]string, error) {
	if len(c.Log) > 0 {
		return c.Log, nil
	}
	config, err := t.loadConfig()
	if err != nil {
		return nil, err
	}
	if config.Exim.Mainlog == "" {
		return nil, errors.New("exim.mainlog is empty in the configuration: name the logs with --log")
	}
	names, err := mainlog.Files(config.Exim.Mainlog, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w, which the configuration names as exim.mainlog; name the logs with --log", err)
	}
	return names, nil
}

// searchLogs reads logs twice. Both readings are of the files as they are named now, though
// they may be rotated meanwhile.
func searchLogs(t *terminal, names []string, search *simulate.Search, emit func(*logline.Entry)) error {
	first, err := mainlog.OpenHistory(names, time.Local)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := mainlog.OpenHistory(names, time.Local)
	if err != nil {
		return err
	}
	defer second.Close()
	if err := readLogs(t, first, search.Finder()); err != nil {
		return err
	}
	second.EveryLine()
	return second.Read(t.ctx, search.Lister(emit), func() {})
}

// A lineWriter prints the lines that a search finds.
type lineWriter struct {
	logCmd
	from     time.Time
	to       io.Writer
	last     []loggedLine
	next     int // of last, which is full: where the next line goes
	lines    int64
	messages map[string]bool
	unsent   strings.Builder
	err      error // of a write
}

// add takes the next line.
func (w *lineWriter) add(e *logline.Entry) {
	if !w.wants(e.Kind) || e.At.Before(w.from) || w.err != nil {
		return
	}
	w.lines++
	if e.ID != "" && !w.messages[e.ID] {
		w.messages[strings.Clone(e.ID)] = true
	}
	line := loggedLine{e.At, e.ID, kindNames[e.Kind], e.Recipient, e.Line}
	switch {
	case w.Count:
	case w.Last == nil:
		w.print(line)
	case len(w.last) < *w.Last:
		w.last = append(w.last, line.clone())
	default:
		w.last[w.next] = line.clone()
		w.next = (w.next + 1) % *w.Last
	}
}

// wants reports whether lines of a kind are shown.
func (w *lineWriter) wants(kind logline.Kind) bool {
	switch {
	case !w.Delivered && !w.Deferred && !w.Failed && !w.Refused:
		return true
	case kind == logline.Delivered:
		return w.Delivered
	case kind == logline.Deferred:
		return w.Deferred
	case kind == logline.Failed:
		return w.Failed
	}
	return kind == logline.Refused && w.Refused
}

// kindNames are the kinds of lines, for --json.
var kindNames = [...]string{0: "other", logline.Arrived: "arrived", logline.Delivered: "delivered", logline.Deferred: "deferred", logline.Failed: "failed",
	logline.Completed: "completed", logline.Moved: "moved", logline.Lost: "lost", logline.Sender: "other", logline.Expired: "other", logline.Refused: "refused", logline.Ran: "ran"}

// clone copies a line, so that the block of the log can be freed.
func (l loggedLine) clone() loggedLine {
	l.ID, l.Recipient, l.Line = strings.Clone(l.ID), strings.Clone(l.Recipient), strings.Clone(l.Line)
	return l
}

// writeAt is how many bytes are written at once.
const writeAt = 64 << 10

func (w *lineWriter) print(l loggedLine) {
	if w.JSON {
		e := json.NewEncoder(&w.unsent)
		e.SetEscapeHTML(false)
		w.err = e.Encode(l)
	} else {
		fmt.Fprintln(&w.unsent, printable.Of(l.Line))
	}
	if w.unsent.Len() >= writeAt {
		w.flush()
	}
}

func (w *lineWriter) flush() {
	if w.err == nil {
		_, w.err = io.WriteString(w.to, w.unsent.String())
	}
	w.unsent.Reset()
}

// end prints what is left, and fails where nothing was found.
func (w *lineWriter) end() error {
	for i := range w.last {
		w.print(w.last[(w.next+i)%len(w.last)])
	}
	w.flush()
	n := logCount{w.lines, int64(len(w.messages))}
	switch {
	case w.err != nil:
		return fmt.Errorf("print the lines: %w", w.err)
	case w.Count && w.JSON:
		w.err = printJSON(w.to, n)
	case w.Count:
		_, w.err = fmt.Fprintf(w.to, "%s of %s\n", printable.Count(n.Lines, "line", "lines"), printable.Count(n.Messages, "message", "messages"))
	}
	if w.err == nil && w.lines == 0 {
		return no{errors.New("there is nothing of it in the logs")}
	}
	return w.err
}
