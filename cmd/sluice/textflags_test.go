package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"sluice/sidecar/config"
)

// ofCommands are the commands whose users see the texts of a source outside of this directory
// that name a flag and not the command.
var ofCommands = map[string][]string{
	"sidecar/clean/queue.go":      {"clean", "queue quarantine"},
	"sidecar/live/change.go":      {"set", "expect"},
	"sidecar/operator/stops.go":   {"stop", "start"},
	"sidecar/policyd/question.go": {"check"},
	"sidecar/stop/stop.go":        {"start"},
}

// Each text of the program that names a flag is one of a command that takes it, or names such a
// command before it, and each command that is quoted exists. So nobody is told to use --file with
// a command that has none.
func TestFlagsInTexts(t *testing.T) {
	t.Parallel()
	var cmd commands
	model, err := kong.New(&cmd, kong.Name("sluice"), kong.Vars{"config": config.DefaultPath})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for path, texts := range programTexts(t, "cmd/sluice", "sidecar") {
		for _, clause := range clauses(texts) {
			node := model.Model.Node
			for _, m := range quotedCommand.FindAllStringSubmatch(clause, -1) {
				if deepest(node, m[1:]) == node {
					t.Errorf("%s: there is no command %s: %q", path, m[1], clause)
				}
			}
			for _, m := range commandOrFlag.FindAllStringSubmatch(clause, -1) {
				if m[2] == "" {
					node = deepest(model.Model.Node, strings.Fields(m[1]))
					continue
				}
				named++
				switch commands, seen := ofCommands[path]; {
				case node != model.Model.Node:
					if !takes(node, m[2]) {
						t.Errorf("%s: %s has no --%s: %q", path, node.FullPath(), m[2], clause)
					}
				case takes(node, m[2]) || strings.HasPrefix(path, "cmd/") && anyTakes(node, m[2]):
				case !seen:
					t.Errorf("%s: of which command is --%s in %q?", path, m[2], clause)
				case !slices.ContainsFunc(commands, func(name string) bool { return takes(deepest(node, strings.Fields(name)), m[2]) }):
					t.Errorf("%s: %q have no --%s: %q", path, commands, m[2], clause)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d flags are named", named)
	}
}

// clauses are the parts of texts in which a flag belongs to the command before it, but those of
// the commands of others.
func clauses(texts []string) (all []string) {
	for _, text := range texts {
		for _, clause := range endOfClause.Split(text, -1) {
			if !ofOthers.MatchString(clause) {
				all = append(all, clause)
			}
		}
	}
	return all
}

var (
	endOfClause = regexp.MustCompile(`[;\n]|[.:,] `)
	ofOthers    = regexp.MustCompile(`\b(systemctl|uapi|setpriv|mount|doveadm) `)

	quotedCommand = regexp.MustCompile("(?:`|: |Use )sluice ([a-z][a-z-]*)")

	// commandOrFlag finds sluice with the words behind it, and flags.
	commandOrFlag = regexp.MustCompile(`\bsluice((?: (?:[a-z][a-z-]*|%s))+)|(?:^|[^\w-])--([a-z][a-z0-9-]+)`)
)

// deepest is the command that words begin with.
func deepest(node *kong.Node, words []string) *kong.Node {
	for _, word := range words {
		next := slices.IndexFunc(node.Children, func(c *kong.Node) bool { return c.Name == word })
		if next < 0 {
			break
		}
		node = node.Children[next]
	}
	return node
}

// takes reports whether a command has a flag, or the command that is meant by its name alone.
func takes(node *kong.Node, name string) bool {
	return slices.ContainsFunc(slices.Concat(node.AllFlags(false)...), func(f *kong.Flag) bool {
		return f.Name == name || f.Tag.Negatable != "" && "no-"+f.Name == name
	}) || node.DefaultCmd != nil && takes(node.DefaultCmd, name)
}

// anyTakes is takes for a command and all below it.
func anyTakes(node *kong.Node, name string) bool {
	return takes(node, name) || slices.ContainsFunc(node.Children, func(c *kong.Node) bool { return anyTakes(c, name) })
}

// programTexts are the texts in the sources below some directories, but those of tests, with the parts
// that are joined by + in one.
func programTexts(t *testing.T, dirs ...string) map[string][]string {
	all := map[string][]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir("../../"+dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "test/") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, source, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				text, whole := literal(n)
				if strings.Contains(text, " ") {
					name := strings.TrimPrefix(path, "../../")
					all[name] = append(all[name], text)
				}
				return !whole
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// literal is the text of an expression that is a string, with … for what is not said in it.
func literal(n ast.Node) (text string, is bool) {
	switch e := n.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, ok := literal(e.X)
		right, also := literal(e.Y)
		if e.Op != token.ADD || !ok && !also {
			return "", false
		}
		if !ok {
			left = "…"
		}
		if !also {
			right = "…"
		}
		return left + right, true
	}
	return "", false
}
