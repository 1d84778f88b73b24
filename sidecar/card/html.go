package card

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

//go:embed card.html
var page string

// pages are the files for a browser. All that they show passes printable.TextOf before it is escaped
// for HTML.
func pages() (*template.Template, error) {
	return template.New("pages").Funcs(template.FuncMap{"show": func(v any) string { return printable.Of(fmt.Sprint(v)) }}).Parse(page)
}

// WriteHTML writes the card as one file, for operators.
func (c *Card) WriteHTML(w io.Writer) error {
	return write(w, "card", struct {
		*Card
		Drawing *drawing
		Senders []incident.Sender
		Lines   []incident.Line
	}{c, draw(c.Chart()), c.Evidence.Who, c.Evidence.Lines})
}

// WriteHTML writes the letter as one file.
func (l Letter) WriteHTML(w io.Writer) error { return write(w, "letter", l) }

func write(w io.Writer, name string, of any) error {
	t, err := pages()
	if err == nil {
		err = t.ExecuteTemplate(w, name, of)
	}
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// A drawing is a chart in the units of its SVG, of which y grows downwards.
type drawing struct {
	*Chart
	Width int // of all columns; the paper is as wide as the most columns
	Bars  []bar
	Stop  int // where the line of the stop is; -1: nowhere
	First string
	Last  string
}

// A bar is a column: what was refused stands on what was sent, the others hang below the axis.
type bar struct {
	X                      int
	Sent, SentY            int64
	Tried, TriedY          int64
	Others                 int64
	SentN, TriedN, OthersN int64
	Known                  bool
}

// These are the height of the culprit's part of a drawing and of the others', and the width of a column.
const (
	culpritHeight = 120
	othersHeight  = 30
	columnWidth   = 10
)

func draw(c *Chart) *drawing {
	if c == nil {
		return nil
	}
	d := &drawing{Chart: c, Width: columnWidth * len(c.Columns), Stop: -1,
		First: c.From.Local().Format("15:04"), Last: c.To.Local().Format("15:04")}
	for n, column := range c.Columns {
		sent, tried := culpritHeight*max(0, column.Sent)/max(1, c.Most), culpritHeight*max(0, column.Tried)/max(1, c.Most)
		d.Bars = append(d.Bars, bar{X: n * columnWidth, Sent: sent, SentY: culpritHeight - sent, Tried: tried, TriedY: culpritHeight - tried,
			Others: othersHeight * max(0, column.Others) / max(1, c.Others), SentN: column.Sent, TriedN: column.Tried, OthersN: column.Others, Known: column.Known})
	}
	if c.Stop >= 0 {
		d.Stop = c.Stop*columnWidth + columnWidth/2
	}
	return d
}
