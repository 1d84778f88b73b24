package printable

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Ratio shows a count and its limit, with the percentage rounded down: "21/20 (105%)".
func Ratio(n, of int64) string {
	return fmt.Sprintf("%d/%d (%d%%)", n, of, n*100/max(1, of))
}

// WindowName names a window by its length: "hour", "day" or "10m0s".
func WindowName(d time.Duration) string {
	switch d {
	case time.Hour:
		return "hour"
	case 24 * time.Hour:
		return "day"
	}
	return d.String()
}

// Span is WindowName with an article: "an hour", "a day" or "10m0s".
func Span(d time.Duration) string {
	switch d {
	case time.Hour:
		return "an hour"
	case 24 * time.Hour:
		return "a day"
	}
	return d.String()
}

// Count is a number with its noun.
func Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Network is a network, or the address that one is of, as it is written; empty for the zero
// Prefix.
func Network(n netip.Prefix) string {
	switch {
	case !n.IsValid():
		return ""
	case n.IsSingleIP():
		return n.Addr().String()
	}
	return n.String()
}

// Shorten is a text in at most so many bytes, three at least. Dots show that it was longer.
func Shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}

// DateTime is a time as operators read it, in the time zone of this program, which it names.
func DateTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700") }

// Brief is a duration in its one or two largest units, for reading: "45s", "12m", "3h10m",
// "2d4h".
func Brief(d time.Duration) string {
	d = max(0, d.Round(time.Second))
	if d > time.Minute {
		d = (d + time.Minute - 1).Truncate(time.Minute)
	}
	seconds := int64(d / time.Second)
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%dm", seconds/60)
	case seconds < 86400:
		return strings.TrimSuffix(fmt.Sprintf("%dh%02dm", seconds/3600, seconds%3600/60), "00m")
	}
	return strings.TrimSuffix(fmt.Sprintf("%dd%dh", seconds/86400, seconds%86400/3600), "0h")
}
