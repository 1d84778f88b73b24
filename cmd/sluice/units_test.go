package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// newLines are the lines of our units that AlmaLinux 8 (systemd 239) does not know, with the version of systemd that has
// brought each, by its NEWS.
var newLines = map[string]string{
	"ProtectHostname": "242", "RestrictSUIDSGID": "242", "ProtectKernelLogs": "244", "ProtectClock": "245", "ProtectProc": "247",
}

// oldLines are the lines of our units that systemd 239 knows.
var oldLines = strings.Fields(`Accept After Also Backlog Before CapabilityBoundingSet CollectMode Description DirectoryMode DynamicUser ExecReload
	ExecStart IPAddressAllow IPAddressDeny KillMode LimitNOFILE ListenStream LockPersonality MaxConnections MemoryDenyWriteExecute
	NoNewPrivileges OOMScoreAdjust PrivateDevices PrivateTmp ProtectControlGroups ProtectHome ProtectKernelModules
	ProtectKernelTunables ProtectSystem ReadWritePaths Requires Restart RestartSec RestrictAddressFamilies RestrictNamespaces
	RestrictRealtime RuntimeMaxSec Service SocketMode StandardError StandardInput StandardOutput SystemCallArchitectures SystemCallFilter
	TimeoutStopSec Type UMask User WantedBy Wants WatchdogSec`)

// docs/install.md lists the lines of the units that an old systemd ignores: all of them, and no other.
func TestWhatAnOldSystemdIgnores(t *testing.T) {
	text := string(read(t, "../../docs/install.md"))
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*) \\| (\\d+) \\|$").FindAllStringSubmatch(text, -1) {
		for _, line := range regexp.MustCompile("`(\\w+)=`").FindAllStringSubmatch(row[1], -1) {
			listed[line[1]] = row[2]
		}
	}
	units, err := filepath.Glob("systemd/*.s*")
	if err != nil || len(units) < 8 {
		t.Fatalf("only %d units: %v", len(units), err)
	}
	used := map[string]bool{}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile(`(?m)^([A-Z]\w+)=`).FindAllStringSubmatch(string(text), -1) {
			used[line[1]] = true
			if newLines[line[1]] == "" && !slices.Contains(oldLines, line[1]) {
				t.Errorf("%s: since which systemd is there %s=? See its NEWS; if since 240 or later, list it in docs/install.md", unit, line[1])
			}
		}
	}
	for line, version := range newLines {
		if used[line] != (listed[line] == version) {
			t.Errorf("%s=, since systemd %s: in the units %v, in docs/install.md %q", line, version, used[line], listed[line])
		}
	}
	if len(listed) != len(newLines) {
		t.Errorf("docs/install.md lists %v", listed)
	}
}
