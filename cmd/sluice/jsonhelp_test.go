package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A jsonDoc is what a help text says of an object: its fields, in order.
type jsonDoc struct {
	names    []string
	optional map[string]bool
	list     map[string]bool
	inner    map[string]*jsonDoc // nil for what is no object
	seen     map[string]bool     // by the test
}

// readJSONDoc reads fields up to the closing brace, or the end.
func readJSONDoc(words *[]string) *jsonDoc {
	d := &jsonDoc{optional: map[string]bool{}, list: map[string]bool{}, inner: map[string]*jsonDoc{}, seen: map[string]bool{}}
	for len(*words) > 0 {
		word := (*words)[0]
		*words = (*words)[1:]
		if word == "}" {
			break
		}
		name, object := strings.CutSuffix(word, "{")
		name, list := strings.CutSuffix(name, "[]")
		name, optional := strings.CutSuffix(name, "?")
		d.names = append(d.names, name)
		d.optional[name], d.list[name] = optional, list
		if object {
			d.inner[name] = readJSONDoc(words)
		}
	}
	return d
}

// jsonDocs are the objects that the help of a command tells of.
func jsonDocs(t *testing.T, command string) (all []*jsonDoc) {
	t.Helper()
	var help bytes.Buffer
	run(t.Context(), []string{command, "--help"}, nil, &help, &help)
	for _, part := range strings.Split(help.String(), "With --json:")[1:] {
		_, fields, _ := strings.Cut(part, "\n\n")
		fields, _, _ = strings.Cut(fields, "\n\n")
		words := strings.Fields(fields)
		all = append(all, readJSONDoc(&words))
	}
	if len(all) == 0 {
		t.Fatalf("the help of %s does not tell the fields of --json", command)
	}
	return all
}

// holds wants an object to have the documented fields and no others.
func (d *jsonDoc) holds(t *testing.T, where string, v any) {
	t.Helper()
	object, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s is no object: %v", where, v)
		return
	}
	for name := range object {
		if !slices.Contains(d.names, name) {
			t.Errorf("%s.%s is not documented", where, name)
		}
	}
	for _, name := range d.names {
		v, there := object[name]
		switch {
		case !there && !d.optional[name]:
			t.Errorf("%s.%s is documented, and not there", where, name)
		case v == nil:
			continue
		}
		d.seen[name] = true
		values, list := v.([]any)
		switch {
		case d.list[name] != list && d.inner[name] != nil:
			t.Errorf("%s.%s: a list is %v, documented %v", where, name, list, d.list[name])
		case d.inner[name] == nil:
			continue
		case !list:
			values = []any{v}
		}
		for _, v := range values {
			d.inner[name].holds(t, where+"."+name, v)
		}
	}
}

// unseen lists the fields that no output had.
func (d *jsonDoc) unseen(where string) (all []string) {
	for _, name := range d.names {
		if !d.seen[name] {
			all = append(all, where+"."+name)
		} else if inner := d.inner[name]; inner != nil {
			all = append(all, inner.unseen(where+"."+name)...)
		}
	}
	return all
}

// full fills all of a value: each text is this one, no number is 0, no list empty, no pointer nil.
func full(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		full(v.Elem(), text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		full(v.Index(0), text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(noon))
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() || f.Anonymous {
				full(v.Field(i), text)
			}
		}
	case reflect.Map:
		key, of := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		full(key, text)
		full(of, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, of)
	case reflect.Interface:
		v.Set(reflect.ValueOf(text))
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	default:
		v.SetInt(1)
	}
}

// spikeLog is a main log in which an author sends one message a day for 36 days, and then a hundred.
func spikeLog() string {
	var b strings.Builder
	send := func(n int, at time.Time) {
		id, when := fmt.Sprintf("1x%04d-0005dd-0q", n), at.Format("2006-01-02 15:04:05")
		fmt.Fprintf(&b, "%s %s <= news@example.com H=x [192.0.2.1] P=esmtpa A=plain:news@example.com S=1\n%[1]s %[2]s => a%d@far.example R=r T=remote_smtp H=f [192.0.2.2]\n", when, id, n)
	}
	const days = 36
	for day := range days {
		send(day, noon.AddDate(0, 0, day))
	}
	for n := range 100 {
		send(days+n, noon.AddDate(0, 0, days).Add(time.Duration(n)*time.Second))
	}
	return b.String()
}

