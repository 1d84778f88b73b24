package script

import (
	"os"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Without a permission to read it PHP goes on running what it has compiled, until the time of
// the last change makes it look.
func TestPHPStopsRunningTheScript(t *testing.T) {
	p := newPlace(t)
	php := hosttest.StartPHP(t, tenant)
	path := p.write(p.path("public_html/mailer.php"), tenant, `<?php echo opcache_is_script_cached(__FILE__) ? "sends from the cache" : "sends";`)
	hosttest.EventuallyOr(t, func() string { return "PHP does not cache the script: " + php.Run(path) },
		func() bool { return strings.Contains(php.Run(path), "sends from the cache") })

	was := p.disable(path)
	t.Logf("it waits for PHP to look again, within %v", ReadOpcache(os.DirFS("/")).Within)
	hosttest.Eventually(t, "PHP still runs the script", func() bool { return !strings.Contains(php.Run(path), "sends") })
	if err := Enable(was); err != nil {
		t.Fatal(err)
	}
	hosttest.EventuallyOr(t, func() string { return "PHP does not run it again: " + php.Run(path) },
		func() bool { return strings.Contains(php.Run(path), "sends") })
}
