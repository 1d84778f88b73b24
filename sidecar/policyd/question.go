package policyd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxQuestion is the largest question on stdin in bytes, as on the policy socket.
const maxQuestion = 4 << 20

// ReadQuestion reads a question as the policy socket does: lines name=value up to an empty
// line or the end, with values in base64 after encoding=base64.
func ReadQuestion(r io.Reader) ([]Field, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxQuestion+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxQuestion:
		return nil, fmt.Errorf("it is longer than %d bytes", maxQuestion)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("it is empty; give --stage, or lines name=value")
	}
	var fields []Field
	encoded := false
	question, _, _ := strings.Cut(string(text), "\n\n")
	for line := range strings.Lines(question) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=value", line)
		}
		switch {
		case !encoded && name == "request" && value == "sluice": // Client adds it itself
		case !encoded && name == "encoding" && value == "base64":
			encoded = true
		default:
			if value, err = decodeIf(encoded, value); err != nil {
				return nil, fmt.Errorf("the value of %s is not base64: %w", name, err)
			}
			fields = append(fields, Field{Name: name, Value: value})
		}
	}
	return fields, nil
}

func decodeIf(encoded bool, value string) (string, error) {
	if !encoded {
		return value, nil
	}
	b, err := base64.StdEncoding.DecodeString(value)
	return string(b), err
}

// An Answer is a reply, split up.
type Answer struct {
	Action string `json:"action"` // DUNNO, 450, 550 or DISCARD
	Text   string `json:"text"`   // of a refusal, for the client
	Log    string `json:"log"`    // what the mail server logs where that is more; else empty
	Room   *int64 `json:"room"`   // null where the answer has none
}

// AnswerOf splits a reply up.
func AnswerOf(reply string) (a Answer) {
	for line := range strings.Lines(reply) {
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "="); name {
		case "action":
			a.Action, a.Text, _ = strings.Cut(value, " ")
		case "log":
			a.Log = value
		case "room":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				a.Room = &n
			}
		}
	}
	return a
}
