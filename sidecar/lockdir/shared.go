package lockdir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Shared returns an error if cPanel's own limiter seems to use the same directory, with
// the signs of that and what to do. cPanel keeps its counts in track/, and has its
// configuration beside the directory: /var/cpanel/cpanel.config. Files that cannot be
// read are no sign: most hosts have no cPanel.
func Shared(dir string) error {
	var signs []string
	config := filepath.Join(filepath.Dir(dir), "cpanel.config")
	if text, err := os.ReadFile(config); err == nil && filepath.Base(dir) == "email_send_limits" {
		for _, line := range cpanelLimits(string(text)) {
			signs = append(signs, config+" has "+line)
		}
	}
	track := filepath.Join(dir, "track")
	if info, err := os.Lstat(track); err == nil && info.IsDir() {
		signs = append(signs, track+" is there")
	}
	if len(signs) == 0 {
		return nil
	}
	return fmt.Errorf("lock directory %s: %s: set locks.dir and Exim's SLUICE_LOCKS to another directory; or, where panel.follow is false "+
		"(else these limits are ours too), set both limits of cPanel to unlimited (WHM, Tweak Settings, Mail) and remove track",
		dir, strings.Join(signs, ", "))
}

// cpanelLimits are the lines of cpanel.config that switch cPanel's limiter on.
func cpanelLimits(text string) (on []string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "maxemailsperhour", "email_send_limits_max_defer_fail_percentage":
			if value != "" && value != "0" && value != "unlimited" {
				on = append(on, fmt.Sprintf("%s=%.20q", key, value))
			}
		}
	}
	return on
}
