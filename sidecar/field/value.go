package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A configValue is a field of the configuration as the file sees it.
type Value interface {
	// set takes the value as the TOML library decoded it. Its error says
	// what is allowed, to follow the words "must be".
	Set(v any) error
	// get returns a string, an int64 or a []string, or nil if it is not set.
	Get() any
}

// textValue is a string, or a type made of one.
type textValue[S ~string] struct {
	field *S
	check Check
}

func Text[S ~string](field *S, check Check) textValue[S] { return textValue[S]{field, check} }

func (t textValue[S]) Set(v any) error {
	s, ok := v.(string)
	if !ok {
		return errors.New("a text in quotes")
	}
	s, err := t.check(s)
	if err == nil {
		*t.field = S(s)
	}
	return err
}

func (t textValue[S]) Get() any { return string(*t.field) }

// listValue is a list of texts.
type listValue[S ~string] struct {
	field *[]S
	check Check
}

func List[S ~string](field *[]S, check Check) listValue[S] { return listValue[S]{field, check} }

func (l listValue[S]) Set(v any) error {
	elements, ok := v.([]any)
	if texts, is := v.([]string); is { // as get returns it
		ok = true
		for _, s := range texts {
			elements = append(elements, s)
		}
	}
	if !ok {
		return errors.New(`a list of texts, like ["one", "two"]`)
	}
	var list []S
	for _, e := range elements {
		var s S
		if err := Text(&s, l.check).Set(e); err != nil {
			return fmt.Errorf("a list, each %w; %s is not", err, TOML(e))
		}
		list = append(list, s)
	}
	*l.field = list
	return nil
}

func (l listValue[S]) Get() any {
	list := make([]string, 0, len(*l.field))
	for _, s := range *l.field {
		list = append(list, string(s))
	}
	return list
}

// wholeValue is a whole number.
type wholeValue struct {
	field    *int64
	min, max int64
}

func Whole(field *int64, min, max int64) wholeValue { return wholeValue{field, min, max} }

func (w wholeValue) Set(v any) error {
	n, ok := v.(int64)
	if !ok || n < w.min || n > w.max {
		return fmt.Errorf("a whole number from %d to %d", w.min, w.max)
	}
	*w.field = n
	return nil
}

func (w wholeValue) Get() any { return *w.field }

// boolValue is true or false.
type boolValue struct{ field *bool }

func Bool(field *bool) boolValue { return boolValue{field} }

func (b boolValue) Set(v any) error {
	is, ok := v.(bool)
	if !ok {
		return errors.New("true or false")
	}
	*b.field = is
	return nil
}

func (b boolValue) Get() any { return *b.field }

// durationValue is a duration as time.ParseDuration reads it.
type durationValue struct {
	field    *time.Duration
	min, max time.Duration
}

func Duration(field *time.Duration, min, max time.Duration) durationValue {
	return durationValue{field, min, max}
}

func (d durationValue) Set(v any) error {
	s, _ := v.(string) // a number without unit is a mistake rather than nanoseconds
	n, err := time.ParseDuration(s)
	if err != nil || n < d.min || n > d.max || n%time.Millisecond != 0 {
		return fmt.Errorf(`a duration in quotes, from "%s" to "%s"`, durationText(d.min), durationText(d.max))
	}
	*d.field = n
	return nil
}

func (d durationValue) Get() any { return durationText(*d.field) }

// durationText is "1h" where Duration.String says "1h0m0s".
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// tomlText writes a value as it would stand in the file; of what cannot stand
// in ours it says what it is.
func TOML(v any) string {
	switch v := v.(type) {
	case string:
		return QuoteTOML(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case bool, float64:
		return fmt.Sprint(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = QuoteTOML(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case []any:
		texts := make([]string, len(v))
		for i, e := range v {
			texts[i] = TOML(e)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case map[string]any, []map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprint(v)
}

// tomlString quotes a string as TOML's basic strings are: strconv.Quote would
// write \x00 and \a, which they do not know.
func QuoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
