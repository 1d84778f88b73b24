package sidecar

// settings are the thresholds of the file and, below them, the built-in ones.
func (c *Config) settings() (all []Setting) {
	all = settingsOf(&c.Limits.Default, defaultScope, "limits.", c.Origin)
	for _, kind := range c.scopeKinds() {
		for name, t := range kind.scopes {
			scope := name
			if kind.name == "account" {
				scope = accountPrefix + name
			}
			all = append(all, settingsOf(&t, scope, "limits."+kind.name+"."+name+".", c.Origin)...)
		}
	}
	return all
}

func settingsOf(t *Thresholds, scope, prefix string, origin func(key string) string) (all []Setting) {
	for _, k := range keysOf(t, "") {
		if v := k.value.get(); v != nil {
			all = append(all, Setting{Scope: scope, Key: k.name, Value: v, Origin: placed(origin(prefix + k.name))})
		}
	}
	return all
}
