package config

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/ratelimit/redisurl"
	"sluice/sidecar/hosttest"
)

const configTestdata = "../../testdata/config"

func configCases(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(configTestdata, dir, "*.toml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	return files
}

func parseFile(t *testing.T, file string) (*Config, error) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(file), string(text))
}

func TestBadConfigs(t *testing.T) {
	for _, file := range configCases(t, "bad") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := parseFile(t, file)
			if err == nil {
				t.Fatal("accepted")
			}
			if c != nil {
				t.Error("a refused file left a configuration")
			}
			if strings.Contains(err.Error(), "Secret") {
				t.Errorf("the error has the password: %v", err)
			}
			hosttest.Golden(t, strings.TrimSuffix(file, ".toml")+".error", err.Error()+"\n")
		})
	}
}

// The effective configuration of each good file is printed as in its golden file, and
// parsing what was printed gives the same configuration, with the password put in.
func TestGoodConfigs(t *testing.T) {
	for _, file := range configCases(t, "good") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := parseFile(t, file)
			if err != nil {
				t.Fatal(err)
			}
			var printed bytes.Buffer
			if err := WriteTOML(&printed, c.Values()); err != nil {
				t.Fatal(err)
			}
			hosttest.Golden(t, strings.TrimSuffix(file, ".toml")+".effective", printed.String())
			if strings.Contains(strings.ToLower(printed.String()), "secret") {
				t.Errorf("the password is printed")
			}

			again, err := Parse("printed", strings.ReplaceAll(printed.String(), redisurl.Mask, "put-in"))
			if err != nil {
				t.Fatal(err)
			}
			again.origins, again.file, again.Store.URL = c.origins, c.file, c.Store.URL
			if diff := cmp.Diff(c, again, cmp.AllowUnexported(Config{}, source{}), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("printed and read again (-want +got):\n%s", diff)
			}
		})
	}
}

// Of another host nothing is believed but what the file sets that was written for it.
func TestForOtherHost(t *testing.T) {
	const text = "[exim]\nlocal_domains = [\"here.example\"]\nremote_transports = [\"out\"]\n[identity]\nowners = \"/srv/owners\"\nrelay = [\"192.0.2.1\"]\n[limits]\nhourly = 7\n"
	for _, written := range []bool{true, false} {
		c, err := Parse("x.toml", text)
		if err != nil {
			t.Fatal(err)
		}
		c.ForOtherHost(written)
		kept := len(c.Exim.LocalDomains) == 1 && c.Identity.Owners == "/srv/owners" && len(c.Identity.Relay) == 1
		gone := len(c.Exim.LocalDomains) == 0 && c.Identity.Owners == "" && len(c.Identity.Relay) == 0 && c.Origin("identity.owners") == "built-in"
		if written && !kept || !written && !gone || c.Identity.MainDomains != "" || c.Exim.RemoteTransports[0] != "out" || *c.Limits.Default.Hourly != 7 {
			t.Errorf("written for it %v: %+v, %+v", written, c.Exim, c.Identity)
		}
	}
}

