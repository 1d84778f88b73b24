package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
)

// A screen is where commands print. It lets nothing through that could command a terminal.
// Each Write must have whole characters.
type screen struct {
	to    io.Writer
	width int // of the terminal in columns; 0: it is none
}

func newScreen(w io.Writer) *screen {
	s := &screen{to: w}
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.width = int(size.Col)
		}
	}
	return s
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	if _, err := io.WriteString(s.to, sidecar.PrintableLines(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// jsonFlag is the flag of every command that prints.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON, for programs."`
}

// printJSON prints a value as JSON. Times that are not known are null.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte(`"0001-01-01T00:00:00Z"`), []byte("null")))
	return err
}

// printTable prints rows, the first of which is the header, in aligned columns: l left, r
// right. On a terminal, texts are shortened until the table is not wider.
func printTable(w io.Writer, align string, rows [][]string) {
	widths := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = sidecar.Printable(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	if s, ok := w.(*screen); ok && s.width > 0 {
		fit(widths, align, s.width)
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			width := widths[i]
			if align[i] == 'l' {
				width = -width
			}
			fmt.Fprintf(&line, "%*s  ", width, shorten(cell, widths[i]))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// leastColumn is the width in characters to which texts are shortened at most.
const leastColumn = 10

// fit narrows the widest columns of texts until all columns fit into a width. Numbers are
// never shortened: half a number is another one.
func fit(widths []int, align string, width int) {
	for {
		all, widest := -2, -1 // no space follows the last column
		for i, w := range widths {
			all += w + 2
			if align[i] == 'l' && w > leastColumn && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if all <= width || widest < 0 {
			return
		}
		widths[widest]--
	}
}

// shorten cuts a text to a number of characters, and shows that it has.
func shorten(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}
