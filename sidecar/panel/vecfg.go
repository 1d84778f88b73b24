package panel

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"sluice/sidecar"
)

// veConfig is CloudLinux's list of LVEs, whose ids are the user ids of accounts. Its schema
// has no mail limits: the element
//
//	<mail hourly="500" deferfail="25"/>
//
// in <lve> or <defaults> is Sluice's own, for sites that keep all limits there.
const (
	veConfig = "/etc/container/ve.cfg"
	passwd   = "/etc/passwd"
)

// readVE reads ve.cfg; users are account names by user id.
func (r *parser) readVE(t text, users map[string]string) {
	d := xml.NewDecoder(bytes.NewReader(t.body))
	var within []string // names of the elements that are open
	scope, place := "", ""
	for {
		token, err := d.Token()
		line, _ := d.InputPos()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.warn(fmt.Sprintf("%s:%d", t.path, line), "not valid XML: %v; nothing behind it is read", err)
			}
			return
		}
		switch e := token.(type) {
		case xml.StartElement:
			place = fmt.Sprintf("%s:%d", t.path, line)
			within = append(within, e.Name.Local)
			switch strings.Join(within, ">") {
			case "lveconfig>defaults":
				scope = sidecar.DefaultScope
			case "lveconfig>lve":
				scope = lveAccount(e, users)
			case "lveconfig>defaults>mail", "lveconfig>lve>mail":
				if scope == "" {
					r.warn(place, "<mail> of an LVE whose id is no user's")
					continue
				}
				r.readMail(place, scope, e)
			}
		case xml.EndElement:
			within = within[:len(within)-1]
		}
	}
}

// lveAccount returns the account of an LVE; "" if its id is no user's.
func lveAccount(e xml.StartElement, users map[string]string) string {
	name := attribute(e, "user")
	if name == "" {
		name = users[attribute(e, "id")]
	}
	if name == "" {
		return ""
	}
	return account(name)
}

func (r *parser) readMail(place, scope string, e xml.StartElement) {
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "hourly":
			r.set(place, scope, "hourly", unlimited(a.Value))
		case "deferfail":
			r.set(place, scope, "deferfail_percent", unlimited(a.Value))
		default:
			r.warn(place, "unknown attribute %q of <mail>; known: hourly, deferfail", a.Name.Local)
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// readUsers maps the user ids of passwd(5) to names.
func readUsers(t text) map[string]string {
	users := map[string]string{}
	for _, line := range t.lines {
		if f := strings.Split(line, ":"); len(f) > 2 {
			users[f[2]] = f[0]
		}
	}
	return users
}