// store.url_file is read by whoever needs the URL, if nobody else can read it.
func TestStoreURLFile(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text string
		mode       fs.FileMode
		want       string // an error, or the URL
	}{
		{"good", "redis://:Secret99@h\n", 0o600, "redis://:Secret99@h"},
		{"read-only", "redis://:Secret99@h\r\n", 0o400, "redis://:Secret99@h"},
		{"embedded", "embedded:", 0o600, "embedded:"},
		{"group", "redis://:Secret99@h\n", 0o640, "others must not be able to read or write it: its mode is 0640; chmod 600 it"},
		{"world", "redis://:Secret99@h\n", 0o604, "its mode is 0604"},
		{"empty", "\n", 0o600, "it is empty"},
		{"two", "redis://:Secret99@h\nredis://:Secret99@i\n", 0o600, "it must be one line"},
		{"mistake", "redis://:Top/Secret99@h\n", 0o600, "characters that must be percent-encoded"},
		{"other", "node:Secret99\n", 0o600, "a URL that begins with"},
	} {
		file := filepath.Join(dir, c.name)
		if err := errors.Join(os.WriteFile(file, []byte(c.text), c.mode), os.Chmod(file, c.mode)); err != nil {
			t.Fatal(err)
		}
		parsed, err := Parse("x.toml", "[store]\nurl_file = \""+file+"\"\n")
		if err != nil {
			t.Fatal(err)
		}
		switch url, err := parsed.StoreURL(); {
		case err == nil && url != c.want:
			t.Errorf("%s: %s", c.name, url)
		case err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "Secret") || !strings.HasPrefix(err.Error(), "store.url_file: "+file+": ")):
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for what, want := range map[string]string{"none": "no such file", ".": "it must be a file"} {
		parsed, _ := Parse("x.toml", "[store]\nurl_file = \""+filepath.Join(dir, what)+"\"\n")
		if _, err := parsed.StoreURL(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	file := filepath.Join(dir, "good")
	if err := os.Chown(file, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	parsed, _ := Parse("x.toml", "[store]\nurl_file = \""+file+"\"\n")
	if _, err := parsed.StoreURL(); err == nil || !strings.Contains(err.Error(), "belongs to uid 65534") {
		t.Errorf("of another user: %v", err)
	}
}

// Nobody is shown a URL that was put where it does not belong: it may have a password.
func TestNoErrorShowsAURL(t *testing.T) {
	for _, text := range []string{
		"[[identity.exempt]]\nsender = \"x\"\nhost = URL", "[[identity.exempt]]\nsender = URL", "[identity]\nexempt = [{sender = URL}]",
		"[identity]\nrelay = [URL]", "[identity]\nrelay = [{host = URL}]", "[identity]\nrelay = [{host = \"192.0.2.1\", names = URL}]",
		"[limits.domain.URL]\nhourly = 1", "[limits]\nhourly = URL", "[store]\nnodes = [[URL]]", "[listen]\npolicy = [URL]", "[exim]\nlocal_domains = {x = URL}",
	} {
		_, err := Parse("x.toml", strings.ReplaceAll(text, "URL", `"redis://:Secret@h"`))
		if err == nil || strings.Contains(err.Error(), "Secret") {
			t.Errorf("%s\n\tgives the error %v", text, err)
		}
	}
}

// Another store.url, or another place for it, waits for a restart, and the running one is
// kept whole.
func TestAnotherStoreURLNeedsARestart(t *testing.T) {
	texts := map[string]string{
		"password": `url = "redis://:Secret1@h"`,
		"another":  `url = "redis://:Secret2@h"`,
		"file":     `url_file = "/etc/sluice/redis.url"`,
		"none":     ``,
	}
	for from, old := range texts {
		for to, text := range texts {
			running, err := Parse("x.toml", "[store]\n"+old+"\n")
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse("x.toml", "[store]\n"+text+"\n")
			if err != nil {
				t.Fatal(err)
			}
			restart := c.KeepRunning(running)
			if (len(restart) == 0) != (from == to) || c.Store.URL != running.Store.URL || c.Store.URLFile != running.Store.URLFile {
				t.Errorf("from %s to %s: restart for %v, store %+v", from, to, restart, c.Store)
			}
			if diff := cmp.Diff(running.Values(), c.Values()); diff != "" {
				t.Errorf("from %s to %s (-running +kept):\n%s", from, to, diff)
			}
		}
	}
}

func TestEveryKeyHasADefaultInRange(t *testing.T) {
	var printed bytes.Buffer
	if err := WriteTOML(&printed, Default().Values()); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("default", printed.String()); err != nil {
		t.Error(err)
	}
}

func TestConfigNamesAreCanonical(t *testing.T) {
	c, err := Parse("x.toml", `
[limits]
window = "90s"
[limits.domain."Bücher.Example"]
hourly = 7
[limits.mailbox."News@EXAMPLE.com"]
daily = 0
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Limits.Window != 90*time.Second {
		t.Errorf("window = %v", c.Limits.Window)
	}
	domain := c.Limits.Domain["xn--bcher-kva.example"]
	if domain.Hourly == nil || *domain.Hourly != 7 || domain.Daily != nil {
		t.Errorf("domain: %+v", domain)
	}
	mailbox := c.Limits.Mailbox["news@example.com"]
	if mailbox.Daily == nil || *mailbox.Daily != 0 {
		t.Errorf("mailbox: %+v", mailbox)
	}
	if got, want := c.Origin("limits.domain.xn--bcher-kva.example.hourly"), "x.toml:5"; got != want {
		t.Errorf("origin = %q, want %q", got, want)
	}
	if got := c.Origin("limits.hourly"); got != "built-in" {
		t.Errorf("origin = %q", got)
	}
}

func TestNamedConfigMustExist(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		files, _ := filepath.Glob(filepath.Join(configTestdata, dir, "*.toml"))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", text)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		var printed bytes.Buffer
		if err := WriteTOML(&printed, c.Values()); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("printed", printed.String()); (err != nil) != c.HasPassword() {
			t.Fatalf("%v in\n%s", err, printed.String())
		}
	})
}

// A device that never ends is told from a file, before it has taken all memory.
func TestLoadNeverEnds(t *testing.T) {
	if _, err := Load("/dev/zero"); !errors.Is(err, ErrUnread) || !strings.Contains(err.Error(), "it is no configuration file") {
		t.Error(err)
	}
}
