package sidecar

import (
	"fmt"
	"time"
)

// ratio is "21/20 (105%)", rounded down.
func Ratio(n, of int64) string {
	return fmt.Sprintf("%d/%d (%d%%)", n, of, n*100/max(1, of))
}

// span writes a window as people say it.
func Span(d time.Duration) string {
	switch d {
	case time.Hour:
		return "an hour"
	case Day:
		return "a day"
	}
	return d.String()
}

// day is the window of a daily limit.
const Day = 24 * time.Hour
