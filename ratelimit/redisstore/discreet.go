package redisstore

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit/redisurl"
)

// discreet takes passwords out of errors: a server that does not know the command AUTH,
// because AUTH was renamed there or the server is a proxy, quotes its arguments in the
// error. It makes one line of what several Sentinels say, and adds what to do about it.
type discreet struct{ secrets []string }

// minSecret is the shortest password that is looked for, in bytes: a shorter one may be a
// part of any word.
const minSecret = 6

// secrets are the passwords of the URL.
func (a address) secrets() (all []string) {
	for _, s := range []string{a.Password, a.SentinelPassword} {
		if len(s) >= minSecret {
			all = append(all, s)
		}
	}
	return all
}

// DialHook is the one of redis.Hook.
func (d discreet) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook is the one of redis.Hook.
func (d discreet) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		err := next(ctx, c)
		if err == nil {
			return nil
		}
		if hidden := d.hide(err); hidden != err {
			c.SetErr(hidden)
			return hidden
		}
		return err
	}
}

// ProcessPipelineHook is the one of redis.Hook.
func (d discreet) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, all []redis.Cmder) error {
		err := next(ctx, all)
		if err == nil {
			return nil
		}
		for _, c := range all {
			if was := c.Err(); was != nil {
				if hidden := d.hide(was); hidden != was {
					c.SetErr(hidden)
				}
			}
		}
		return d.hide(err)
	}
}

// hide returns err itself unless its text must change: because it may have a password in
// it, or because Sentinels want one that they were not given or do not know the master.
func (d discreet) hide(err error) error {
	text := err.Error()
	hidden := text
	if what, _, quotes := strings.Cut(text, ", with args beginning with"); quotes { // cut to 128 bytes, so of a long password only a part, not found below
		hidden = what
	}
	for _, s := range d.secrets {
		hidden = strings.ReplaceAll(hidden, s, redisurl.Mask)
	}
	if strings.Contains(text, "all sentinels") {
		hidden = strings.ReplaceAll(hidden, redis.Nil.Error(), "watches no master of the name in the URL")
		switch {
		case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"):
			hidden += " (sentinel_user and sentinel_password in the URL are what the Sentinels are told)"
		case strings.Contains(text, "unknown command"):
			hidden += " (no Sentinel answers there)"
		}
	}
	hidden = strings.ReplaceAll(hidden, "\n", "; ")
	if hidden == text {
		return err
	}
	return hiddenError{err, hidden}
}

type hiddenError struct {
	error
	text string
}

func (e hiddenError) Error() string { return e.text }

func (e hiddenError) Unwrap() error { return e.error }
