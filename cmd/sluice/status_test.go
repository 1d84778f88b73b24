package main

import (
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
)

// What status says of the log while it is caught up with, and when a part of it
// is not read or gone.
func TestStatusOfTheLog(t *testing.T) {
	at := time.Date(2026, 11, 25, 17, 45, 0, 0, time.Local)
	for want, log := range map[string]sidecar.LogProgress{
		"Catching up with /var/log/exim4/mainlog.2.gz: 40% read, up to what was logged at 2026-11-25 17:45:00; outcomes since are not counted yet.\n": {
			File: "/var/log/exim4/mainlog.2.gz", Read: 40, Size: 100, Last: at},
		"Catching up with /var/log/exim4/mainlog: 0% read; outcomes since are not counted yet.\n": {
			File: "/var/log/exim4/mainlog", Size: 100},
		"WARNING: outcomes are not counted: open the log: there is no /x. Look at exim.mainlog.\n": {
			File: "/x", Trouble: "open the log: there is no /x"},
		"WARNING: at 2026-11-25 17:45:00 a part of the mail server's log was missing: outcomes in it are not counted, " +
			"nor what passed unasked. The log of sluice names the file, and says what to do.\n": {
			File: "/var/log/exim4/mainlog", Read: 100, Size: 100, Last: at, Lost: &at},
		"": {File: "/var/log/exim4/mainlog", Read: 100, Size: 100, Last: at},
	} {
		var b strings.Builder
		printStatus(&b, sidecar.Status{Node: "mx1", Totals: sidecar.Totals{Log: &log}})
		_, got, _ := strings.Cut(b.String(), "repeats included.\n")
		if got != want {
			t.Errorf("%+v\n got %q\nwant %q", log, got, want)
		}
	}
}
