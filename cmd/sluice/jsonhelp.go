package main

import (
	"reflect"
	"strings"
	"time"
)

// jsonHelp is the part of a command's help that lists the fields of its --json. It takes
// them from the type that is printed, so it is always right.
func jsonHelp(v any, remarks string) string {
	var b strings.Builder
	b.WriteString("\n\nWith --json: the fields of an object; [] is a list, ? may be left out. " + remarks + "\n")
	line := " "
	for word := range strings.FieldsSeq(jsonFields(reflect.TypeOf(v))) {
		if len(line)+1+len(word) > 78 {
			b.WriteString(line + "\n")
			line = " "
		}
		line += " " + word
	}
	b.WriteString(line)
	return b.String()
}

// jsonFields lists the fields of a type in the order in which they are printed: "node
// domains[]{ domain sent }".
func jsonFields(t reflect.Type) string {
	var fields []string
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || len(f.Index) > 1 && !promoted(t, f) {
			continue // embedded: its fields stand beside it
		}
		if strings.HasPrefix(options, "omit") {
			name += "?"
		}
		of := f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() == reflect.Slice {
			name, of = name+"[]", of.Elem()
		}
		if of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]() {
			name += "{ " + jsonFields(of) + " }"
		}
		fields = append(fields, name)
	}
	return strings.Join(fields, " ")
}

// promoted reports whether a field of an embedded struct is printed among the fields of t
// itself. That is so unless the struct has a JSON name of its own.
func promoted(t reflect.Type, f reflect.StructField) bool {
	return t.Field(f.Index[0]).Tag.Get("json") == ""
}
