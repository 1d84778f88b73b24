package config

import (
	"strings"
	"testing"
)

// A file that is not TOML is refused without the text around the mistake, which may be
// a password.
func TestTOMLErrorsQuoteNoPassword(t *testing.T) {
	for _, line := range []string{
		`url = redis://:Secret99@h`, `url = Secret99`, `url = Secret99@h`, `url = "redis://:Top\Secret99@h"`, `url = "redis://:Top\uSecret99@h"`,
		`url = "redis://:Secret99@h`, `url = 'redis://:Top'Secret99@h'`, `url = "redis://:Top"Secret99@h"`, `url 'redis://:Secret99@h'`,
		`url = 99Secret99`, `url = 0xSecret99`, `url = +Secret99`, `url = 2026Secret99`, `url = 1979-05-27TSecret99`, `url = 1_Secret`, `url = 9.9Secret99`, `url = infSecret`, `url = trueSecret`,
		`url = {Secret99 = }`, `url = [Secret99]`, `url = ['a' Secret99]`, `redis://:Secret99@h`, `[Secret99 x]`, `url = "a"
url = "redis://:Secret99@h"`, "url = \"redis://:Top\x01Secret99@h\"", "url = \"redis://:\xffSecret99@h\"", "url = \"\"\"redis://:Secret99", `"redis://:Secret99@h".x = `,
		`url = 99999999999999999999999`, `url = 1990-13-41 # Secret99`,
		`url = "redis://:Secret99@h"
[store.url]`, `url."redis://:Secret99@h" = 1
url."redis://:Secret99@h" = 1`, `url = 99e99Secret`,
	} {
		_, err := Parse("x.toml", "[store]\n"+line+"\n")
		if err == nil || strings.Contains(err.Error(), "Secret") || strings.Contains(err.Error(), "Top") || strings.Contains(err.Error(), "9999") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
