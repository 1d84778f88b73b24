package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
)

// pages are the documents that operators read, by file.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../README.md", "../../SECURITY.md", "../../docs/sluice.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(text)
	}
	return all
}

var (
	dotted   = regexp.MustCompile("`([a-z]+\\.[a-z_]+)`")
	tomlLine = regexp.MustCompile(`(?m)^(?:# ?)?(?:\[+([a-z]+)(\.[a-z]+)?[^\]]*\]+|([a-z_]+) = )`)
)

// The keys of the configuration that pages name exist, and each key is in docs/sluice.toml or on a page.
func TestKeysOfThePages(t *testing.T) {
	keys, tables := map[string]bool{}, map[string]bool{}
	for _, d := range config.Describe() {
		keys[d.Key] = false
		table, _, _ := strings.Cut(d.Key, ".")
		tables[table] = true
	}
	found := func(key string) bool {
		_, is := keys[key]
		if is {
			keys[key] = true
		}
		return is
	}
	for page, text := range pages(t) {
		for _, m := range dotted.FindAllStringSubmatch(text, -1) {
			table, name, _ := strings.Cut(m[1], ".")
			if !found(m[1]) && tables[table] && !slices.Contains(endings, name) && !slices.Contains(past, page) {
				t.Errorf("%s: there is no key %s", page, m[1])
			}
		}
		table := ""
		for _, m := range tomlLine.FindAllStringSubmatch(text, -1) {
			if m[1] != "" {
				table = m[1]
				found(m[1] + "." + strings.TrimPrefix(m[2], ".")) // [[alert.to]]
			} else {
				found(table + "." + m[3])
			}
		}
	}
	for key, named := range keys {
		if !named {
			t.Errorf("no page names the key %s", key)
		}
	}
}

// endings are those of files that are called like a table.
var endings = []string{"conf", "json", "toml", "service", "socket"}

// past are the pages that also name what is no more, or functions of ours.
var past = []string{"relnotes.md", "flow.md"}

// The events that commands and pages name by journalctl exist.
func TestEventsOfThePages(t *testing.T) {
	named := 0
	for page, text := range pages(t) {
		for _, m := range regexp.MustCompile(`SLUICE_EVENT=([a-z-]+)`).FindAllStringSubmatch(text, -1) {
			named++
			if !slices.Contains(event.Kinds(), event.Kind(m[1])) {
				t.Errorf("%s: there is no event %s", page, m[1])
			}
		}
	}
	if named == 0 {
		t.Error("no page names an event")
	}
}

var (
	pageSpan = regexp.MustCompile("`(sluice [^`\n]+)`")
	pageLine = regexp.MustCompile(`(?m)^(?:\$ )?(sluice [a-z].*)$`)
	word     = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`)
)

// Each command of sluice that a page names has such arguments and flags: the program takes them. Which
// of them are typed for real is in TestReadme and in the tests of Exim.
func TestCommandsOfThePages(t *testing.T) {
	t.Parallel()
	named, parses := 0, takesCommands(t)
	for page, text := range pages(t) {
		if slices.Contains(past, page) || page == "sluice.toml" {
			continue
		}
		found := pageSpan.FindAllStringSubmatch(text, -1)
		for i, block := range strings.Split(text, "```") {
			if i%2 == 1 {
				found = append(found, pageLine.FindAllStringSubmatch(block, -1)...)
			}
		}
		for _, m := range found {
			for command := range strings.SplitSeq(m[1], "&&") {
				command, _, _ = strings.Cut(strings.TrimSpace(command), " #")
				command = strings.TrimRight(strings.FieldsFunc(command+" ", func(r rune) bool { return strings.ContainsRune("|><;", r) })[0], " \\")
				var args []string
				for _, w := range word.FindAllString(command, -1) {
					args = append(args, strings.Trim(w, `'"`))
				}
				if len(args) < 2 || args[0] != "sluice" {
					continue
				}
				named++
				if err := parses(args[1:]); err != nil && !onlyNamed.MatchString(err.Error()) {
					t.Errorf("%s: %s: %v", page, command, err)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d commands are named", named)
	}
}

// onlyNamed is how the program answers where a command is only named, as `sluice stop`.
var onlyNamed = regexp.MustCompile("^(expected|missing positional arguments) ")

// takesCommands returns what reports why the program does not take a command line; nil if it does.
func takesCommands(t *testing.T) func(args []string) error {
	t.Helper()
	var cmd commands
	helped := false
	parser, err := kong.New(&cmd, kong.Name("sluice"), kong.Vars{"config": config.DefaultPath}, kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) { helped = true }))
	if err != nil {
		t.Fatal(err)
	}
	return func(args []string) error {
		helped = false
		if _, err := parser.Parse(normalize(args)); !helped {
			return err
		}
		return nil
	}
}
