package sidecar

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/ratelimit"
)

// The scopes of a message of news@example.com, whose domain is bob's, from the
// least to the most specific, and the layers from the lowest to the highest.
var (
	oracleScopes = []string{"default", "account:bob", "example.com", "news@example.com"}
	oracleLayers = []Layer{LayerFile, LayerPanel, LayerLive}
	oracleWho    = identity{domain: "example.com", account: "bob", mailbox: "news@example.com"}
)

// oracleValue is a value of a key that tells from which scope and layer it is.
func oracleValue(key string, scope, layer int) any {
	n := int64(1 + 4*layer + scope)
	switch key {
	case "deferfail_ignore":
		return []string{string(Causes()[scope]), string(Causes()[layer+4])}
	case "mode":
		return []string{"enforce", "watch"}[n%2]
	case "over_limit":
		return []string{"cutoff", "defer", "reject", "discard"}[(scope+layer)%4]
	case "exempt":
		return n%2 == 1
	case "defer_cutoff":
		return 100 + n
	}
	return n
}

// oracle is what is in force of a key, found without any of what is tested: set
// has a bit for each scope and layer, layer by layer.
func oracle(key string, set uint, scopes []int) (value any, scope int, layer Layer) {
	for _, s := range slices.Backward(scopes) {
		for l := range slices.Backward(oracleLayers) {
			if set&(1<<(l*len(oracleScopes)+s)) != 0 {
				return oracleValue(key, s, l), s, oracleLayers[l]
			}
		}
	}
	return nil, 0, LayerBuiltIn
}

// Each of the 4,096 ways to set a key in some scopes of some layers, for every
// key: what decisions go by is what a plain oracle says.
func TestLayersOnScopes(t *testing.T) {
	t.Parallel() // it waits
	config := DefaultConfig()
	for _, key := range thresholdKeys() {
		for set := range uint(1 << (len(oracleScopes) * len(oracleLayers))) {
			var layers [3][]Setting
			for l := range oracleLayers {
				for s, scope := range oracleScopes {
					if set&(1<<(l*len(oracleScopes)+s)) != 0 {
						layers[l] = append(layers[l], Setting{scope, key, oracleValue(key, s, l), Origin{Layer: oracleLayers[l]}})
					}
				}
			}
			s := &Settings{window: time.Hour}
			s.compile(config.settings(), layers[0], layers[1], layers[2])
			if key == "hourly" || key == "daily" {
				checkLimits(t, s, key, set)
			} else {
				checkCascade(t, s, key, set)
			}
			if t.Failed() {
				t.Fatalf("%s set as %012b", key, set)
			}
		}
	}
}

// checkLimits compares who is charged within which limit: each scope by its
// own, the domain by that of the default where it has none.
func checkLimits(t *testing.T, s *Settings, key string, set uint) {
	window := time.Hour
	if key == "daily" {
		window = day
	}
	want, got := map[string]int64{}, map[string]int64{}
	for i, scope := range oracleScopes[1:] {
		scopes := []int{i + 1}
		if isDomain(scope) {
			scopes = []int{0, i + 1}
		}
		value, _, layer := oracle(key, set, scopes)
		if value != nil && value != int64(0) {
			want[scope] = value.(int64)
		} else if isDomain(scope) && key == "hourly" {
			want[scope] = 500 // built-in
		}
		if origin := s.limitOrigin(scope, window); (value != nil || isDomain(scope)) && origin.Layer != layer {
			t.Errorf("%s: from %+v, want %s", scope, origin, layer)
		}
	}
	for _, subject := range s.appendSubjects(nil, oracleWho) {
		for _, limit := range subject.Limits {
			if limit.Window == window {
				got[subject.Name] = limit.Max
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("charged within %v, want %v", got, want)
	}
}

// checkCascade compares what decisions ask about a message and its subjects.
func checkCascade(t *testing.T, s *Settings, key string, set uint) {
	all := []int{0, 1, 2, 3}
	want, _, layer := oracle(key, set, all)
	if want == nil {
		var defaults Thresholds
		value, err := defaults.key(key)
		if err != nil {
			t.Fatal(err)
		}
		defaults = DefaultConfig().Limits.Default
		want = value.get()
	}
	var got any
	var origin Origin
	switch key {
	case "deferfail_percent":
		_, got = s.deferfailLimits(oracleWho)
		origin = s.deferfailOrigin(oracleWho)
	case "deferfail_min":
		got, _ = s.deferfailLimits(oracleWho)
		origin.Layer = layer
	case "deferfail_ignore":
		ignored := []string{}
		for _, c := range Causes() {
			if slices.Contains(s.ignored(oracleWho), c) {
				ignored = append(ignored, string(c))
			}
		}
		got, origin.Layer = ignored, layer
	case "defer_cutoff":
		got, origin = inForce(s, oracleWho, key, func(t *Thresholds) *int64 { return t.DeferCutoff })
	case "mode":
		got, origin.Layer = modes(s), layer
		want = ""
		for i := range oracleScopes[1:] {
			mode, _, _ := oracle(key, set, all[:i+2])
			want = fmt.Sprint(want, " ", mode == "watch")
		}
	case "over_limit":
		var over OverLimit
		over, origin = inForce(s, oracleWho, key, func(t *Thresholds) *OverLimit { return t.OverLimit })
		got = string(over)
	case "exempt":
		got, origin.Layer = s.exemptScope(oracleWho), layer
	default:
		t.Fatalf("%s is not tested", key)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || origin.Layer != layer {
		t.Errorf("%v from %s, want %v from %s", got, origin.Layer, want, layer)
	}
}

// modes tells which of account, domain and mailbox are watched.
func modes(s *Settings) any {
	s.byName["account:bob"] = []ratelimit.Limit{{Window: time.Hour, Max: 1}}
	s.byName["news@example.com"], s.accounts = s.byName["account:bob"], true
	watched := map[string]bool{}
	for _, subject := range s.appendSubjects(nil, oracleWho) {
		watched[subject.Name] = subject.Watched
	}
	text := ""
	for _, scope := range oracleScopes[1:] {
		text = fmt.Sprint(text, " ", watched[scope])
	}
	return text
}
