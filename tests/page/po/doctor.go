package po

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
)

// source type-checks packages of this module as far as their constants need it: packages
// from elsewhere are taken to be empty, and errors that come of it are passed over.
type source struct {
	root, module string
	fset         *token.FileSet
	done         map[string]*types.Package
}

// Import is for go/types.
func (s *source) Import(path string) (*types.Package, error) {
	if p, ok := s.done[path]; ok {
		return p, nil
	}
	dir, ours := strings.CutPrefix(path, s.module+"/")
	if !ours {
		p := types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
		p.MarkComplete()
		s.done[path] = p
		return p, nil
	}
	p, _, err := s.check(dir, nil)
	return p, err
}

func (s *source) check(dir string, info *types.Info) (*types.Package, []*ast.File, error) {
	ctx := build.Default
	ctx.GOOS, ctx.CgoEnabled = "linux", false
	names, err := filepath.Glob(filepath.Join(s.root, dir, "*.go"))
	if err != nil {
		return nil, nil, err
	}
	var files []*ast.File
	for _, name := range names {
		if ok, err := ctx.MatchFile(filepath.Dir(name), filepath.Base(name)); err != nil || !ok || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("no Go files in %s", dir)
	}
	conf := types.Config{Importer: s, Error: func(error) {}}
	p, _ := conf.Check(s.module+"/"+dir, s.fset, files, info)
	s.done[s.module+"/"+dir] = p
	return p, files, nil
}

// doctor finds the sentences of the daemon's doctor: the formats that the methods ok, warn
// and bad of a type report are given.
type doctor struct {
	*source
	info   *types.Info
	files  []*ast.File
	asking []types.Object // whose values are being looked for
}

// extractDoctor looks into a package below root, the module's directory.
func extractDoctor(root, module, dir string) (out []*Entry, errs []error) {
	d := &doctor{
		source: &source{root, module, token.NewFileSet(), map[string]*types.Package{}},
		info:   &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}},
	}
	var err error
	if _, d.files, err = d.check(dir, d.info); err != nil {
		return nil, []error{err}
	}
	for _, call := range d.calls() {
		level, ours := d.method(call)
		if !ours {
			continue
		}
		if level == "add" {
			if !d.within(call, "ok", "warn", "bad") {
				errs = append(errs, fmt.Errorf("%s: add() is for ok, warn and bad only", d.place(call)))
			}
			continue
		}
		formats, err := d.values(call.Args[0])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: the text of %s(): %w", d.place(call), level, err))
			continue
		}
		for _, f := range formats {
			if n := strings.Count(f, "%"); !call.Ellipsis.IsValid() && n != len(call.Args)-1 {
				errs = append(errs, fmt.Errorf("%s: %q wants %d arguments, not %d", d.place(call), f, n, len(call.Args)-1))
			}
			out = append(out, &Entry{Places: []Place{d.place(call)}, ID: f})
		}
	}
	if len(out) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: no sentences of the doctor", dir))
	}
	return out, errs
}

func (d *doctor) place(n ast.Node) Place {
	p := d.fset.Position(n.Pos())
	file, err := filepath.Rel(d.root, p.Filename)
	if err != nil {
		file = p.Filename
	}
	return Place{filepath.ToSlash(file), p.Line}
}

func (d *doctor) calls() (out []*ast.CallExpr) {
	for _, f := range d.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				out = append(out, c)
			}
			return true
		})
	}
	return out
}

// method is the name of a method of report that is called.
func (d *doctor) method(call *ast.CallExpr) (string, bool) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"ok", "warn", "bad", "add"}, sel.Sel.Name) || len(call.Args) == 0 {
		return "", false
	}
	f, ok := d.info.Uses[sel.Sel].(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return "", false
	}
	t := f.Signature().Recv().Type()
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := t.(*types.Named)
	return sel.Sel.Name, ok && named.Obj().Name() == "report"
}

// within tells whether a call is in one of some functions.
func (d *doctor) within(call *ast.CallExpr, names ...string) bool {
	for _, f := range d.files {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Pos() <= call.Pos() && call.End() <= fn.End() {
				return slices.Contains(names, fn.Name.Name)
			}
		}
	}
	return false
}

// values are all that an expression can be: a constant, a sum, or a variable that is only
// ever given such.
func (d *doctor) values(e ast.Expr) ([]string, error) {
	if tv := d.info.Types[e]; tv.Value != nil && tv.Value.Kind() == constant.String {
		return []string{constant.StringVal(tv.Value)}, nil
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return d.values(e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			break
		}
		as, err := d.values(e.X)
		if err != nil {
			return nil, err
		}
		bs, err := d.values(e.Y)
		if err != nil {
			return nil, err
		}
		var out []string
		for _, a := range as {
			for _, b := range bs {
				out = append(out, a+b)
			}
		}
		return out, nil
	case *ast.Ident:
		if v, ok := d.info.Uses[e].(*types.Var); ok {
			return d.assigned(v)
		}
	}
	return nil, fmt.Errorf("%s is no constant", types.ExprString(e))
}

// assigned are the values that a variable or a parameter is given anywhere.
func (d *doctor) assigned(v *types.Var) ([]string, error) {
	if slices.Contains(d.asking, types.Object(v)) {
		return nil, fmt.Errorf("%s depends on itself", v.Name())
	}
	d.asking = append(d.asking, v)
	defer func() { d.asking = d.asking[:len(d.asking)-1] }()

	var given []ast.Expr
	var err error
	is := func(id *ast.Ident) bool { return d.info.Defs[id] == v || d.info.Uses[id] == v }
	for _, f := range d.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					id, ok := l.(*ast.Ident)
					if !ok || !is(id) {
						continue
					}
					if len(n.Lhs) != len(n.Rhs) || n.Tok != token.ASSIGN && n.Tok != token.DEFINE {
						err = fmt.Errorf("%s gets something at %s that can't be followed", v.Name(), d.place(n))
						return false
					}
					given = append(given, n.Rhs[i])
				}
			case *ast.ValueSpec:
				for i, id := range n.Names {
					if is(id) && i < len(n.Values) {
						given = append(given, n.Values[i])
					}
				}
			case *ast.RangeStmt:
				for _, e := range []ast.Expr{n.Key, n.Value} {
					if id, ok := e.(*ast.Ident); ok && is(id) {
						err = fmt.Errorf("%s goes over a list", v.Name())
					}
				}
			case *ast.FuncDecl:
				i := 0
				for _, field := range n.Type.Params.List {
					for _, id := range field.Names {
						if d.info.Defs[id] == v {
							given = append(given, d.passed(d.info.Defs[n.Name], i)...)
						}
						i++
					}
				}
			}
			return true
		})
	}
	if err != nil {
		return nil, err
	}
	if len(given) == 0 {
		return nil, fmt.Errorf("%s is no constant", v.Name())
	}
	var out []string
	for _, e := range given {
		vs, err := d.values(e)
		if err != nil {
			return nil, err
		}
		for _, s := range vs {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// passed are the arguments that a function gets at a place.
func (d *doctor) passed(fn types.Object, at int) (out []ast.Expr) {
	for _, c := range d.calls() {
		var id *ast.Ident
		switch f := c.Fun.(type) {
		case *ast.Ident:
			id = f
		case *ast.SelectorExpr:
			id = f.Sel
		}
		if id != nil && d.info.Uses[id] == fn && at < len(c.Args) {
			out = append(out, c.Args[at])
		}
	}
	return out
}
