package card

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sluice/sidecar/printable"
)

// The printed command finds what was posted to a site in the first three minutes, in the log that
// the web server of this host writes.
func TestWhoCalledTheScript(t *testing.T) {
	root := t.TempDir() + "/"
	if got := accessLog(root, "example.com"); got != "" {
		t.Errorf("without a log it is %s", got)
	}
	if err := os.MkdirAll(root+"usr/local/apache/domlogs", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"usr/local/apache/domlogs/example.com", []byte(`192.0.2.1 - - [01/Mar/2026:11:59:59 +0000] "POST /early.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:00:00 +0000] "POST /wp/x.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:01:00 +0000] "GET /wp/y.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:02:59 +0000] "POST /wp/z.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:03:00 +0000] "POST /late.php HTTP/1.1" 200 1
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := accessLog(root, "../../etc/passwd"); got != "" {
		t.Errorf("a name that is no domain leads to %s", got)
	}
	out, err := exec.Command("sh", "-c", printable.Command(grepPosts(noon), accessLog(root, "example.com"))).Output()
	if found := regexp.MustCompile(`/\w+\.php`).FindAllString(string(out), -1); err != nil || strings.Join(found, " ") != "/x.php /z.php" {
		t.Errorf("found %q, %v", found, err)
	}
}
