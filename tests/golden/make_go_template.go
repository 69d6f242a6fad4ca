// make_go_template.go: what Go's own text/template renders of the templates in go_template.json, with the data
// that Ollama gives it (System, Messages of Role and Content). Sources and conversations are written by hand or
// by retort; this fills in the texts:
//
//	go run tests/golden/make_go_template.go tests/golden/go_template.json     (made with go 1.19)
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type Golden struct {
	MadeWith string              `json:"made_with"`
	Talks    [][]Message         `json:"talks"`
	Sources  []map[string]any    `json:"sources"`
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var golden Golden
	data, err := os.ReadFile(os.Args[1])
	check(err)
	check(json.Unmarshal(data, &golden))
	for _, source := range golden.Sources {
		t, err := template.New("").Parse(source["template"].(string))
		check(err)
		texts := []string{}
		for _, talk := range golden.Talks {
			var system []string
			for _, m := range talk {
				if m.Role == "system" {
					system = append(system, m.Content)
				}
			}
			var out bytes.Buffer
			check(t.Execute(&out, map[string]any{"System": strings.Join(system, "\n\n"), "Messages": talk}))
			texts = append(texts, out.String())
		}
		source["texts"] = texts
	}
	golden.MadeWith = "go 1.19 text/template"
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	check(e.Encode(golden))
	check(os.WriteFile(os.Args[1], out.Bytes(), 0o644))
}
