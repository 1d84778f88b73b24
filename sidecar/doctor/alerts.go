package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sluice/sidecar/config"
	"sluice/sidecar/envelope"
)

// checkAlerts says who is told of incidents, and looks whether that could fail just when there is
// one.
func (d *doctor) checkAlerts() {
	const check = "alerts"
	to := d.config.Alert.To
	if len(to) == 0 {
		d.note(check, "Name somebody in [[alert.to]].", "alert.to is empty: nobody is told of incidents")
		return
	}
	var told []string
	for _, c := range to {
		told = append(told, c.Kind+" "+c.Shown()+" from "+c.AtLeast+" on")
		d.checkChannel(c)
	}
	whom := "told of incidents: " + strings.Join(told, ", ")
	if onlyMail(d.config.Alert.To) {
		d.note(check, "Add a webhook or a program (exec) to [[alert.to]]; `sluice alert test` shows whether mail arrives.",
			"%s: all of it is mail, and does not arrive when mail does not go", whom)
	} else {
		d.ok(check, "%s; `sluice alert test` tries it", whom)
	}
	d.checkLFD()
}

// onlyMail reports whether every channel is mail.
func onlyMail(channels []config.Channel) bool {
	for _, c := range channels {
		if c.Kind != config.AlertMail {
			return false
		}
	}
	return true
}

// checkChannel looks at one channel.
func (d *doctor) checkChannel(c config.Channel) {
	check := "alerts by " + c.Name
	domain := envelope.DomainOf(c.Target)
	switch {
	case c.Kind == config.AlertMail && domain != "" && d.settings.Locals.Get().Has(domain):
		d.note(check, "Name an address on another host.", "%s is on this host: whoever has stolen that mailbox reads, and deletes, what you are told", c.Target)
	case c.Kind == config.AlertExec:
		info, err := os.Stat(c.Target)
		if err != nil {
			d.wrong(check, "Mend exec in [[alert.to]].", "nobody is told by it: %v", err)
		} else if info.Mode().Perm()&0o005 != 0o005 || !info.Mode().IsRegular() {
			d.wrong(check, "chmod 755 "+c.Target, "%s is run as nobody in particular, who cannot read and execute it (mode %04o)", c.Target, info.Mode().Perm())
		}
	}
	if _, err := c.Secret(); err != nil {
		d.wrong(check, "Mend the file; what is posted is signed with the key in it.", "%v", err)
	}
}

// lfdTells are settings of csf.conf with which its lfd mails about the same mail.
var lfdTells = regexp.MustCompile(`(?m)^(LF_SCRIPT_ALERT|RT_(?:RELAY|AUTHRELAY|POPRELAY|LOCALRELAY|LOCALHOSTRELAY)_ALERT)\s*=\s*"1"`)

// checkLFD looks whether CSF's lfd tells of the same incidents too.
func (d *doctor) checkLFD() {
	file := filepath.Join(d.Root, "etc/csf/csf.conf")
	text, _ := os.ReadFile(file) // only hosts with CSF have it
	if found := lfdTells.FindSubmatch(text); found != nil {
		d.note("lfd", "Set LF_SCRIPT_ALERT and RT_*_ALERT there to \"0\", then csf -ra.", "lfd mails about senders too, by fixed limits: %s is set in %s", found[1], file)
	}
}
