package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sluice/sidecar/admin"
	"sluice/sidecar/history"
	"sluice/sidecar/operator"
)

// export prints what is set live, one line of JSON for each change that has an effect.
func (c historyCmd) export(t *terminal) error {
	all, err := ask(t, "history --export", func(a *admin.Client) ([]history.Saved, error) { return a.Export(t.ctx, c.Scope, c.Left) })
	if err != nil {
		return err
	}
	lines := json.NewEncoder(t.stdout)
	for _, change := range all {
		if err := lines.Encode(change); err != nil {
			return err
		}
	}
	return nil
}

// importFile sets what a file has, and prints what was changed.
func (c setCmd) importFile(t *terminal) error {
	if c.Scope != "" || c.For != "" || c.Why != "" {
		return errors.New("set --import: the file has it all, scopes, times and reasons; leave out the rest")
	}
	lines, err := t.readSaved(c.Import)
	if err != nil {
		return fmt.Errorf("set --import: nothing is changed: %w", err)
	}
	question := func(a *admin.Client) (operator.Import, error) {
		return a.Import(t.ctx, admin.Lines{Lines: lines, Sudo: os.Getenv("SUDO_USER"), Preview: c.Preview})
	}
	return show(t, c.JSON, "set --import", question, func(imported operator.Import) {
		for _, change := range imported.Changes {
			t.printChange(change, c.Preview)
		}
		for _, place := range imported.Expired {
			printf(t.stdout, "%s: left out, it would have expired by now\n", place)
		}
		printEffects(t.stdout, imported.Effects, c.Preview)
		for _, warning := range imported.Warnings {
			t.warn(warning)
		}
	})
}

// maxWrong bounds the lines that are named of a file that is something else altogether.
const maxWrong = 10

// asExported says how a file must be.
const asExported = `each line must be a change, as sluice history --export prints them: {"scope": "example.com", "set": ["hourly=2000"]}`

// readSaved reads a file, or standard input for "-". Its error names the first lines that it
// cannot parse.
func (t *terminal) readSaved(name string) (all []history.Saved, err error) {
	text, name, err := t.readFile(name)
	if err != nil {
		return nil, err
	}
	var wrong []error
	number, more := 0, 0
	for line := range strings.Lines(text) {
		number++
		if strings.TrimSpace(line) == "" {
			continue
		}
		change, err := parseSaved(line)
		change.Place = fmt.Sprintf("%s:%d", name, number)
		switch {
		case err == nil:
		case len(wrong) == maxWrong:
			more++
		default:
			wrong = append(wrong, fmt.Errorf("%s: %w", change.Place, err))
		}
		all = append(all, change)
	}
	switch {
	case more > 0:
		wrong = append(wrong, fmt.Errorf("and %d lines more", more), errors.New(asExported))
	case len(wrong) > 0:
		wrong = append(wrong, errors.New(asExported))
	case len(all) == 0:
		return nil, fmt.Errorf("%s has no change in it; %s", name, asExported)
	}
	return all, errors.Join(wrong...)
}

// parseSaved parses a line of what was exported.
func parseSaved(line string) (change history.Saved, err error) {
	lines := json.NewDecoder(strings.NewReader(line))
	lines.DisallowUnknownFields()
	err = lines.Decode(&change)
	_, behind := lines.Token()
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the line is cut short: not JSON to its end")
	case errors.As(err, &syntax):
		err = fmt.Errorf("%w: not JSON", err)
	case errors.As(err, &kind) && kind.Field == "":
		err = fmt.Errorf("a JSON %s, and no change", kind.Value)
	case errors.As(err, &kind):
		err = fmt.Errorf("%q must not be a JSON %s", kind.Field, kind.Value)
	case err == nil && !errors.Is(behind, io.EOF):
		err = errors.New("one change to a line")
	case err == nil && change.Scope == "":
		err = errors.New("no scope is named")
	}
	return change, err
}

// readFile reads a file, or standard input for "-", and returns its name for messages.
func (t *terminal) readFile(name string) (text, called string, err error) {
	var b []byte
	if name == "-" {
		b, err = io.ReadAll(t.stdin)
		return string(b), "standard input", err
	}
	b, err = os.ReadFile(name)
	return string(b), name, err
}
