package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// checkStarters looks whether something starts Exim for each connection, while Exim's macros
// say that only its daemon takes mail: mail by any other is not asked about.
func (d *doctor) checkStarters() {
	uid, known := d.exim.Macro(d.ctx, "SLUICE_INETD_UID")
	if !known || uid != "" {
		return
	}
	for _, look := range []func(root string) string{inetd, xinetd, socketUnit} {
		if file := look(d.Root); file != "" {
			d.note("inetd", "Set SLUICE_INETD_UID in Exim's macros to the uid as which Exim is started there (0 for root), and have Exim reload.",
				"%s has Exim started for each connection: what comes in that way is not asked about, and not limited", file)
			return
		}
	}
}

// runsExim reports whether a line has Exim speak SMTP on its standard input.
func runsExim(line string) bool { return eximProgram.MatchString(line) && smtpOption.MatchString(line) }

var (
	eximProgram = regexp.MustCompile(`/exim\d?\b`)
	smtpOption  = regexp.MustCompile(`(^|[\s=])-bs(\s|$)`)
)

// inetd is the file of inetd if it starts Exim, one line a service; else empty.
func inetd(root string) string {
	path := filepath.Join(root, "etc/inetd.conf")
	text, _ := os.ReadFile(path) // most hosts have none
	for line := range strings.Lines(string(text)) {
		if line[0] != '#' && runsExim(line) {
			return path
		}
	}
	return ""
}

// xinetd is a file of xinetd that starts Exim, one service a file or several; else empty.
func xinetd(root string) string {
	for _, pattern := range []string{"etc/xinetd.conf", "etc/xinetd.d/*"} {
		files, _ := filepath.Glob(filepath.Join(root, pattern))
		for _, path := range files {
			text, _ := os.ReadFile(path)
			for service := range strings.SplitSeq(uncommented(text), "}") {
				if runsExim(strings.ReplaceAll(service, "\n", " ")) && !disabled.MatchString(service) {
					return path
				}
			}
		}
	}
	return ""
}

var disabled = regexp.MustCompile(`(?m)^\s*disable\s*=\s*yes\b`)

// socketUnit is a socket unit of systemd that is enabled and starts Exim; else empty.
func socketUnit(root string) string {
	sockets, _ := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants/*.socket"))
	for _, path := range sockets {
		name := strings.TrimSuffix(filepath.Base(path), ".socket")
		for _, dir := range []string{"etc", "run", "usr/local/lib", "usr/lib", "lib"} {
			service, _ := os.ReadFile(filepath.Join(root, dir, "systemd/system", name+"@.service"))
			for line := range strings.Lines(uncommented(service)) {
				if strings.HasPrefix(line, "ExecStart=") && runsExim(line) {
					return path
				}
			}
		}
	}
	return ""
}

// uncommented is a text without the lines that are comments.
func uncommented(text []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}
