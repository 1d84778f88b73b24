package config

import (
	"sluice/sidecar"
	"sluice/sidecar/limit"
)

// settings are the thresholds of the file and, below them, the built-in ones.
func (c *Config) Settings() (all []limit.Setting) {
	all = settingsOf(&c.Limits.Default, sidecar.DefaultScope, "limits.", c.Origin)
	for _, kind := range c.scopeKinds() {
		for name, t := range kind.scopes {
			scope := name
			if kind.name == "account" {
				scope = sidecar.AccountPrefix + name
			}
			all = append(all, settingsOf(&t, scope, "limits."+kind.name+"."+name+".", c.Origin)...)
		}
	}
	return all
}

func settingsOf(t *limit.Thresholds, scope, prefix string, origin func(key string) string) (all []limit.Setting) {
	for _, k := range keysOf(t, "") {
		if v := k.value.Get(); v != nil {
			all = append(all, limit.Setting{Scope: scope, Key: k.name, Value: v, Origin: limit.Placed(origin(prefix + k.name))})
		}
	}
	return all
}
