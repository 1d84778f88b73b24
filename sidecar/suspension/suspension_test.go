package suspension

import (
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/settings"
)

// Mail of a suspended account is blocked if a web server sends it, too.
func TestAccountOfAWebsiteIsSuspended(t *testing.T) {
	s := &settings.Settings{PanelBlocks: map[string]settings.PanelBlock{"account:bob": {Suspended: true}}}
	website := sidecar.Payer{Special: "web:bob", Account: "bob", Domain: "b.example"}
	if whose, _ := Of(s, website); whose != "Account bob" {
		t.Errorf("mail of a suspended account that a web server sends is blocked for %q", whose)
	}
}
