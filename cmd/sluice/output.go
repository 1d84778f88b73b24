package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/sidecar/printable"
)

// A screen is where commands print. It lets nothing through that could command a terminal.
// Each Write must have whole characters.
type screen struct {
	to     io.Writer
	width  int   // of the terminal in columns; 0: it is none
	failed error // of the first Write that did: nobody looks at each
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
	if _, err := io.WriteString(s.to, printable.Lines(string(p))); err != nil {
		s.failed = cmp.Or(s.failed, err)
		return 0, err
	}
	return len(p), nil
}

// printf is fmt.Fprintf for whom others have a say in: each argument that is a text stays on its
// line, and shows what is in it.
func printf(w io.Writer, format string, args ...any) {
	for i, arg := range args {
		_, named := arg.(fmt.Stringer)
		_, failed := arg.(error)
		if named || failed || reflect.ValueOf(arg).Kind() == reflect.String {
			args[i] = printable.TextOf(fmt.Sprint(arg))
		}
	}
	fmt.Fprintf(w, format, args...)
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

// cells are a row of a table.
func cells(values ...any) []printable.Text {
	row := make([]printable.Text, len(values))
	for i, v := range values {
		row[i] = printable.TextOf(fmt.Sprint(v))
	}
	return row
}

// printTable prints rows, the first of which is the header, in aligned columns: l left, r
// right. On a terminal, long texts are shortened until the table is not wider, but for those of the
// last column: no column is moved by them.
func printTable(w io.Writer, align string, rows [][]printable.Text) {
	widths := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], cell.Width())
		}
	}
	if s, ok := w.(*screen); ok && s.width > 0 {
		fit(widths, align, s.width)
	}
	last := len(align) - 1
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i < last {
				cell = cell.Cut(widths[i])
			}
			space := strings.Repeat(" ", max(0, widths[i]-cell.Width()))
			if align[i] == 'l' {
				fmt.Fprint(&line, cell, space, "  ")
			} else {
				fmt.Fprint(&line, space, cell, "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// leastColumn is the width in cells to which texts are shortened at most: what is shorter, as times,
// events and most names are, stays whole, and the terminal begins a new line where it must.
const leastColumn = 30

// fit narrows the widest columns of texts, but not the last, until all columns fit into a width.
// Numbers are never shortened: half a number is another one.
func fit(widths []int, align string, width int) {
	last := len(widths) - 1
	widths[last] = min(widths[last], leastColumn)
	for {
		all, widest := -2, -1 // no space follows the last column
		for i, w := range widths {
			all += w + 2
			if i < last && align[i] == 'l' && w > leastColumn && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if all <= width || widest < 0 {
			return
		}
		widths[widest]--
	}
}