// The help of each command tells all fields of its --json, and no others.
func TestJSONHasTheDocumentedFields(t *testing.T) {
	dir := t.TempDir()
	s := stages["busy"]
	full(reflect.ValueOf(&s.status).Elem(), "text")
	full(reflect.ValueOf(&s.filled).Elem(), "text")
	full(reflect.ValueOf(&s.queue.Quarantine).Elem(), "text")
	serveStage(t, dir, s)
	writeFile(t, dir+"/good.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n[limits]\nhourly = 20\n",
		"unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
	writeFile(t, dir+"/saved", `{"scope": "a.example", "set": ["hourly=5"]}`)
	writeFile(t, dir+"/low.toml", "[limits]\nhourly = 1\n")
	writeFile(t, dir+"/bad.toml", "[limits]\nhourley = 20\n")
	writeFile(t, dir+"/mainlog", "2026-03-01 12:00:00 1xUzSN-0005dd-0q <= news@example.com H=x [192.0.2.1] P=esmtpa A=plain:news@example.com S=1\n"+
		"2026-03-01 12:00:00 1xUzSN-0005dd-0q => a@far.example R=r T=remote_smtp H=f [192.0.2.2]\n"+
		"2026-03-01 12:00:00 1xUzSN-0005dd-0q => b@far.example R=r T=remote_smtp H=f [192.0.2.2]\n"+
		"2026-03-02 12:00:00 1xVLvv-0005dd-0q <= news@example.com H=x [192.0.2.1] P=esmtpa A=plain:news@example.com S=1\n"+
		"2026-03-02 12:00:00 1xVLvv-0005dd-0q => a@far.example R=r T=remote_smtp H=f [192.0.2.2]\n"+
		"2026-03-03 12:00:00 1xViPT-0005dd-0q <= news@example.com H=x [192.0.2.1] P=esmtpa A=plain:news@example.com S=1\n"+
		"2026-03-03 12:00:00 1xViPT-0005dd-0q => a@far.example R=r T=remote_smtp H=f [192.0.2.2]\n")
	writeFile(t, dir+"/spiky", spikeLog())
	for _, c := range []struct {
		command  string
		sessions []string
	}{
		{"status", []string{"status"}},
		{"lock", []string{"lock example.com"}},
		{"unlock", []string{"unlock text"}},
		{"reset", []string{"reset example.com"}},
		{"set", []string{"set example.com hourly=5", "set --import DIR/saved;1"}},
		{"unset", []string{"unset example.com"}},
		{"rollback", []string{"rollback 1"}},
		{"history", []string{"history"}},
		{"explain", []string{"explain example.com"}},
		{"check", []string{"check --stage rcpt --auth news@example.com --recipient x@y.example", "check --stage rcpt --auth a@b.example --recipient x@y.example"}},
		{"config", []string{"config", "config --check;1", "config --check --config DIR/bad.toml;1"}},
		{"simulate", []string{"simulate DIR/mainlog --set default hourly=1 --compare DIR/low.toml --suggest 0",
			"simulate DIR/spiky --spikes --compare DIR/low.toml"}},
		{"doctor", []string{"doctor"}},
		{"version", []string{"version", "version --running"}},
	} {
		if c.command == "doctor" && os.Geteuid() != 0 {
			continue // it reports it, and nothing else
		}
		docs := jsonDocs(t, c.command)
		for _, session := range c.sessions {
			typed, of, _ := strings.Cut(session, ";")
			var out, stderr bytes.Buffer
			args := strings.Fields("--config DIR/good.toml " + typed + " --json")
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "DIR", dir)
			}
			run(t.Context(), args, strings.NewReader(""), &out, &stderr)
			var v any
			if err := json.Unmarshal(out.Bytes(), &v); err != nil {
				t.Errorf("%s: %v\n%s%s", typed, err, &out, &stderr)
			}
			docs[len(of)].holds(t, typed+": ", v)
		}
		for _, d := range docs {
			for _, name := range d.unseen(c.command) {
				t.Errorf("%s is documented, and no output had it", name)
			}
		}
	}
}
