package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Value is a field of a Go struct as a key of the configuration file.
type Value interface {
	// Set sets the field to a value as the TOML library decodes it. Its error says what
	// is allowed, as the rest of a sentence that ends in "must be".
	Set(v any) error
	// Get returns a string, an int64, a bool or a []string; nil if the field is not set.
	Get() any
	// Typed parses a text from the command line to what the TOML library would decode.
	// It returns the text itself if it cannot: then Set has the error.
	Typed(text string) any
}

type optional[T any] struct {
	field **T
	of    func(*T) Value
}

// Optional is a field that may be left unset; of makes the Value that it has when it is set.
func Optional[T any](field **T, of func(*T) Value) Value { return optional[T]{field, of} }

func (o optional[T]) Set(v any) error {
	n := new(T)
	err := o.of(n).Set(v)
	if err == nil {
		*o.field = n
	}
	return err
}

func (o optional[T]) Get() any {
	if *o.field == nil {
		return nil
	}
	return o.of(*o.field).Get()
}

func (o optional[T]) Typed(text string) any { return o.of(new(T)).Typed(text) }

type textValue[S ~string] struct {
	field *S
	check Check
}

// Text is a field with a text that a check allows.
func Text[S ~string](field *S, check Check) Value { return textValue[S]{field, check} }

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

func (t textValue[S]) Typed(text string) any { return text }

type wordValue[S ~string] struct{ textValue[S] }

// Word is a field with one of some words.
func Word[S ~string](field *S, words ...S) Value {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return wordValue[S]{textValue[S]{field, OneOf(texts...)}}
}

func (w wordValue[S]) Set(v any) error {
	s, _ := v.(string)
	return w.textValue.Set(s)
}

type listValue[S ~string] struct {
	field *[]S
	check Check
}

// List is a field with a list of texts that a check allows.
func List[S ~string](field *[]S, check Check) Value { return listValue[S]{field, check} }

func (l listValue[S]) Set(v any) error {
	elements, ok := v.([]any)
	if texts, is := v.([]string); is { // as Get returns it
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

func (l listValue[S]) Typed(text string) any {
	list := []any{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []\"", r) }) {
		list = append(list, word)
	}
	return list
}

type wholeValue struct {
	field    *int64
	min, max int64
}

// Whole is a field with a whole number from min to max.
func Whole(field *int64, min, max int64) Value { return wholeValue{field, min, max} }

func (w wholeValue) Set(v any) error {
	n, ok := v.(int64)
	if !ok || n < w.min || n > w.max {
		return fmt.Errorf("a whole number from %d to %d", w.min, w.max)
	}
	*w.field = n
	return nil
}

func (w wholeValue) Get() any { return *w.field }

func (w wholeValue) Typed(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	return text
}

type boolValue struct{ field *bool }

// Bool is a field that is true or false.
func Bool(field *bool) Value { return boolValue{field} }

func (b boolValue) Set(v any) error {
	is, ok := v.(bool)
	if !ok {
		return errors.New("true or false")
	}
	*b.field = is
	return nil
}

func (b boolValue) Get() any { return *b.field }

func (b boolValue) Typed(text string) any {
	if is, err := strconv.ParseBool(text); err == nil {
		return is
	}
	return text
}

type durationValue struct {
	field    *time.Duration
	min, max time.Duration
}

// Duration is a field with a duration from min to max, in the syntax of
// time.ParseDuration.
func Duration(field *time.Duration, min, max time.Duration) Value {
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

func (d durationValue) Typed(text string) any { return text }

// durationText is Duration.String without trailing zeros: "1h" for "1h0m0s".
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

// TOML writes a value as it would be in the configuration file. Of a kind of value that
// is never in it, it says which kind that is.
func TOML(v any) string {
	switch v := v.(type) {
	case string:
		return QuoteTOML(v)
	case []string:
		return tomlList(v)
	case []any:
		return tomlList(v)
	case map[string]any, []map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprint(v)
}

func tomlList[T any](elements []T) string {
	texts := make([]string, len(elements))
	for i, e := range elements {
		texts[i] = TOML(e)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// QuoteTOML quotes a string for TOML. strconv.Quote would write \x00 and \a, which TOML
// does not have.
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
