package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// A Text is a text as it may be shown to people: on a terminal, in a log, a notice or a page.
// What senders, tenants and remote servers choose becomes one by TextOf: addresses, logins,
// names of files, replies. With control characters (C0, C1, DEL) they would command the
// terminal of whoever reads them, with a line end write lines of their own, with the marks of
// Unicode's bidirectional algorithm change the order of what is read, and with what has no
// width look like another name.
type Text struct{ shown string }

// TextOf makes a Text of a text: what is not printable stands as \u202e, and a byte that is not
// UTF-8 as \xff. In a JSON string the escapes mean what stood there.
func TextOf(text string) Text { return Text{escape(text, "")} }

// String is the text, escaped.
func (t Text) String() string { return t.shown }

// Width is how many cells of a terminal the text takes: a Chinese character takes two, and an
// accent none of its own.
func (t Text) Width() int { return uniseg.StringWidth(t.shown) }

// Cut is the text in at most so many cells, and shows with an ellipsis that it was longer.
func (t Text) Cut(cells int) Text {
	if t.Width() <= cells {
		return t
	}
	var b strings.Builder
	left := cells - 1 // the ellipsis takes one
	for rest, state := t.shown, -1; rest != ""; {
		var character string
		var width int
		character, rest, width, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if left -= width; left < 0 {
			break
		}
		b.WriteString(character)
	}
	return Text{b.String() + "…"}
}

// Of is TextOf for who puts the text into another one.
func Of(text string) string { return TextOf(text).shown }

// Lines is Of for a text of several lines, whose ends stay.
func Lines(text string) string { return escape(text, "\n") }

// maxMarks is how many accents and other marks may follow a character: no language needs more,
// and many together paint over the lines above.
const maxMarks = 4

func escape(text, keep string) string {
	marks := maxMarks // an accent at the begin would stand on what is printed before
	odd := func(r rune) bool {
		if !unicode.Is(unicode.M, r) {
			marks = 0
			return r == utf8.RuneError || !visible(r) && !strings.ContainsRune(keep, r)
		}
		marks++
		return marks > maxMarks || !visible(r)
	}
	var b strings.Builder
	from := 0 // what is not yet in b
	for i, r := range text {
		if !odd(r) {
			continue
		}
		b.WriteString(text[from:i])
		from = i + utf8.RuneLen(r)
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			fmt.Fprintf(&b, `\x%02x`, text[i])
			from = i + 1
			continue
		}
		writeEscaped(&b, r)
	}
	if from == 0 {
		return text
	}
	b.WriteString(text[from:])
	return b.String()
}

// writeEscaped writes a character as JSON escapes it, which has none for those beyond 16 bits
// but as two.
func writeEscaped(b *strings.Builder, r rune) {
	if r > 0xffff {
		fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		return
	}
	fmt.Fprintf(b, `\u%04x`, r)
}

// unseen are the characters that Go holds for printable, and that show nothing: those that
// Unicode lets programs ignore (Default_Ignorable_Code_Point), and an empty Braille cell.
var unseen = []*unicode.RangeTable{unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, {R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}}}

// visible reports whether a character shows something, or is the space.
func visible(r rune) bool {
	return r < utf8.RuneSelf && r >= ' ' && r < 0x7f || unicode.IsPrint(r) && !unicode.In(r, unseen...)
}
