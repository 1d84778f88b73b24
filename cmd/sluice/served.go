package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"sluice/ratelimit/redisstore"
	"sluice/sidecar/config"
	"sluice/sidecar/policyd"
)

// notServed are keys that the file may have and that have no effect in this version yet.
var notServed = map[string]string{
	"listen.http": "the page and the metrics",
}

// checkServed fails for a configuration that asks for what this version does not do yet:
// ignored silently, it would look as if it worked.
func checkServed(c *config.Config) error {
	var errs []error
	refuse := func(key, what string) {
		errs = append(errs, fmt.Errorf("%s: %s: this version does not serve %s; leave it out", c.Origin(key), key, what))
	}
	builtIn := config.Default().Values()
	for i, v := range c.Values()[:len(builtIn)] { // those of single scopes come after
		what, unserved := notServed[v.Key]
		if unserved && v.Value != "" && !reflect.DeepEqual(v.Value, builtIn[i].Value) {
			refuse(v.Key, what)
		}
	}
	return errors.Join(errs...)
}

// checkServable fails if serve would not start with a configuration: because it is not
// served, or because a file that it names cannot be read.
func checkServable(c *config.Config) error {
	err := checkServed(c)
	url, urlErr := storeURL(c)
	if urlErr == nil && url != config.Embedded {
		urlErr = storeError(c, redisstore.CheckURL(url))
	}
	err = errors.Join(err, urlErr)
	if slices.ContainsFunc(c.Listen.Policy, func(l config.Listener) bool { return l.Network() == "tcp" }) {
		_, tokenErr := policyd.ReadTokens(c.Listen.TokenFile)
		err = errors.Join(err, tokenErr)
	}
	return err
}
