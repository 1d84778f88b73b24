package field

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Value is a field of a Go struct as a key of the configuration file.
type Value interface {
	// Set sets the field to a value as the TOML library decodes it. Its error says what
	// is allowed, as the rest of a sentence that ends in "must be".
	Set(v any) error
	// Get returns a string, an int64, a bool, a []string or a list of tables; nil if the
	// field is not set.
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

// value is a field of type T. Its methods call these functions; parse returns the error of
// Set.
type value[T any] struct {
	field *T
	parse func(any) (T, error)
	show  func(T) any
	typed func(string) any
}

func (f value[T]) Set(v any) error {
	parsed, err := f.parse(v)
	if err == nil {
		*f.field = parsed
	}
	return err
}

func (f value[T]) Get() any { return f.show(*f.field) }

func (f value[T]) Typed(text string) any { return f.typed(text) }

// asText is Typed for values that are texts in the file.
func asText(text string) any { return text }

// typedBy makes a Typed of a parser from package strconv.
func typedBy[T any](parse func(string) (T, error)) func(string) any {
	return func(text string) any {
		if v, err := parse(text); err == nil {
			return v
		}
		return text
	}
}

// identical is show for types that Get may return as they are.
func identical[T any](v T) any { return v }

// Text is a field with a text that a check allows.
func Text[S ~string](field *S, check Check) Value {
	return value[S]{field, func(v any) (S, error) {
		s, ok := v.(string)
		if !ok {
			return "", errors.New("a text in quotes")
		}
		s, err := check(s)
		return S(s), err
	}, func(s S) any { return string(s) }, asText}
}

// Word is a field with one of some words.
func Word[S ~string](field *S, words ...S) Value {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	check := OneOf(texts...)
	return value[S]{field, func(v any) (S, error) {
		s, _ := v.(string)
		s, err := check(s)
		return S(s), err
	}, func(s S) any { return string(s) }, asText}
}

// List is a field with a list of texts that a check allows.
func List[S ~string](field *[]S, check Check) Value {
	return value[[]S]{field, func(v any) (list []S, err error) {
		elements, ok := v.([]any)
		if texts, is := v.([]string); is { // as Get returns it
			ok = true
			for _, s := range texts {
				elements = append(elements, s)
			}
		}
		if !ok {
			return nil, errors.New(`a list of texts, like ["one", "two"]`)
		}
		for _, e := range elements {
			var s S
			if err := Text(&s, check).Set(e); err != nil {
				return nil, fmt.Errorf("a list, each %w; %s is not", err, TOML(e))
			}
			list = append(list, s)
		}
		return list, nil
	}, func(list []S) any {
		texts := make([]string, len(list))
		for i, s := range list {
			texts[i] = string(s)
		}
		return texts
	}, func(text string) any {
		list := []any{}
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []\"", r) }) {
			list = append(list, word)
		}
		return list
	}}
}

// Whole is a field with a whole number from min to max.
func Whole(field *int64, min, max int64) Value {
	return value[int64]{field, func(v any) (int64, error) {
		n, ok := v.(int64)
		if !ok || n < min || n > max {
			return 0, fmt.Errorf("a whole number from %d to %d", min, max)
		}
		return n, nil
	}, identical[int64], typedBy(func(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) })}
}

// units are those of sizes.
var units = [...]struct {
	name  string
	bytes int64
}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}}

// Bytes is a field with a size from min to max, like "64MB".
func Bytes(field *int64, min, max int64) Value {
	return value[int64]{field, func(v any) (int64, error) {
		s, _ := v.(string)
		for _, unit := range units {
			number, is := strings.CutSuffix(s, unit.name)
			n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
			if is && err == nil && n <= max/unit.bytes && n*unit.bytes >= min {
				return n * unit.bytes, nil
			}
		}
		return 0, fmt.Errorf(`a size in quotes, from "%s" to "%s"`, sizeText(min), sizeText(max))
	}, func(n int64) any { return sizeText(n) }, asText}
}

// sizeText writes a size in the largest unit of which it is a multiple.
func sizeText(n int64) string {
	for _, unit := range units {
		if n%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", n/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%dkB", n>>10)
}

// Bool is a field that is true or false.
func Bool(field *bool) Value {
	return value[bool]{field, func(v any) (bool, error) {
		is, ok := v.(bool)
		if !ok {
			return false, errors.New("true or false")
		}
		return is, nil
	}, identical[bool], typedBy(strconv.ParseBool)}
}

// Duration is a field with a duration from min to max, in the syntax of
// time.ParseDuration.
func Duration(field *time.Duration, min, max time.Duration) Value {
	return value[time.Duration]{field, func(v any) (time.Duration, error) {
		s, _ := v.(string) // a number without unit is a mistake rather than nanoseconds
		n, err := time.ParseDuration(s)
		if err != nil || n < min || n > max || n%time.Millisecond != 0 {
			return 0, fmt.Errorf(`a duration in quotes, from "%s" to "%s"`, durationText(min), durationText(max))
		}
		return n, nil
	}, func(d time.Duration) any { return durationText(d) }, asText}
}

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

// TOML writes a value as it would be in the configuration file, for messages. For a date,
// which no key takes, it only says that it is one, and likewise for tables outside of lists.
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
		if table, is := any(e).(map[string]any); is {
			texts[i] = inlineTable(table)
		} else {
			texts[i] = TOML(e)
		}
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func inlineTable(table map[string]any) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(table)) {
		texts = append(texts, name+" = "+TOML(table[name]))
	}
	return "{" + strings.Join(texts, ", ") + "}"
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
