package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The bounds of the house. What is over one wants to be two things, and who reads
// it has to keep both in mind.
const (
	maxFields        = 12 // of a struct in the sidecar
	maxMethods       = 40 // of a type in the sidecar
	maxFunctionLines = 100
	maxFileLines     = 500
	maxPackageLines  = 2000 // without tests
	maxPackageShare  = 0.12 // of all lines without tests
)

// Each of them is one thing that is large: a store with its own protocol, a log
// format that has grown for thirty years, all commands, each in a file that needs no other.
var largePackages = []string{"ratelimit", "ratelimit/redisstore", "sidecar/mainlog", "cmd/sluice"}

// decidePath is what has to be read to know how a message is decided: the question, its addresses,
// who pays, the limits in force, and the decision. What is not of that goes into another package.
var decidePath = []string{"sidecar", "sidecar/envelope", "sidecar/identity", "sidecar/limit", "sidecar/settings", "sidecar/policy"}

// maxDecidePath bounds the lines of all of it together. It may become less, and not more.
const maxDecidePath = 3300

// A survey is what the bounds are of.
type survey struct {
	lines     map[string]int // by package, without tests
	fields    map[string]int // by type, as "package.Type"
	methods   map[string]int
	functions map[string]int // lines by function
	files     map[string]int // lines by file, tests too
}

func TestBoundsOfTheHouse(t *testing.T) {
	s := newSurvey(t, "../..")
	s.tooMany(t, "fields", s.fields, maxFields)
	s.tooMany(t, "methods", s.methods, maxMethods)
	s.tooMany(t, "lines", s.functions, maxFunctionLines)
	s.tooMany(t, "lines", s.files, maxFileLines)
	all := 0
	for _, n := range s.lines {
		all += n
	}
	path := 0
	for _, name := range decidePath {
		if s.lines[name] == 0 {
			t.Errorf("there is no package %s", name)
		}
		path += s.lines[name]
	}
	if path > maxDecidePath {
		t.Errorf("the path of a decision (%s) has %d lines, more than %d", strings.Join(decidePath, ", "), path, maxDecidePath)
	}
	for name, n := range s.lines {
		if n > maxPackageLines && !slices.Contains(largePackages, name) {
			t.Errorf("package %s has %d lines, more than %d", name, n, maxPackageLines)
		}
		if share := float64(n) / float64(all); share > maxPackageShare {
			t.Errorf("package %s has %.1f %% of all lines, more than %.0f %%", name, 100*share, 100*maxPackageShare)
		}
	}
}

func (s *survey) tooMany(t *testing.T, what string, counts map[string]int, most int) {
	t.Helper()
	for name, n := range counts {
		if n > most {
			t.Errorf("%s has %d %s, more than %d", name, n, what, most)
		}
	}
}

// newSurvey reads all Go files below root.
func newSurvey(t *testing.T, root string) *survey {
	t.Helper()
	s := &survey{map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}}
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".go" {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name, _ = filepath.Rel(root, name)
		s.add(filepath.ToSlash(name), file, files)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.methods) < 100 { // else everything would be within bounds
		t.Fatalf("only %d types with methods are found below %s", len(s.methods), root)
	}
	return s
}

func (s *survey) add(name string, file *ast.File, files *token.FileSet) {
	lines := files.File(file.FileStart).LineCount() - 1 // the last is empty
	s.files[name] = lines
	isTest := strings.HasSuffix(name, "_test.go")
	if !isTest {
		s.lines[path.Dir(name)] += lines
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.functions[name+": "+d.Name.Name] = files.Position(d.End()).Line - files.Position(d.Pos()).Line + 1
			if d.Recv != nil && inSidecar(name) && !isTest {
				s.methods[path.Dir(name)+"."+receiver(d)]++
			}
		case *ast.GenDecl:
			if inSidecar(name) && !isTest {
				s.addTypes(path.Dir(name), d)
			}
		}
	}
}

func inSidecar(file string) bool { return strings.HasPrefix(file, "sidecar/") }

// addTypes counts the fields of structs. Where all are exported it is a list, of options, or of
// what is printed, and as long as what it lists.
func (s *survey) addTypes(dir string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		spec, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := spec.Type.(*ast.StructType)
		if ok && slices.ContainsFunc(st.Fields.List, hasOwn) {
			s.fields[dir+"."+spec.Name.Name] = st.Fields.NumFields()
		}
	}
}

// hasOwn reports whether a field, or one of those that are declared with it, is not exported.
func hasOwn(f *ast.Field) bool {
	return slices.ContainsFunc(f.Names, func(name *ast.Ident) bool { return !name.IsExported() })
}

// receiver is the type that a method is of.
func receiver(d *ast.FuncDecl) string {
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if generic, ok := expr.(*ast.IndexExpr); ok {
		expr = generic.X
	}
	if name, ok := expr.(*ast.Ident); ok {
		return name.Name
	}
	return "?"
}
