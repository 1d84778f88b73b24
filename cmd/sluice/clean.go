package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/clean"
	"sluice/sidecar/limit"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
)

type cleanCmd struct {
	Which       string   `arg:"" predictor:"scope" name:"incident" help:"Number of an incident, like mx1-42; a sender: news@example.com, login:bob, script:/home/bob/public_html; or a domain, and of it the open incident."`
	DryRun      bool     `help:"Only show the plan."`
	Yes         bool     `help:"Do not ask."`
	Only        []string `placeholder:"STEPS" help:"Only these steps: stop, login, queue, script, scan, release."`
	All         bool     `help:"Also what was sent before the incident."`
	Since       string   `placeholder:"TIME" help:"Only what was sent within this time: 90m, 24h. By default from an hour before the incident; without one within 24h."`
	Reset       bool     `help:"Let the domain start at zero, too. Its mail was sent all the same; there is no undo."`
	NewPassword bool     `help:"Give the login a new password, which is shown once, and do not suspend it. There is no undo. Dovecot cannot: there the login is suspended."`
	Log         logFiles `placeholder:"FILE..." help:"Plan by these main logs of Exim, and not by the running sluice."`
	jsonFlag
}

// Help is the long help.
func (cleanCmd) Help() string {
	return `Cleans up after who has sent what it should not: stops it, suspends its login, takes its mail
and the bounces that its mail has caused out of the queue, disables its script, looks for
malware, and releases its domain. It shows the plan with the commands that do the same, and asks
once; s asks for each step. Enter is yes only where all can be taken back and it is proven
who sends; a directory of a script is only what the script said.

A step that fails keeps only the release from being done. To type the command again does
what is missing. What was done is on record with its number, and sluice undo takes it back:
all of it but files, or one step. Each node of a cluster cleans its own queue, logins and files.
Where nobody is known for certain, nothing is done: it shows who sends, and the commands.

It works without a running sluice for a sender, by the main log and Exim's queue. The exit
code is 0 if all is done or there is nothing to do, 1 if something failed or is left, or nobody
is known for certain, and 2 if it was answered no or could not be begun.

Examples:
  sluice clean mx1-42
  sluice clean hacked@example.com --dry-run
  sluice clean hacked@example.com --yes --only stop,queue
  sluice clean script:/home/bob/public_html/wp --log /var/log/exim4/mainlog` +
		jsonHelp(cleaned{}, "undo takes back all of it. left is for an operator to do.")
}

// cleaned is what clean prints with --json.
type cleaned struct {
	Incident string        `json:"incident,omitempty"`
	Domain   string        `json:"domain,omitempty"`
	Account  string        `json:"account,omitempty"`
	Author   string        `json:"author"`
	Proof    string        `json:"proof"`
	Since    time.Time     `json:"since"`
	Action   int           `json:"action"` // its number; 0: nothing was done
	Undo     string        `json:"undo,omitempty"`
	Steps    []cleanedStep `json:"steps"`
	Left     []string      `json:"left"`
}

// A cleanedStep is the plan of a step, and what became of it.
type cleanedStep struct {
	Name string `json:"name"`
	clean.Plan
	clean.Done
	Failed string `json:"failed,omitempty"`
}

// passwdFile has the accounts of this host, and their homes.
const passwdFile = "/etc/passwd"

// A cleaning is the work of one clean.
type cleaning struct {
	cleanCmd
	t      *terminal
	out    io.Writer // for people
	in     *bufio.Reader
	node   string
	c      clean.Case
	plans  []clean.Planned
	each   bool // it is asked before each step
	result cleaned
	begun  bool // a step was done, or failed on the way
	failed bool
}

func (c cleanCmd) Run(t *terminal) error {
	if err := needRoot("clean"); err != nil {
		return err
	}
	w := &cleaning{cleanCmd: c, t: t, out: t.stdout, in: bufio.NewReader(t.stdin)}
	if c.JSON {
		w.out = t.stderr // so that stdout has nothing else
	}
	err := w.run()
	if u, is := errors.AsType[clean.Unproven](err); is {
		if !c.JSON {
			t.showUnproven(u)
		}
		err = no{u}
	}
	if err != nil {
		return fmt.Errorf("clean %s: %w", printable.Of(c.Which), err)
	}
	return nil
}

func (w *cleaning) run() (err error) {
	if w.node, err = w.t.node(); err != nil {
		return err
	}
	asked, err := w.asked(w.t)
	if err != nil {
		return err
	}
	if w.c, err = asked.Find(w.t.ctx, w.t.host(), time.Now()); err != nil {
		return err
	}
	record, err := action.Open(w.t.actions)
	if err != nil {
		return err
	}
	end, err := remedy.BeginClean(record, w.action())
	if err != nil {
		return err
	}
	defer end()
	if w.plans, err = clean.Make(w.t.ctx, w.c, clean.Steps(w.t.host(), clean.Options{Logs: w.Log, Reset: w.Reset, Password: w.NewPassword, Passwd: passwdFile, Progress: w.t.scanProgress()}), w.Only); err != nil {
		return err
	}
	w.begin()
	w.showPlan()
	if w.DryRun {
		w.showLeft()
		return w.printJSON()
	}
	if !w.idle() {
		if err := w.ask(); err != nil {
			return err
		}
		w.do()
	}
	return w.end()
}

