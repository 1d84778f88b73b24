package operator

import (
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// A special subject is charged alone, so only its own limit is explained, though it comes
// from the domain that it stands for.
func TestOnlyTheLimitOfASpecialSubjectIsExplained(t *testing.T) {
	live := []limit.Setting{
		{Scope: "a.example", Key: "hourly", Value: int64(20), Origin: limit.Origin{Layer: limit.LayerLive}},
		{Scope: "account:alice", Key: "hourly", Value: int64(7), Origin: limit.Origin{Layer: limit.LayerLive}},
	}
	s, err := settings.New(settings.Sources{Config: config.Default(), Live: live}, settings.Host{Node: "node1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for scope, who := range map[string]sidecar.Payer{
		"forward:a.example": {Special: "forward:a.example", Domain: "a.example", Account: "alice"},
		"web:alice":         {Special: "web:alice", Domain: "a.example", Account: "alice"},
	} {
		var e Explanation
		e.addLimits(s, "hourly", scope, who)
		if len(e.Values) != 1 || e.Values[0].Of != scope || e.Values[0].Value != int64(20) || e.Values[0].Set != "a.example" {
			t.Errorf("%s: explained as %+v, want 20 of a.example", scope, e.Values)
		}
	}
}
