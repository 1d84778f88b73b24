package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/history"
	"sluice/sidecar/journald"
	"sluice/sidecar/panel"
	"sluice/sidecar/remedy"
	"sluice/sidecar/typed"
)

// These are the exit codes of every command.
const (
	exitDone  = 0 // yes, done
	exitNo    = 1 // refused, not found, unhealthy
	exitError = 2 // wrong usage, or it could not be asked
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, journald.Stderr())
	stop()
	os.Exit(code)
}

// commands is the command line, as kong parses it.
type commands struct {
	Config string `name:"config" type:"path" placeholder:"FILE" help:"Configuration file (default: ${config}, if it exists)."`
	Admin  string `name:"admin" type:"path" placeholder:"SOCKET" help:"Socket of the running sluice (default: listen.admin of the configuration)."`

	Actions string `name:"actions" hidden:"" type:"path" help:"Directory of the record of actions."`

	Serve    serveCmd      `cmd:"" help:"Answer Exim and Postfix until told to stop."`
	Status   statusCmd     `cmd:"" help:"Show who sent how much, what is locked and held, and until when."`
	Who      whoCmd        `cmd:"" help:"Show who sends most: of a domain, or of all."`
	Queue    queueCommands `cmd:"" help:"Show what waits in Exim's queue, and whose it is; quarantine it, restore it, deliver it."`
	Events   eventsCmd     `cmd:"" help:"Show what was locked, refused and released, when and by whom."`
	Incident incidentCmd   `cmd:"" help:"Show what has gone wrong with a domain or this node, from its begin to its end."`
	Lock     lockCmd       `cmd:"" help:"Refuse a domain until it is unlocked."`
	Unlock   unlockCmd     `cmd:"" help:"Remove every lock of a domain and let it start at zero."`
	Stop     stopCmd       `cmd:"" help:"Stop one mailbox, script or other author, while its domain goes on."`
	Start    startCmd      `cmd:"" help:"Let a stopped author send again."`
	Expect   expectCmd     `cmd:"" help:"Say that it is fine how much somebody sends: no spike, no notice."`
	Reset    resetCmd      `cmd:"" help:"Let a domain, account or mailbox start at zero."`
	Set      setCmd        `cmd:"" help:"Change limits now, for good or for a time."`
	Unset    unsetCmd      `cmd:"" help:"Take back what was set."`
	Explain  explainCmd    `cmd:"" help:"Show which limits are in force for somebody, and who set them."`
	History  historyCmd    `cmd:"" help:"Show who changed which limits."`
	Rollback rollbackCmd   `cmd:"" help:"Take back one change of the history."`
	Clean    cleanCmd      `cmd:"" help:"Stop who has sent what it should not, and clean up after it."`
	Did      actionsCmd    `cmd:"" name:"actions" help:"Show what was done for operators to queue, logins and scripts, and by whom."`
	Login    loginCmd      `cmd:"" help:"Suspend the login of a mailbox whose password is stolen, and resume it."`
	Undo     undoCmd       `cmd:"" help:"Take back one action, all of a clean, or one change of the history."`
	Script   scriptCmd     `cmd:"" help:"Disable a tenant's script that sends spam, enable it again, or look for malware."`
	Check    checkCmd      `cmd:"" help:"Ask one question as Exim would, and print the answer."`
	Show     configCmd     `cmd:"" name:"config" help:"Print the configuration and where each value comes from."`
	Log      logCmd        `cmd:"" help:"Show what Exim has logged about the messages of somebody."`
	Simulate simulateCmd   `cmd:"" help:"Show what limits would have done to the mail of a log."`
	Alert    alertCmd      `cmd:"" help:"Find out whether operators would be told of an incident."`
	Learn    learnCmd      `cmd:"" help:"Learn from old logs how much everybody usually sends."`
	Doctor   doctorCmd     `cmd:"" help:"Look whether Exim, the log, the lock files and this host are as they should be."`
	Exim     eximCmd       `cmd:"" help:"Put Sluice into Exim's configuration, or take it out."`
	Deliver  deliverCmd    `cmd:"" hidden:"" help:"Have Exim deliver messages, for the unit sluice-deliver."`
	Notify   notifyCmd     `cmd:"" hidden:"" help:"Post a notice or hand it to a program, for the unit sluice-notify."`
	Man      manCmd        `cmd:"" hidden:"" help:"Print the manual page."`
	Version  versionCmd    `cmd:"" help:"Print the version."`
}

// A terminal is what a command reads and writes, and the global flags.
type terminal struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer // screens
	log            io.Writer // stderr as it is, for what escapes by itself
	configFile     string    // "": the default one
	adminSocket    string    // "": the configured one
	actions        string    // directory of the record of actions
	audit          *slog.Logger
}

