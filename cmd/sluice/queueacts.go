package main

import (
	"fmt"
	"strings"
	"time"

	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/queue"
)

const (
	stayed   = "are as they were: Exim delivers them, or will not, and its main log says why"
	moveMore = "\nWhat Exim delivers just then is tried again, and then named. Each is looked up afterwards, for\nExim's exit code says nothing. Works without a running sluice, in all named queues.\n"
)

type quarantineCmd struct{ actFlags }

// Help is the long help.
func (quarantineCmd) Help() string {
	return `Moves messages into a named queue of Exim, ` + logline.QuarantineQueue + `, where nothing is delivered or
bounced, and nothing is lost: sluice undo or sluice queue restore moves them back as they
were. It is the way to clean up, before it is certain what is spam.` + moveMore + `
Examples:
  sluice queue quarantine hacked@example.com --since 10:47 --why "ticket 4711"
  sluice queue quarantine --bounces-of hacked@example.com --dry-run
  sluice queue quarantine --subject "you have won" --max 5000 --yes` + jsonHelp(acted{}, "")
}

func (c quarantineCmd) Run(t *terminal) error {
	return c.act(t, queueAct{verb: quarantine.Quarantine, name: "quarantine", command: "exim -MG " + logline.QuarantineQueue, undone: true, left: stayed,
		dropped: "are in the quarantine", drop: func(m queue.Message) bool { return m.Queue == logline.QuarantineQueue }})
}

type restoreCmd struct{ actFlags }

// Help is the long help.
func (restoreCmd) Help() string {
	return `Moves messages from the quarantine back into the queues from where they came. Exim would bounce
what is older than its retry rules at the first 4xx: the senders of such messages are listed in
` + quarantine.LatePath + ` before, and what they send is tried for 30 days, until those messages have
left the queue.` + moveMore + `
Examples:
  sluice queue restore news@example.com
  sluice queue restore --quarantined --subject invoice --dry-run` + jsonHelp(acted{}, "")
}

func (c restoreCmd) Run(t *terminal) error {
	c.Quarantined = !c.none()
	return c.act(t, queueAct{verb: quarantine.Restore, name: "restore", command: "exim -qG" + logline.QuarantineQueue + " -MG ''", undone: true, left: stayed})
}

type removeCmd struct {
	actFlags
	Now bool `help:"Remove them for good now, and not by way of the quarantine: there is no undo."`
}

// Help is the long help.
func (removeCmd) Help() string {
	return `Moves messages into the quarantine, as quarantine does, and with --quarantined removes for good
what is there. Nobody is told: no bounce is sent, which would go to whoever the sender has named.
Nothing empties the quarantine by itself, unless queue.purge_days is set: then what was put there
by this program, so many days ago, is removed for good, each hour. --older is by when a message came.

Examples:
  sluice queue remove hacked@example.com
  sluice queue remove --quarantined --older 30d
  sluice queue remove --sender "~^bounce-.*@spam.example$" --now --max 1000` + jsonHelp(acted{}, "")
}

func (c removeCmd) Run(t *terminal) error {
	if !c.Now && !c.Quarantined && !c.none() {
		return quarantineCmd{c.actFlags}.Run(t)
	}
	return c.act(t, queueAct{verb: quarantine.Remove, name: "remove", command: "exim -Mrm", left: stayed, warning: "There is no undo."})
}

type flushCmd struct{ actFlags }

// Help is the long help.
func (flushCmd) Help() string {
	return `Has Exim try messages once now, whatever it has noted about their hosts, and says how many have
left the queue. Without the flags that name them it leaves out bounces, what is frozen and what
sluice holds; of what it holds, the limits and stops decide as always. What is in the quarantine is
restored first. More than 500 messages are asked about. Says how often Exim's own queue runner tries, where its daemon's command line has that.

Examples:
  sluice queue flush --to mail.example
  sluice queue flush example.com --held` + jsonHelp(acted{}, "done are those that have left the queue.")
}

// flushUnasked is how many messages are delivered without a question.
const flushUnasked = 500

func (c flushCmd) Run(t *terminal) error {
	config, err := t.loadConfig()
	if err != nil {
		return fmt.Errorf("queue flush: %w", err)
	}
	return c.act(t, queueAct{verb: quarantine.Flush, name: "flush", command: "exim -M", unasked: flushUnasked, left: "wait on",
		warning: runnerText(exim.Find(t.ctx, config.Exim.Binary).QueueEvery("/proc")),
		dropped: "are bounces, frozen, held or in the quarantine: see sluice queue flush --help",
		drop: func(m queue.Message) bool {
			bounce := m.Sender == "" && !c.Bounces && c.BouncesOf == ""
			return bounce || m.Frozen != nil && !c.Frozen || m.Held > 0 && !c.Held || m.Queue == logline.QuarantineQueue
		}})
}

// runnerText says when Exim would try messages by itself; nothing if that is not known.
func runnerText(every time.Duration) string {
	if every == 0 {
		return ""
	}
	return fmt.Sprintf("Exim tries by itself, every %s, what is due and neither frozen nor in a named queue.", printable.Brief(every))
}

type freezeCmd struct{ actFlags }

// Help is the long help.
func (freezeCmd) Help() string {
	return `Has Exim try messages no more until they are thawed. A frozen message is not safe: Exim bounces
or removes it after timeout_frozen_after, tries it again after auto_thaw, and every exim -qff does
so too. Quarantine has none of that.

Examples:
  sluice queue freeze --to slow.example --older 4h` + jsonHelp(acted{}, "")
}

func (c freezeCmd) Run(t *terminal) error {
	config, err := t.loadConfig()
	if err != nil {
		return fmt.Errorf("queue freeze: %w", err)
	}
	return c.act(t, queueAct{verb: quarantine.Freeze, name: "freeze", command: "exim -Mf", undone: true, left: stayed,
		warning: freezeWarning(func(option string) string { return exim.Exim{Binary: config.Exim.Binary}.Option(t.ctx, option) }),
		dropped: "are frozen", drop: func(m queue.Message) bool { return m.Frozen != nil }})
}

// freezeWarning says what ends a freeze by itself, by options of Exim.
func freezeWarning(option func(string) string) string {
	var ends []string
	for _, o := range []struct{ name, then string }{{"timeout_frozen_after", "bounces or removes them"}, {"auto_thaw", "tries them again"}} {
		if after := option(o.name); after != "" && after != "0s" {
			ends = append(ends, fmt.Sprintf("after %s Exim %s (%s)", after, o.then, o.name))
		}
	}
	if len(ends) == 0 {
		return ""
	}
	return "Frozen is not for good: " + strings.Join(ends, ", and ") + ". Quarantine is."
}

type thawCmd struct{ actFlags }

// Help is the long help.
func (thawCmd) Help() string {
	return `Has Exim try frozen messages again: with its next queue run, and what is older than its retry
rules for the last time.

Examples:
  sluice queue thaw example.com
  sluice queue thaw --to mail.example --younger 2d` + jsonHelp(acted{}, "")
}

func (c thawCmd) Run(t *terminal) error {
	if !c.none() {
		c.Frozen = true
	}
	return c.act(t, queueAct{verb: quarantine.Thaw, name: "thaw", command: "exim -Mt", undone: true, left: stayed})
}
