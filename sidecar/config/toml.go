package config

import (
	"cmp"
	"errors"
	"slices"

	"github.com/BurntSushi/toml"
)

// A tomlNode is a key of a TOML file with its line.
type tomlNode struct {
	name     string
	line     int
	value    any
	table    bool
	children []*tomlNode // of a table, in the order of the file
}

// parseTOML parses a file into a tree with line numbers. The library's own decoding into
// structs has them only in errors, ignores the case of keys, and stops at the first
// mistake.
func parseTOML(text string) (*tomlNode, error) {
	var top map[string]toml.Primitive
	md, err := toml.Decode(text, &top)
	if err != nil {
		return nil, err
	}
	root := &tomlNode{table: true}
	root.children, err = tomlChildren(&md, top)
	return root, err
}

func tomlChildren(md *toml.MetaData, table map[string]toml.Primitive) ([]*tomlNode, error) {
	var nodes []*tomlNode
	for name, primitive := range table {
		n := &tomlNode{name: name}
		n.value, n.line = located(md, primitive)
		if _, n.table = n.value.(map[string]any); n.table {
			var entries map[string]toml.Primitive
			if err := md.PrimitiveDecode(primitive, &entries); err != nil {
				return nil, err
			}
			var err error
			if n.children, err = tomlChildren(md, entries); err != nil {
				return nil, err
			}
			// A table without a header (a.b = 1) has no line.
			if n.line == 0 && len(n.children) > 0 {
				n.line = n.children[0].line
			}
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *tomlNode) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.name, b.name))
	})
	return nodes, nil
}

// located returns a value and its line. The library has the line of a value only in an
// error about it, so rawTOML makes one.
func located(md *toml.MetaData, primitive toml.Primitive) (value any, line int) {
	var r rawTOML
	err := md.PrimitiveDecode(primitive, &r)
	var at toml.ParseError
	if errors.As(err, &at) {
		line = at.Position.Line
	}
	return r.value, line
}

type rawTOML struct{ value any }

var errLocated = errors.New("located")

// UnmarshalTOML stores the value and fails: see located.
func (r *rawTOML) UnmarshalTOML(v any) error {
	r.value = v
	return errLocated
}
