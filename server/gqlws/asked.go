package gqlws

import (
	"errors"
	"fmt"
)

// Asked is what a client asks for in the "sluice" member of its request's
// "extensions".
type Asked struct {
	// Resume is the cursor behind which the stream shall go on. It wins over the
	// argument that the field's @shared(resume:) names.
	Resume string
	// Cursor asks for the cursor of each event with its result.
	Cursor bool
	// Ready asks for a notice when the stream is open.
	Ready bool
}

// ParseAsked reads the extensions of a request. Members that it does not know
// are ignored.
func ParseAsked(extensions map[string]any) (a Asked, err error) {
	ours, present := extensions["sluice"]
	if !present || ours == nil {
		return a, nil
	}
	members, ok := ours.(map[string]any)
	if !ok {
		return a, errors.New(`"extensions.sluice" must be an object`)
	}
	return a, errors.Join(
		asked(members, "resume", "a cursor, which is a string", &a.Resume),
		asked(members, "cursor", "true or false", &a.Cursor),
		asked(members, "ready", "true or false", &a.Ready),
	)
}

func asked[T any](members map[string]any, name, accepted string, to *T) error {
	value := members[name]
	if value == nil {
		return nil
	}
	typed, ok := value.(T)
	if !ok {
		return fmt.Errorf(`"extensions.sluice.%s" must be %s`, name, accepted)
	}
	*to = typed
	return nil
}
