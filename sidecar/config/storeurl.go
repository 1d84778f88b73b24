package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"sluice/ratelimit/redisurl"
	"sluice/sidecar/field"
)

// Embedded is the store.url of a node that counts by itself.
const Embedded = "embedded:"

// A storeURL is the field of store.url. Its value is shown only with the passwords masked,
// and never in an error: in a URL with a mistake nobody knows where the password is.
type storeURL struct {
	config *Config
	field.Value
}

// Set sets the value. Its errors are whole sentences; those of other fields complete one
// that ends in "must be".
func (u storeURL) Set(v any) error {
	if _, ok := v.(string); !ok {
		return errors.New("it must be a text in quotes")
	}
	return u.Value.Set(v)
}

// shown is the URL with its passwords masked.
func (u storeURL) shown() any { return u.config.shownURL() }

// shownURL is store.url with its passwords masked; empty if it is in a file.
func (c *Config) shownURL() string {
	if c.Store.URL == "" || c.Store.URL == Embedded {
		return c.Store.URL
	}
	u, err := redisurl.Parse(c.Store.URL)
	if err != nil {
		return redisurl.Mask
	}
	return u.Shown()
}

// HasPassword reports whether the configuration file itself has a password in it.
func (c *Config) HasPassword() bool {
	u, err := redisurl.Parse(c.Store.URL)
	return err == nil && u.Password+u.SentinelPassword != ""
}

func checkStoreURL(s string) (string, error) {
	if s == "" || s == Embedded { // see configParser.storeURL
		return s, nil
	}
	_, err := redisurl.Parse(s)
	return s, err
}

// A secretive value has secrets in it, which shown leaves out. The errors of its Set are
// whole sentences without any.
type secretive interface{ shown() any }

// shown is what is printed of a value.
func shown(v field.Value) any {
	if s, ok := v.(secretive); ok {
		return s.shown()
	}
	return v.Get()
}

func secret(v field.Value) bool {
	_, ok := v.(secretive)
	return ok
}

// withoutURLs takes URLs out of an error about the value of another key: somebody may have
// put a URL with a password there by mistake.
func withoutURLs(value any, text string) string {
	switch v := value.(type) {
	case string:
		if strings.Contains(v, "://") || strings.Contains(v, ":") && strings.Contains(v, "@") {
			return strings.ReplaceAll(text, field.QuoteTOML(v), "a URL")
		}
	case []any:
		for _, e := range v {
			text = withoutURLs(e, text)
		}
	case []map[string]any:
		for _, e := range v {
			text = withoutURLs(e, text)
		}
	case map[string]any:
		for _, e := range v {
			text = withoutURLs(e, text)
		}
	}
	return text
}

// StoreURL is store.url, or what the file has that store.url_file names. It is read at
// each call.
func (c *Config) StoreURL() (string, error) {
	if c.Store.URLFile == "" {
		return c.Store.URL, nil
	}
	text, err := readSecret(c.Store.URLFile)
	text = strings.TrimRight(text, "\r\n")
	switch {
	case err != nil:
	case text == "":
		err = errors.New("it is empty")
	case strings.ContainsAny(text, "\r\n"):
		err = errors.New("it must be one line, the URL")
	default:
		text, err = checkStoreURL(text)
	}
	if err != nil {
		return "", fmt.Errorf("store.url_file: %s: %w", c.Store.URLFile, err)
	}
	return text, nil
}

// maxSecret is more than any URL has, in bytes.
const maxSecret = 64 << 10

// readSecret reads a file that only its owner may open: root, or whoever reads it now.
func readSecret(file string) (string, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would be waited for
	var failed *os.PathError
	if errors.As(err, &failed) {
		return "", failed.Err // the caller names the file
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.Mode().IsRegular():
		return "", errors.New("it must be a file")
	case owner != 0 && int(owner) != os.Geteuid():
		return "", fmt.Errorf("it must belong to root or to the user that reads it, and belongs to uid %d", owner)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("others must not be able to read or write it: its mode is %04o; chmod 600 it", info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	return string(text), err
}
