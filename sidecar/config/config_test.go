package config

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden files of the configuration")

const configTestdata = "../../testdata/config"

// golden compares a text with a golden file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *updateGolden {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

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
			golden(t, strings.TrimSuffix(file, ".toml")+".error", err.Error()+"\n")
		})
	}
}

// The effective configuration of each good file is printed as in its golden file, and
// parsing what was printed gives the same configuration.
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
			golden(t, strings.TrimSuffix(file, ".toml")+".effective", printed.String())

			again, err := Parse("printed", printed.String())
			if err != nil {
				t.Fatal(err)
			}
			again.origins, again.file = c.origins, c.file
			if diff := cmp.Diff(c, again, cmp.AllowUnexported(Config{})); diff != "" {
				t.Errorf("printed and read again (-want +got):\n%s", diff)
			}
		})
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
		if _, err := Parse("printed", printed.String()); err != nil {
			t.Fatalf("%v in\n%s", err, printed.String())
		}
	})
}
