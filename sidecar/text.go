package sidecar

import (
	"fmt"
	"time"
)

// ratio is "21/20 (105%)", rounded down.
func Ratio(n, of int64) string {
	return fmt.Sprintf("%d/%d (%d%%)", n, of, n*100/max(1, of))
}

// WindowName names a window by its length: "hour", "day" or "10m0s".
func WindowName(d time.Duration) string {
	switch d {
	case time.Hour:
		return "hour"
	case Day:
		return "day"
	}
	return d.String()
}

// Span is WindowName with an article.
func Span(d time.Duration) string {
	name := WindowName(d)
	switch d {
	case time.Hour:
		return "an " + name
	case Day:
		return "a " + name
	}
	return name
}

// Day is the window of a daily limit.
const Day = 24 * time.Hour
