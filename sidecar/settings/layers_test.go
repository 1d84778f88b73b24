package settings

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/limit"
)

// The scopes of a message of news@example.com, whose domain is bob's, from the
// least to the most specific, and the layers from the lowest to the highest.
var (
	oracleScopes = []string{"default", "account:bob", "example.com", "news@example.com"}
	oracleLayers = []limit.Layer{limit.LayerFile, limit.LayerPanel, limit.LayerLive}
	oracleWho    = sidecar.Payer{Domain: "example.com", Account: "bob", Mailbox: "news@example.com"}
)

// oracleValue is a value of a key that is different for each scope and layer.
func oracleValue(key string, scope, layer int) any {
	n := int64(1 + 4*layer + scope)
	switch key {
	case "deferfail_ignore":
		return []string{string(sidecar.Causes()[scope]), string(sidecar.Causes()[layer+4])}
	case "mode":
		return []string{"enforce", "watch"}[n%2]
	case "over_limit":
		return []string{"cutoff", "defer", "reject", "discard"}[(scope+layer)%4]
	case "spike":
		return [...]string{"watch", "off"}[(scope+layer)%2]
	case "culprit":
		return []string{"stop", "name", "off"}[(scope+layer)%3]
	case "exempt":
		return n%2 == 1
	case "defer_cutoff":
		return 100 + n
	}
	return n
}

// oracle finds what is in force of a key without the code under test. set has a bit for
// each scope and layer, layer by layer.
func oracle(key string, set uint, scopes []int) (value any, scope int, layer limit.Layer) {
	for _, s := range slices.Backward(scopes) {
		for l := range slices.Backward(oracleLayers) {
			if set&(1<<(l*len(oracleScopes)+s)) != 0 {
				return oracleValue(key, s, l), s, oracleLayers[l]
			}
		}
	}
	return nil, 0, limit.LayerBuiltIn
}

// Each of the 4,096 ways to set a key in some scopes of some layers, for every
// key: decisions depend on the value that the oracle finds.
func TestLayersOnScopes(t *testing.T) {
	t.Parallel()
	config := config.Default()
	for _, key := range limit.Keys() {
		for set := range uint(1 << (len(oracleScopes) * len(oracleLayers))) {
			var layers [3][]limit.Setting
			for l := range oracleLayers {
				for s, scope := range oracleScopes {
					if set&(1<<(l*len(oracleScopes)+s)) != 0 {
						layers[l] = append(layers[l], limit.Setting{Scope: scope, Key: key, Value: oracleValue(key, s, l), Origin: limit.Origin{Layer: oracleLayers[l]}})
					}
				}
			}
			base := config.Settings()
			if key == "mode" { // without limits of their own, accounts and mailboxes are not charged
				base = append(base, limit.Setting{Scope: "account:bob", Key: "hourly", Value: int64(1)}, limit.Setting{Scope: "news@example.com", Key: "hourly", Value: int64(1)})
			}
			s := limit.NewTable(time.Hour, base, layers[0], layers[1], layers[2])
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

// checkLimits compares the limits of each scope: its own, and those of the default for a
// domain that has none.
func checkLimits(t *testing.T, s *limit.Table, key string, set uint) {
	window := time.Hour
	if key == "daily" {
		window = limit.Day
	}
	want, got := map[string]int64{}, map[string]int64{}
	for i, scope := range oracleScopes[1:] {
		scopes := []int{i + 1}
		if sidecar.IsDomain(scope) {
			scopes = []int{0, i + 1}
		}
		value, _, layer := oracle(key, set, scopes)
		if value != nil && value != int64(0) {
			want[scope] = value.(int64)
		} else if sidecar.IsDomain(scope) && key == "hourly" {
			want[scope] = 500 // built-in
		}
		if origin := s.LimitOrigin(oracleWho, scope, window); (value != nil || sidecar.IsDomain(scope)) && origin.Layer != layer {
			t.Errorf("%s: from %+v, want %s", scope, origin, layer)
		}
	}
	for _, subject := range s.AppendSubjects(nil, oracleWho) {
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
func checkCascade(t *testing.T, s *limit.Table, key string, set uint) {
	all := []int{0, 1, 2, 3}
	want, _, layer := oracle(key, set, all)
	if want == nil {
		var defaults limit.Thresholds
		value := defaults.Field(key)
		defaults = config.Default().Limits.Default
		want = value.Get()
	}
	var got any
	var origin limit.Origin
	switch key {
	case "deferfail_percent":
		_, got = s.DeferfailLimits(oracleWho)
		origin = s.DeferfailOrigin(oracleWho)
	case "deferfail_min":
		got, _ = s.DeferfailLimits(oracleWho)
		origin.Layer = layer
	case "deferfail_ignore":
		ignored := []string{}
		for _, c := range sidecar.Causes() {
			if slices.Contains(s.IgnoredCauses(oracleWho), c) {
				ignored = append(ignored, string(c))
			}
		}
		got, origin.Layer = ignored, layer
	case "defer_cutoff":
		got, origin = limit.InForce(s, oracleWho, func(t *limit.Thresholds) *int64 { return t.DeferCutoff }), s.Decisive(key, oracleWho.Scopes()).Origin
	case "mode":
		got, origin.Layer = modes(s), layer
		want = ""
		for i := range oracleScopes[1:] {
			mode, _, _ := oracle(key, set, all[:i+2])
			want = fmt.Sprint(want, " ", mode == "watch")
		}
	case "over_limit":
		var over limit.OverLimit
		over, origin = limit.InForce(s, oracleWho, func(t *limit.Thresholds) *limit.OverLimit { return t.OverLimit }), s.Decisive(key, oracleWho.Scopes()).Origin
		got = string(over)
	case "culprit":
		var culprit limit.Culprit
		culprit, origin = limit.InForce(s, oracleWho, func(t *limit.Thresholds) *limit.Culprit { return t.Culprit }), s.Decisive(key, oracleWho.Scopes()).Origin
		got = string(culprit)
		if share := s.OthersShare(oracleWho, 1000); (share == 250) != (culprit == limit.CulpritStop) || share != 0 && share != 250 {
			t.Errorf("%s: %d of 1000 are left to others", culprit, share)
		}
	case "others_share":
		got, origin = limit.InForce(s, oracleWho, func(t *limit.Thresholds) *int64 { return t.OthersShare }), s.Decisive(key, oracleWho.Scopes()).Origin
		if share := s.OthersShare(oracleWho, 100); share != got || s.OthersShare(oracleWho, 19) != 0 {
			t.Errorf("%v%%: %d of 100 are left to others", got, share)
		}
	case "spike":
		var spike limit.Spike
		spike, origin = limit.InForce(s, oracleWho, func(t *limit.Thresholds) *limit.Spike { return t.Spike }), s.Decisive(key, oracleWho.Scopes()).Origin
		got = string(spike)
	case "expected":
		got, origin = s.Expected(oracleWho, oracleWho.Mailbox)
	case "exempt":
		got, origin.Layer = s.ExemptScope(oracleWho), layer
	default:
		t.Fatalf("%s is not tested", key)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || origin.Layer != layer {
		t.Errorf("%v from %s, want %v from %s", got, origin.Layer, want, layer)
	}
}

// modes shows which of account, domain and mailbox are watched.
func modes(s *limit.Table) any {
	watched := map[string]bool{}
	for _, subject := range s.AppendSubjects(nil, oracleWho) {
		watched[subject.Name] = subject.Watched
	}
	text := ""
	for _, scope := range oracleScopes[1:] {
		text = fmt.Sprint(text, " ", watched[scope])
	}
	return text
}
