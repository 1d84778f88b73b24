package web

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

var (
	metricName = regexp.MustCompile(`\bsluice_[a-z_]+`)
	selector   = regexp.MustCompile(`\b(sluice_[a-z_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)(=~|!=|=)"([^"]*)"`)
)

// whole is a site of which every metric has a value.
func whole(t *testing.T) *site {
	t.Helper()
	s := newSite(t, "[metrics]\ntop = 1\n"+limit4)
	s.ShowProgress(func() []logline.Progress { return []logline.Progress{{Key: "exim.mainlog", Size: 1}} })
	s.metrics.Read("exim", []logline.Entry{{Kind: logline.Arrived}})
	s.metrics.CalledRedis(time.Millisecond, nil)
	s.metrics.Emit(event.Event{Kind: event.Serving})
	s.ask(sidecar.StageData, "news@full.example")
	s.survey()
	return s
}

// series are those of an exposition: the labels of each, by name.
func (s *site) series() map[string][]map[string]string {
	all := map[string][]map[string]string{}
	for name := range s.values() {
		labels := map[string]string{}
		for _, m := range matcher.FindAllStringSubmatch(name, -1) {
			labels[m[1]] = m[3]
		}
		name, _, _ = strings.Cut(name, "{")
		all[name] = append(all[name], labels)
	}
	return all
}

// selects reports whether the matchers of an expression select any of these labels. Labels that
// Prometheus or Grafana add are not looked at.
func selects(expression string, series []map[string]string) bool {
	return slices.ContainsFunc(series, func(labels map[string]string) bool {
		for _, m := range matcher.FindAllStringSubmatch(expression, -1) {
			label, operator, want := m[1], m[2], m[3]
			if label == "instance" {
				continue
			}
			is, there := labels[label]
			same := is == want || operator == "=~" && regexp.MustCompile("^("+want+")$").MatchString(is)
			if !there || same == (operator == "!=") {
				return false
			}
		}
		return true
	})
}

// What rules and board ask for is there: names, labels and the values of labels. The document
// lists every metric, and no other.
func TestRulesBoardAndDocumentNameWhatThereIs(t *testing.T) {
	series := whole(t).series()
	named := map[string]bool{}
	for _, file := range []string{"docs/alerts.rules.yml", "docs/grafana.json", "docs/metrics.md", "testdata/alerts/rules.test.yml"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") {
			text = expressions(t, text)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			inDocument := file == "docs/metrics.md" && series[name+"_bucket"] != nil // a histogram, by its own name
			if series[name] == nil && !inDocument {
				t.Errorf("%s: there is no %s", file, name)
			}
			if file == "docs/metrics.md" {
				named[name] = true
			}
		}
		for _, m := range selector.FindAllStringSubmatch(string(text), -1) {
			if series[m[1]] != nil && !selects(m[2], series[m[1]]) {
				t.Errorf("%s: nothing is selected by %s", file, m[0])
			}
		}
	}
	for name := range series {
		name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !named[name] {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
}

// expressions are those of a board, a line each.
func expressions(t *testing.T, board []byte) []byte {
	t.Helper()
	var b struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(board, &b); err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, p := range b.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			all = append(append(all, target.Expr...), '\n')
		}
	}
	return all
}
