package labs

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"sync"
)

// PublicService is a WebSocket server of somebody else's that is open to
// everybody. Browsers connect to it; this program never does.
type PublicService struct {
	Name        string      `json:"name"` // unique
	URL         string      `json:"url"`  // wss://
	Description Description `json:"description"`
	Features    []string    `json:"features"` // what it can be used for, as words with hyphens
	Reliability Level       `json:"reliability"`
	Latency     Level       `json:"latency"`
}

// Description is a text for readers in the course's two languages.
type Description struct {
	EN string `json:"en"`
	JA string `json:"ja"`
}

// Level is a judgement of those who wrote the list, not a measurement.
type Level string

// The levels.
const (
	Low    Level = "low"
	Medium Level = "medium"
	High   Level = "high"
)

// The list is also read by the pages, which connect.
//
//go:embed publicservices.json
var publicServicesJSON []byte

var publicServices = sync.OnceValue(func() []PublicService {
	list, err := parsePublicServices(publicServicesJSON)
	if err != nil {
		panic(err) // a test reads the same file
	}
	return list
})

// PublicServices lists the services of the course's first phase, the one to try
// first at the beginning.
func PublicServices() []PublicService { return slices.Clone(publicServices()) }

func parsePublicServices(b []byte) ([]PublicService, error) {
	var list []PublicService
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode(&list); err != nil {
		return nil, fmt.Errorf("labs: public services: %w", err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) || len(list) == 0 {
		return nil, errors.New("labs: public services: the file is one list that is not empty")
	}
	known := map[string]bool{}
	for _, s := range list {
		u, err := url.Parse(s.URL)
		switch {
		case s.Name == "" || known[s.Name]:
			return nil, fmt.Errorf("labs: public services: the name %q is empty or there twice", s.Name)
		case err != nil || u.Scheme != "wss" || u.Host == "":
			return nil, fmt.Errorf("labs: public services: %q has the URL %q, which is not wss://…", s.Name, s.URL)
		case s.Description.EN == "" || s.Description.JA == "" || len(s.Features) == 0:
			return nil, fmt.Errorf("labs: public services: %q lacks a description or features", s.Name)
		case !s.Reliability.known() || !s.Latency.known():
			return nil, fmt.Errorf("labs: public services: %q: reliability and latency are low, medium or high", s.Name)
		}
		known[s.Name] = true
	}
	return list, nil
}

func (l Level) known() bool { return l == Low || l == Medium || l == High }
