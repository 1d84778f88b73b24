package typed

import (
	"fmt"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
	"sluice/sidecar/limit"
)

// Unlimited is how a limit of 0 is shown, and may be typed.
const Unlimited = "unlimited"

// Setting makes a setting of a text, of the command line or a panel's file.
func Setting(scope, key, text string, o limit.Origin) (limit.Setting, error) {
	var t limit.Thresholds
	value := t.Field(key)
	if value == nil {
		return limit.Setting{}, CheckKey(key)
	}
	if err := CheckScope(scope, key); err != nil {
		return limit.Setting{}, err
	}
	if text = strings.TrimSpace(text); limit.IsLimit(key) && text == Unlimited {
		text = "0"
	}
	if err := value.Set(value.Typed(text)); err != nil {
		return limit.Setting{}, fmt.Errorf("%s is %s, it must be %w", key, field.QuoteTOML(text), err)
	}
	return limit.Setting{Scope: scope, Key: key, Value: value.Get(), Origin: o}, nil
}

// CheckKey suggests a key in place of an unknown one; nil if there is such a key.
func CheckKey(key string) error {
	if new(limit.Thresholds).Field(key) != nil {
		return nil
	}
	return fmt.Errorf("unknown key %q; %s", key, field.Suggest(key, limit.Keys()))
}

// CheckScope says why a key would have no effect in a scope; nil if it has one.
func CheckScope(scope, key string) error {
	if kind := (sidecar.Author{Key: scope}).Kind(); (kind == "script" || kind == "login") && key != "expected" {
		return fmt.Errorf("%s is not for %s, which has no limits of its own: only expected is", key, scope)
	}
	if domain := envelope.DomainOf(scope); domain != "" && limit.IsDeferfail(key) {
		return fmt.Errorf("%s is not for a mailbox: a domain is locked as a whole for what becomes of its mail; set it for %s", key, domain)
	}
	return nil
}
