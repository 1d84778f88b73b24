package sidecar

import (
	"fmt"
	"time"
)

// Ratio shows a count and its limit, with the percentage rounded down: "21/20 (105%)".
func Ratio(n, of int64) string {
	return fmt.Sprintf("%d/%d (%d%%)", n, of, n*100/max(1, of))
}

// Day is the window of a daily limit.
const Day = 24 * time.Hour

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

// Span is WindowName with an article: "an hour", "a day" or "10m0s".
func Span(d time.Duration) string {
	switch d {
	case time.Hour:
		return "an hour"
	case Day:
		return "a day"
	}
	return d.String()
}