// run runs the command in args and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, out, log io.Writer) int {
	var cmd commands
	helped := false
	stdout, stderr := newScreen(out), newScreen(log)
	parser, err := kong.New(&cmd,
		kong.Name("sluice"),
		kong.Description("A policy sidecar for Exim: limits how much each domain may send."),
		kong.Vars{"config": config.DefaultPath},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), // after --help; kong then parses on
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "sluice:", err)
		return exitError
	}
	t := &terminal{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, log: log, audit: journald.NewAudit()}
	if completes(parser, t.scopes) {
		return exitDone
	}
	parsed, err := parser.Parse(normalize(args))
	switch {
	case helped && (len(args) == 0 || stdout.failed != nil):
		return exitError
	case helped:
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(stderr, "sluice: %v\nTry: %s --help\n", err, commandOf(err))
		return exitError
	}
	t.configFile, t.adminSocket, t.actions = cmd.Config, cmd.Admin, cmp.Or(cmd.Actions, action.Dir)
	err = parsed.Run(t)
	if err != nil {
		text := err.Error()
		if ctx.Err() != nil { // by ^C, or a signal
			text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
		}
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && !strings.Contains(text, "sudo sluice") {
			text += "\nThis user may not. Try: sudo sluice ..."
		}
		fmt.Fprintln(stderr, "sluice:", text)
	}
	switch {
	case stdout.failed != nil && err == nil:
		fmt.Fprintf(stderr, "sluice: done, but not all of it could be printed: %v\n", stdout.failed)
		return exitError
	case stdout.failed != nil:
		return exitError
	case err != nil:
		return exitCode(err)
	}
	return exitDone
}

// normalize turns what other programs take, `help COMMAND` and --version, into what this
// one takes: COMMAND --help and the command version. No command at all is --help.
func normalize(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case len(args) > 0 && args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case len(args) > 0 && args[0] == "--version":
		return append([]string{"version"}, args[1:]...)
	}
	return args
}

// commandOf is the command whose arguments were wrong, as typed.
func commandOf(err error) string {
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil {
		name := ""
		for command := p.Context.Selected(); command != nil && command.Parent != nil; command = command.Parent {
			name = " " + command.Name + name
		}
		return "sluice" + name
	}
	return "sluice"
}

// A no is an error for a negative result, rather than for a failure.
type no struct{ error }

func exitCode(err error) int {
	_, said := errors.AsType[no](err)
	_, found := errors.AsType[remedy.No](err)
	if said || found || errors.Is(err, typed.ErrNotFound) || errors.Is(err, history.ErrNoEffect) || errors.Is(err, action.ErrNotFound) || errors.Is(err, action.ErrChanged) {
		return exitNo
	}
	return exitError
}

// orAll is an argument that may be left out, "" if it is. One that is typed and empty is an error: a
// script whose variable is not set would be shown all.
func orAll(argument *string, empty string) (string, error) {
	switch {
	case argument == nil:
		return "", nil
	case *argument == "":
		return "", errors.New(empty)
	}
	return *argument, nil
}

// ask asks the running sluice, and returns its answer.
func ask[T any](t *terminal, what string, question func(*admin.Client) (T, error)) (answer T, err error) {
	err = t.askAdmin(what, func(a *admin.Client) (err error) {
		answer, err = question(a)
		return err
	})
	return answer, err
}

// show asks the running sluice, and prints its answer.
func show[T any](t *terminal, asJSON bool, what string, question func(*admin.Client) (T, error), print func(T)) error {
	answer, err := ask(t, what, question)
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(t.stdout, answer)
	}
	print(answer)
	return nil
}

// loadConfig reads the configuration file, and takes what it leaves open from the panel.
func (t *terminal) loadConfig() (*config.Config, error) {
	c, err := config.Load(t.configFile)
	if err == nil && c.Panel.Follow {
		panel.Assume(c, panelRoot(c))
	}
	return c, err
}

// askAdmin asks the running sluice. It tells operators what they can do about a failure.
func (t *terminal) askAdmin(what string, ask func(*admin.Client) error) error {
	socket, warning := t.adminSocket, ""
	if socket == "" {
		_, l, trouble, err := config.Sockets(t.configFile)
		if err != nil {
			return fmt.Errorf("%s: find the admin socket: %w", what, err)
		}
		socket, warning = l.Address(), caveat("listen.admin", trouble)
	}
	err := ask(admin.NewClient(socket))
	switch {
	case errors.Is(err, admin.ErrUnreachable):
		return fmt.Errorf("%s: ask %s: %w\nIs `sluice serve` running, and with the same --config?%s", what, socket, err, warning)
	case errors.Is(err, admin.ErrSilent):
		return fmt.Errorf("%s: ask %s: %w\nsluice listens there: it hangs, or is very busy. Look at its log, or restart it.", what, socket, err)
	case errors.Is(err, admin.ErrForbidden):
		return fmt.Errorf("%s: ask %s: %w\nOnly root may ask. Try: sudo sluice ...", what, socket, err)
	case err != nil:
		return err // the server's error says what it was doing
	}
	return nil
}

// caveat warns that the address of a socket may be wrong, because the configuration is not
// valid; "" if it is.
func caveat(key string, trouble error) string {
	if trouble == nil {
		return ""
	}
	return fmt.Sprintf("\nThe configuration is not good, and so %s may not be what it means: %v", key, trouble)
}