// asked is what was typed.
func (c cleanCmd) asked(t *terminal) (clean.Wanted, error) {
	w := clean.Wanted{Which: c.Which, All: c.All}
	if len(c.Log) > 0 {
		w.Logs = func(author string) (string, error) { return c.inLogs(t, author) }
	}
	ago, err := parseTime("--since", c.Since)
	if err == nil && ago > clean.Oldest {
		err = fmt.Errorf("--since is %s, it can be %d days at most", c.Since, clean.Oldest/limit.Day)
	}
	w.Since = ago
	return w, err
}

// inLogs finds by main logs alone for whom an author has sent, and shows what it has sent.
func (c cleanCmd) inLogs(t *terminal, author string) (domain string, err error) {
	of := false
	who, to, err := whoFromLogs(t, c.Log, foreignFlag{Foreign: &of})
	if err != nil {
		return "", err
	}
	sent := senders.Who{Now: to, Missing: []string{}, Domains: who.Scope(to, author, 1), Uncounted: []senders.Unpaid{}}
	if len(sent.Domains) == 0 {
		return "", no{fmt.Errorf("%s has sent nothing in these logs", author)}
	}
	if !c.JSON {
		printWho(t.stdout, sent, "author", 1, false)
	}
	return sent.Domains[0].Domain, nil
}

// showUnproven prints who sends, and the commands with which an operator decides who it was.
func (t *terminal) showUnproven(u clean.Unproven) {
	if u.Domain == "" {
		return
	}
	who, err := ask(t, "who "+u.Domain, func(a *admin.Client) (senders.Who, error) { return a.WhoSends(t.ctx, u.Domain, 10) })
	if err != nil {
		return
	}
	printWho(t.stdout, who, "author", 10, false)
	for _, r := range who.Domains {
		for _, a := range r.Authors {
			if _, err := stop.Canonical(a.Key); err == nil {
				printf(t.stdout, "  if it was %s:  %s\n", a.Key, printable.Command("sluice clean", a.Key))
			}
		}
	}
}

// begin takes the case and the plans into what is printed as JSON.
func (w *cleaning) begin() {
	w.result = cleaned{Incident: w.c.Incident, Domain: w.c.Domain, Account: w.c.Account, Author: w.c.Author.Key, Proof: w.c.Author.Proof.String(),
		Since: w.c.Since, Steps: make([]cleanedStep, len(w.plans)), Left: []string{}}
	for i, p := range w.plans {
		w.result.Steps[i] = cleanedStep{Name: p.Name(), Plan: p.Plan, Done: clean.Done{Actions: []int{}}}
		if w.result.Steps[i].Lines == nil {
			w.result.Steps[i].Lines = []clean.Line{}
		}
		if p.Err != nil {
			w.result.Steps[i].Failed = p.Err.Error()
		}
	}
}

// showPlan prints what would be done.
func (w *cleaning) showPlan() {
	about := "clean " + w.c.Author.Key
	if w.c.Incident != "" {
		about = fmt.Sprintf("incident %s  %s, culprit %s", w.c.Incident, w.c.Domain, w.c.Author.Key)
	}
	since := ", mail since " + printable.DateTime(w.c.Since)
	if w.All {
		since = ", all its mail"
	}
	printf(w.out, "%s (%s: %s)%s\n", about, w.c.Author.Kind(), w.c.Author.Proof, since)
	for i := range w.plans {
		p := &w.plans[i]
		lines := p.Plan.Lines
		switch {
		case p.Err != nil:
			lines = []clean.Line{{Text: "cannot be planned: " + p.Err.Error()}}
		case p.Idle():
			lines = []clean.Line{{Text: "nothing: " + p.Plan.Nothing}}
		}
		for n, l := range lines {
			head := "           "
			if n == 0 {
				head = fmt.Sprintf(" %d %-8s ", i+1, p.Name())
			}
			command := ""
			if l.Command != "" {
				command = "   [" + l.Command + "]"
			}
			printf(w.out, "%s%s%s\n", head, l.Text, command)
		}
	}
}

// idle reports whether there is nothing to do.
func (w *cleaning) idle() bool {
	for i := range w.plans {
		if !w.plans[i].Idle() {
			return false
		}
	}
	return true
}

// errNothingDone says that nobody wanted anything to be done.
var errNothingDone = errors.New("nothing was done")

