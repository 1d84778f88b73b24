package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Value is a field of the configuration as the file sees it.
type Value interface {
	// Set takes the value as the TOML library decodes it. Its error says
	// what is allowed, to follow the words "must be".
	Set(v any) error
	// Get returns a string, an int64, a bool or a []string, or nil if it is not set.
	Get() any
	// Typed is the value that a text on the command line means, as the TOML library
	// would decode it. What is no such value stays a text, and Set says what would be one.
	Typed(text string) any
}

// optional is a value that may be left unset.
type optional[T any] struct {
	field **T
	of    func(*T) Value
}

// Optional is a field that may be left unset, of the kind of value that of makes.
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

// textValue is a string, or a type made of one.
type textValue[S ~string] struct {
	field *S
	check Check
}

// Text is a field with a text that a check lets pass.
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

// wordValue is one of some words.
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

// listValue is a list of texts.
type listValue[S ~string] struct {
	field *[]S
	check Check
}

// List is a field with texts that a check lets pass.
func List[S ~string](field *[]S, check Check) Value { return listValue[S]{field, check} }

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

func (l listValue[S]) Typed(text string) any {
	list := []any{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []\"", r) }) {
		list = append(list, word)
	}
	return list
}

// wholeValue is a whole number.
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

// boolValue is true or false.
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

// durationValue is a duration as time.ParseDuration reads it.
type durationValue struct {
	field    *time.Duration
	min, max time.Duration
}

// Duration is a field with a duration from min to max.
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
