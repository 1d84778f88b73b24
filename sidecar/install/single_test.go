package install

import (
	"strings"
	"testing"

	"sluice/sidecar/exim"
	"sluice/sidecar/hosttest"
)

// A program that is no Exim, or a broken one, is what is wrong, and not a file without a name.
func TestAnEximThatDoesNotSayItsConfiguration(t *testing.T) {
	hosttest.NotShort(t)
	for binary, why := range map[string]string{"/bin/false": "exit status 1", "/bin/true": `no line "Configuration file is"`, "/no/such/exim": "no such file"} {
		r := &run{Installer: &Installer{Exim: exim.Exim{Binary: binary, Patience: hosttest.Patience()}}}
		_, err := (&single{}).ready(t.Context(), r)
		for _, part := range []string{binary + " -bV does not say", why, "exim.binary", "sluice exim install --file FILE"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %s", binary, err, part)
			}
		}
	}
}