// ask asks once whether to go on, or to ask for each step.
func (w *cleaning) ask() error {
	if w.Yes {
		return nil
	}
	choice := "[y/N/steps]"
	sure := clean.Sure(w.c, w.plans)
	if sure {
		choice = "[Y/n/steps]"
	}
	switch answer, err := w.answer("do? " + choice + " "); {
	case err != nil:
		return fmt.Errorf("%w: nobody has answered; with --yes it is not asked", errNothingDone)
	case answer == "s" || answer == "steps":
		w.each = true
	case answer == "y" || answer == "yes" || answer == "" && sure:
	default:
		return errNothingDone
	}
	return nil
}

// answer asks something on the terminal.
func (w *cleaning) answer(question string) (string, error) {
	fmt.Fprint(w.out, question)
	line, err := w.in.ReadString('\n')
	if err != nil {
		fmt.Fprintln(w.out)
		return "", err
	}
	return strings.ToLower(strings.TrimSpace(line)), w.t.ctx.Err()
}

// action is all of the clean, as it is recorded.
func (w *cleaning) action() *action.Action {
	return &action.Action{Verb: remedy.VerbClean, Whom: w.c.Author.Key, Incident: w.c.Incident}
}

// do does the steps, and says how each has ended.
func (w *cleaning) do() {
	n, err := w.t.host().Act(*w.action(), nil, func(number int) (any, error) {
		w.c.Number = number
		clean.Run(w.t.ctx, w.c, w.plans, w.wanted, w.printStep)
		switch {
		case w.failed:
			return nil, errors.New("not all of it was done")
		case !w.begun:
			return nil, errNothingDone
		}
		return nil, nil
	})
	switch {
	case n == 0:
		w.failed = true
		printf(w.out, "nothing was done, for it cannot be recorded: %v\n", err)
	case w.begun:
		w.result.Action, w.result.Undo = n, remedy.UndoCommand(w.node, n)
		if err != nil && !w.failed {
			w.failed = true
			printf(w.out, "%v\n", err)
		}
	}
}

// wanted asks whether to do a step, if each is to be asked for.
func (w *cleaning) wanted(p *clean.Planned) bool {
	if !w.each {
		return true
	}
	answer, err := w.answer(fmt.Sprintf("%s: do? [y/N] ", p.Name()))
	w.failed = w.failed || err != nil && w.begun // nobody has said no to the rest
	return err == nil && (answer == "y" || answer == "yes")
}

// printStep takes in what became of a step.
func (w *cleaning) printStep(p *clean.Planned, done clean.Done, err error) {
	for i := range w.result.Steps {
		step := &w.result.Steps[i]
		if step.Name != p.Name() {
			continue
		}
		if step.Done = done; step.Actions == nil {
			step.Actions = []int{}
		}
		if err != nil {
			step.Failed = err.Error()
		}
	}
	w.result.Left = append(w.result.Left, done.Left...)
	w.begun = w.begun || p.Err == nil && !errors.Is(err, clean.ErrSkipped)
	switch {
	case errors.Is(err, clean.ErrSkipped):
		printf(w.out, "%s: %v\n", p.Name(), err)
		w.failed = w.failed || w.begun && (!w.each || w.t.ctx.Err() != nil)
	case err != nil:
		w.failed = true
		printf(w.out, "%s: failed: %v\n", p.Name(), err)
	default:
		printf(w.out, "%s: %s\n", p.Name(), done.Text)
	}
	if done.Password != "" && !w.JSON { // it was set, and is kept nowhere
		printf(w.out, "the new password of %s, which is shown only now: %s\n", w.c.Author.Key, done.Password)
	}
}

// end says how to take it back, and what is left.
func (w *cleaning) end() error {
	if w.result.Action > 0 {
		printf(w.out, "done. Undo: %s (all)", w.result.Undo)
		for _, s := range w.result.Steps {
			for _, n := range s.Actions {
				printf(w.out, ", %s:%d (%s)", w.node, n, s.Name)
			}
		}
		fmt.Fprintln(w.out)
	} else if w.idle() {
		fmt.Fprintln(w.out, "there is nothing to do")
	}
	w.showLeft()
	if err := w.printJSON(); err != nil {
		return err
	}
	switch {
	case !w.begun && !w.failed && !w.idle():
		return errNothingDone
	case w.failed:
		return no{errors.New("not all of it was done; type it again when that is mended, and it does what is missing")}
	case len(w.result.Left) > 0:
		return no{errors.New("something is left")}
	}
	return nil
}

// showLeft prints what is left for an operator, here and on other nodes.
func (w *cleaning) showLeft() {
	w.result.Left = append(w.result.Left, clean.Elsewhere(w.t.ctx, w.t.host(), w.c, w.Which)...)
	for _, left := range w.result.Left {
		printf(w.out, "left: %s\n", left)
	}
}

func (w *cleaning) printJSON() error {
	if !w.JSON {
		return nil
	}
	return printJSON(w.t.stdout, w.result)
}
