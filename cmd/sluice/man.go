package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"sluice/sidecar/config"
)

// manCmd is for whoever builds a package.
type manCmd struct {
	TOML bool `name:"toml" help:"The one of sluice.toml, section 5."`
}

// Help is the long help.
func (manCmd) Help() string {
	return `Prints the manual page of sluice, section 8, as it is made of the help of all commands; with
--toml that of sluice.toml, made of its keys.

Examples:
  sluice man >sluice.8
  sluice man --toml | man -l -`
}

func (c manCmd) Run(t *terminal, parsed *kong.Context) error {
	page := manual{t.stdout}
	if c.TOML {
		page.ofKeys(config.Describe())
	} else {
		page.ofCommands(parsed.Model)
	}
	return nil
}

// A manual writes a manual page in the language of man(7).
type manual struct{ w io.Writer }

// roff escapes a text for a manual page.
var roff = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n.", "\n\\&.", "\n'", "\n\\&'")

func (m manual) head(name, section, what string) {
	fmt.Fprintf(m.w, ".TH %s %s \"\" \"sluice %s\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), section, roff.Replace(programVersion()), name, roff.Replace(what))
}

func (m manual) section(name string)   { fmt.Fprintf(m.w, ".SH %s\n", name) }
func (m manual) paragraph(text string) { fmt.Fprintf(m.w, "%s\n.PP\n", roff.Replace(text)) }
func (m manual) item(what, text string) {
	fmt.Fprintf(m.w, ".TP\n\\fB%s\\fR\n%s\n", roff.Replace(what), roff.Replace(text))
}
func (m manual) preformatted(text string) {
	fmt.Fprintf(m.w, ".nf\n\\&%s\n.fi\n", roff.Replace(text))
}

// ofCommands is sluice(8).
func (m manual) ofCommands(app *kong.Application) {
	m.head("sluice", "8", "limits for outbound mail of Exim")
	m.section("SYNOPSIS")
	m.paragraph("sluice COMMAND [ARGUMENT...] [FLAG...]")
	m.section("DESCRIPTION")
	m.paragraph("Sluice counts what each domain sends, answers Exim over a local socket before it accepts a message, and has it refuse who is over a limit, by name. " +
		"The exit code is 0 for done or yes, 1 for no (refused, not found, unhealthy), and 2 where the usage was wrong or it could not be asked.")
	m.section("OPTIONS OF ALL COMMANDS")
	m.flags(app.Node)
	m.section("COMMANDS")
	for _, command := range app.Leaves(true) {
		fmt.Fprintf(m.w, ".SS %s\n", roff.Replace(strings.TrimPrefix(command.FullPath(), "sluice ")))
		m.paragraph(command.Help)
		m.arguments(command)
		m.flags(command)
		if command.Detail != "" {
			m.preformatted(command.Detail)
		}
	}
	m.section("FILES")
	m.item(config.DefaultPath, "The configuration, see sluice.toml(5).")
	m.item("/var/lib/sluice", "The ledger: what was counted, and what has happened.")
	m.item("/var/cpanel/email_send_limits", "Lock files; another directory with locks.dir.")
	m.section("SEE ALSO")
	m.paragraph("sluice.toml(5), exim(8)")
}

func (m manual) arguments(command *kong.Node) {
	for _, a := range command.Positional {
		m.item(a.Summary(), a.Help)
	}
}

func (m manual) flags(command *kong.Node) {
	for _, f := range command.Flags {
		if !f.Hidden && f.Name != "help" {
			m.item(f.String(), f.Help)
		}
	}
}

// ofKeys is sluice.toml(5).
func (m manual) ofKeys(keys []config.Description) {
	m.head("sluice.toml", "5", "configuration of sluice")
	m.section("DESCRIPTION")
	m.paragraph(config.DefaultPath + " is in TOML; every key is optional. It is in force as soon as it is saved, but for keys that say restart; with a mistake in it sluice goes on as before, " +
		"and sluice config --check says what is wrong. sluice config prints all keys with their values, and where each comes from.")
	m.section("KEYS")
	for _, k := range keys {
		acts := "in force as soon as the file is saved"
		if k.Restart {
			acts = "in force after a restart"
		}
		m.item(k.Key, fmt.Sprintf("%s It must be %s. Default: %s; %s.", k.What, k.Allowed, k.Default, acts))
	}
	m.section("SEE ALSO")
	m.paragraph("sluice(8)")
}
