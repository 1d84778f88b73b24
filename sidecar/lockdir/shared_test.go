package lockdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cPanel's own limiter in the same directory is reported at start, once.
func TestSharedWithCPanel(t *testing.T) {
	for what, c := range map[string]struct {
		name   string
		config string
		track  bool
		want   string
	}{
		"no cPanel":           {"email_send_limits", "", false, ""},
		"its limits are off":  {"email_send_limits", "maxemailsperhour=\nemail_send_limits_max_defer_fail_percentage=unlimited\n", false, ""},
		"unlimited":           {"email_send_limits", "maxemailsperhour=0\n", false, ""},
		"other keys":          {"email_send_limits", "maxemailsperhour2=5\n#maxemailsperhour=5\nemailsperdaynotify=5\n", false, ""},
		"another directory":   {"locks", "maxemailsperhour=500\n", false, ""},
		"emails an hour":      {"email_send_limits", "a=b\nmaxemailsperhour=500\r\n", false, `DIR/../cpanel.config has maxemailsperhour="500": `},
		"defers and failures": {"email_send_limits", "email_send_limits_max_defer_fail_percentage=60", false, `cpanel.config has email_send_limits_max_defer_fail_percentage="60": `},
		"both and counts": {"email_send_limits", "maxemailsperhour=5\nemail_send_limits_max_defer_fail_percentage=6\n", true,
			`cpanel.config has maxemailsperhour="5", DIR/../cpanel.config has email_send_limits_max_defer_fail_percentage="6", DIR/track is there: `},
		"counts": {"locks", "", true, "lock directory DIR: DIR/track is there: "},
	} {
		t.Run(what, func(t *testing.T) {
			r := &rig{t: t, path: filepath.Join(t.TempDir(), c.name), notes: newNotes(), now: noon}
			r.must(os.Mkdir(r.path, 0o755))
			if c.config != "" {
				r.must(os.WriteFile(filepath.Join(r.path, "..", "cpanel.config"), []byte(c.config), 0o644))
			}
			if c.track {
				r.must(os.Mkdir(filepath.Join(r.path, "track"), 0o755))
			}
			r.open()
			got := said(r.settle())
			want := strings.NewReplacer("DIR/..", filepath.Dir(r.path), "DIR", r.path, `"`, `\"`).Replace(c.want)
			if c.want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("said %s\nwant %s", got, want)
			}
			if c.want != "" && (!strings.HasPrefix(got, `msg="cPanel's own limiter uses the lock directory too: `) ||
				!strings.Contains(got, "set locks.dir and Exim's SLUICE_LOCKS to another directory; or, where panel.follow is false (else these limits are ours too), set both limits of cPanel ") || strings.Count(got, "\n") != 1) {
				t.Errorf("said %s", got)
			}
			if got := said(r.settle()); got != "" {
				t.Errorf("said later: %s", got)
			}
		})
	}
}

// A file by the name of cPanel's folder of counts would have it fail.
func TestTrackIsNoUsageFile(t *testing.T) {
	r := newRig(t)
	r.show("track")
	r.wantFiles()
}
