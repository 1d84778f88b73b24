package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/policyd"
)

// checkCmd has a flag for each attribute of the protocol.
type checkCmd struct {
	Stage         string `enum:"rcpt,data,local,route," default:"" placeholder:"STAGE" help:"Where in Exim: rcpt, data, local or route. Without it, attributes are read from stdin."`
	ID            string `name:"id" help:"Exim's message id."`
	Sender        string `help:"Envelope sender."`
	Recipient     string `help:"One recipient; at rcpt and route."`
	Recipients    string `help:"All recipients, as Exim's $recipients has them; at data and local."`
	Auth          string `help:"The id that an SMTP client authenticated as."`
	Login         string `help:"Login name of whoever ran sendmail."`
	UID           string `name:"uid" help:"User id of whoever ran sendmail."`
	CWD           string `name:"cwd" help:"Directory in which sendmail was run."`
	Script        string `help:"What a header says of the script that sends: X-PHP-Originating-Script."`
	Subject       string `help:"Subject of the message; at data and local."`
	ClientAddress string `help:"IP address of the SMTP client."`
	Payer         string `placeholder:"WHO" help:"Whose program on this host the SMTP client is, as an answer said: uid:N or loopback."`
	Original      string `help:"The address that an alias or list redirected; at route."`
	Charged       bool   `help:"The message was charged at data or local."`
	Sent          int    `help:"Remote recipients already accepted for this message; at rcpt."`

	Base64  string        `name:"base64" placeholder:"TEXT" help:"The question as stdin would have it, in base64: one argument, which no value in it breaks."`
	Socket  string        `name:"socket" placeholder:"PATH" help:"Ask at this unix socket; the configuration is not read."`
	Timeout time.Duration `name:"timeout" default:"1s" help:"How long to wait for the answer."`
	jsonFlag
}

// Help is the long help.
func (checkCmd) Help() string {
	return `The question is a real one: at data, local and route an accepted message is charged.
It is read from stdin if there is no --stage: lines name=value, an empty line ends it.
The exit code is 0 when there was an answer, whatever it says:

  DUNNO    Exim goes on: there is room, or nobody is charged. Local recipients are
           not, nor is inbound mail: give --auth, or --login for sendmail.
  450      over the limit: the client is to try again later; at route Exim holds it
  550      far over the limit: the client gives up
  room=N   for how many remote recipients the message has room in all; 1000000 is
           no limit. It reserves nothing.

Examples:
  sluice check --stage rcpt --auth news@example.com --recipient bob@example.net
  sluice check --stage local --login bob --sender bob@example.com --recipients 'a@example.net, b@example.net'
  printf 'stage=rcpt\nauth=news@example.com\nrecipient=bob@example.net\n\n' | sluice check` +
		jsonHelp(policyd.Answer{}, "room is null where the answer has none.")
}

func (c checkCmd) Run(t *terminal) error {
	fields, err := c.question(t.stdin)
	if err != nil {
		return fmt.Errorf("check: read the question %w", err)
	}
	if c.Base64 == "" { // with --base64 Exim asks, and only the server judges its questions
		if err := validate(fields); err != nil {
			return fmt.Errorf("check: %w\nTry: sluice check --help", err)
		}
	}
	socket, warning := c.Socket, ""
	if socket == "" {
		listens, _, trouble, err := config.Sockets(t.configFile)
		if err == nil {
			socket, err = config.UnixSocket(listens)
		}
		if err != nil {
			return fmt.Errorf("check: find the policy socket: %w", err)
		}
		warning = caveat("listen.policy", trouble)
	}
	client := policyd.Client{Path: socket, Timeout: c.Timeout}
	reply, err := client.Ask(t.ctx, fields)
	if err != nil {
		return fmt.Errorf("check: %w\n%s%s", err, c.whyUnanswered(err), warning)
	}
	if c.JSON {
		return printJSON(t.stdout, policyd.AnswerOf(reply))
	}
	fmt.Fprintln(t.stdout, reply)
	return nil
}

// whyUnanswered says what an operator can do about a question without an answer.
func (c checkCmd) whyUnanswered(err error) string {
	const who = "root, Exim's and Postfix's users may ask"
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "This user may not ask: " + who + "."
	case errors.Is(err, context.DeadlineExceeded):
		return "sluice listens there: it hangs, is very busy, or has less time than it needs (--timeout)."
	case !errors.Is(err, policyd.ErrNoAnswer):
		return "Is `sluice serve` running, and with the same --config?"
	case c.Stage == "": // on stdin or in --base64 it may be malformed
		return "May this user ask (" + who + "), or is the question malformed? The log of sluice says which."
	}
	return "May this user ask? (" + who + ") The log of sluice says so."
}

// question returns the question, from wherever it was given.
func (c checkCmd) question(stdin io.Reader) ([]policyd.Field, error) {
	if c.Base64 != "" {
		text, err := base64.StdEncoding.DecodeString(c.Base64)
		if err != nil {
			return nil, fmt.Errorf("in --base64: %w", err)
		}
		fields, err := policyd.ReadQuestion(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("in --base64: %w", err)
		}
		return fields, nil
	}
	if c.Stage != "" {
		return c.fields(), nil
	}
	fields, err := policyd.ReadQuestion(stdin)
	if err != nil {
		return nil, fmt.Errorf("from stdin: %w", err)
	}
	return fields, nil
}

// attributes are those of a question, in the order of their flags.
const attributes = "stage id sender recipient recipients auth login uid cwd script subject original client_address client_port server_address server_port " +
	"proxy_address proxy_port payer originator charged sent version number"

// validate refuses mistakes in a question that a person has typed and that the server
// would answer: without a recipient everybody may send, and the server ignores unknown
// attributes, for the sake of newer Exim configurations.
func validate(fields []policyd.Field) error {
	values := map[string]string{}
	for _, f := range fields {
		if !slices.Contains(strings.Fields(attributes), f.Name) {
			return fmt.Errorf("unknown attribute %q; there are %s", f.Name, attributes)
		}
		if _, twice := values[f.Name]; twice {
			return fmt.Errorf("the attribute %s comes twice", f.Name)
		}
		values[f.Name] = f.Value
	}
	switch stage := values["stage"]; stage {
	case "rcpt", "route":
		if values["recipient"] == "" {
			return fmt.Errorf("stage %s asks about one recipient: give --recipient bob@example.net (on stdin recipient=...)", stage)
		}
	case "data", "local":
		if values["recipients"] == "" {
			return fmt.Errorf("stage %s asks about all recipients of a message: give --recipients 'bob@example.net, eve@example.org' (on stdin recipients=...)", stage)
		}
	default:
		return fmt.Errorf("stage %q is none: give rcpt, data, local or route", stage)
	}
	return nil
}

// fields returns the attributes that were given as flags.
func (c checkCmd) fields() []policyd.Field {
	fields := []policyd.Field{{Name: "stage", Value: c.Stage}}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, policyd.Field{Name: name, Value: value})
		}
	}
	add("id", c.ID)
	add("sender", c.Sender)
	add("recipient", c.Recipient)
	add("recipients", c.Recipients)
	add("auth", c.Auth)
	add("login", c.Login)
	add("uid", c.UID)
	add("cwd", c.CWD)
	add("script", c.Script)
	add("subject", c.Subject)
	add("client_address", c.ClientAddress)
	add("payer", c.Payer)
	add("original", c.Original)
	if c.Charged {
		add("charged", "yes")
	}
	if c.Sent != 0 {
		add("sent", strconv.Itoa(c.Sent))
	}
	return fields
}
