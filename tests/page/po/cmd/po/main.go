// po writes the template of the page's texts anew, and brings all translations up to date:
//
//	go run ./tests/page/po/cmd/po
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"htip/tests/page/po"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "po:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	texts, err := po.Extract(root)
	if err != nil {
		return err
	}
	if err := write(root, po.Template, po.NewTemplate(texts)); err != nil {
		return err
	}
	for _, language := range po.Languages {
		name := po.Path(language)
		old, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		f, err := po.Parse(name, string(old))
		if err != nil {
			return err
		}
		f = f.Update(texts)
		if err := write(root, name, f); err != nil {
			return err
		}
		fmt.Printf("%s: %d texts, %d not translated\n", language, len(f.Entries), f.Untranslated())
	}
	return nil
}

func write(root, name string, f *po.File) error {
	return os.WriteFile(filepath.Join(root, name), []byte(f.String()), 0o644)
}
