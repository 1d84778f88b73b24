package policyd

import (
	"strconv"
	"unicode/utf8"

	"sluice/sidecar"
)

// maxText is how many bytes of a reply's text are sent. Exim folds long replies on the
// wire (RFC 5321, section 4.5.3.1.5, limits a line to 512) and cuts what is over a
// kilobyte.
const maxText = 900

// appendReply appends a verdict as the protocol has it. The enhanced codes are 4.7.1 and
// 5.7.1 of RFC 3463: delivery not authorized.
//
// charged=yes tells Exim that its router has nothing left to charge. The action alone does
// not: for a held message it is DUNNO too. The rest is only for questions with version=2:
// log= is what Exim logs where clients are told less, payer= what it is to say in further
// questions about the same connection, and number= that of the question, empty otherwise.
func appendReply(dst []byte, stage sidecar.Stage, r sidecar.Reply, number []byte) []byte {
	switch r.Action {
	case sidecar.Defer:
		dst = appendText(append(dst, "action=450 4.7.1"...), r.Text)
	case sidecar.Reject:
		dst = appendText(append(dst, "action=550 5.7.1"...), r.Text)
	case sidecar.Discard:
		dst = appendText(append(dst, "action=DISCARD"...), r.Text)
	default:
		if r.Warning != "" && stage == sidecar.StagePostfixRcpt {
			dst = appendText(append(dst, "action=WARN"...), r.Warning) // logs it, and goes on
			break
		}
		dst = append(dst, "action=DUNNO"...)
		if stage == sidecar.StageRcpt {
			dst = append(dst, "\nroom="...)
			dst = strconv.AppendInt(dst, int64(max(r.Room, 0)), 10)
		}
	}
	if r.Log != "" && len(number) > 0 {
		dst = appendPrintable(append(dst, "\nlog="...), r.Log)
	}
	if r.Charged && (stage == sidecar.StageData || stage == sidecar.StageLocal) {
		dst = append(dst, "\ncharged=yes"...)
	}
	if len(number) > 0 {
		if r.Socket != "" {
			dst = append(append(dst, "\npayer="...), r.Socket...)
		}
		dst = append(append(dst, "\nnumber="...), number...)
	}
	return append(dst, "\n\n"...)
}

// appendText appends a space and the text, if there is one.
func appendText(dst []byte, text string) []byte {
	if text == "" {
		return dst
	}
	return appendPrintable(append(dst, ' '), text)
}

// appendPrintable appends a text, limited to what an SMTP reply may have: printable ASCII.
// (Other characters need SMTPUTF8, RFC 6531 section 3.7.4, which the client may not have
// asked for.) A control character becomes a space, any other a question mark.
func appendPrintable(dst []byte, text string) []byte {
	end := len(dst) + maxText
	for i := 0; i < len(text) && len(dst) < end; {
		switch b := text[i]; {
		case b < ' ' || b == 0x7f:
			dst = append(dst, ' ')
		case b < utf8.RuneSelf:
			dst = append(dst, b)
		default:
			_, n := utf8.DecodeRuneInString(text[i:])
			i += n - 1
			dst = append(dst, '?')
		}
		i++
	}
	return dst
}
