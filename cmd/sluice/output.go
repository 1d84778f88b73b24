package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// jsonFlag is the flag of every command that prints.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON, for programs."`
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable prints rows under a header in aligned columns: l left, r right.
func printTable(w io.Writer, align string, rows [][]string) {
	widths := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			width := widths[i]
			if align[i] == 'l' {
				width = -width
			}
			fmt.Fprintf(&line, "%*s  ", width, cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// span is a duration as short as it is read: "45s", "12m", "3h10m", "2d4h".
func span(d time.Duration) string {
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

// count is a number with its noun.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
