package remedy

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/script"
)

// DisableScript disables a script, with a record of it.
func (h *Host) DisableScript(s *script.Script, a action.Action) (number int, err error) {
	a.Verb, a.Whom = script.Disabled, s.Path.String()
	return h.Act(a, s.File, func(int) (any, error) { return nil, s.Disable(time.Now()) })
}

// ScriptRules are those of the configuration.
func (h *Host) ScriptRules(force bool) (rules script.Rules, err error) {
	c, err := h.Config()
	if err != nil {
		return rules, err
	}
	rules.Force = force
	for _, login := range c.Clean.WebUsers {
		u, err := user.Lookup(login)
		if err != nil {
			return rules, fmt.Errorf("clean.web_users: %w", err)
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return rules, fmt.Errorf("clean.web_users: the uid of %s: %w", login, err)
		}
		rules.Web = append(rules.Web, uint32(uid))
	}
	return rules, nil
}

// undoScript takes back that a script was disabled.
func (h *Host) undoScript(_ context.Context, a action.Action) (did string, err error) {
	all, err := h.Actions()
	if err != nil {
		return "", err
	}
	was, err := EnableScript(a, all)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s has its mode %04o again", was.Path, was.Mode&0o777), nil
}

// EnableScript enables a script that an action has disabled, if no later one of all has, too.
func EnableScript(a action.Action, all []action.Action) (script.File, error) {
	was, err := script.Back(a, all)
	if err == nil {
		err = script.Enable(was)
	}
	return was, err
}
