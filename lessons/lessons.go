// Package lessons is the course: its texts, its questions, and the graders that
// tick an exercise's steps from what a learner's own client did on the wire.
//
// Everything that a lesson says is data. [Load] reads the folders of a course,
// strictly, and refuses what is wrong with file, line and column; it renders the
// texts once. A [Course] and its lessons are never changed after that, and are
// for any number of goroutines.
//
// A [Grader] follows one session: events go in, verdicts come out. It is a pure
// function of the events that it was fed and of its Config; it reads no clock,
// starts no goroutine, and holds a bounded part of what it has seen. Whoever
// feeds it owns it. Events are those of wire.Transcript, in its order, and those
// that only the host knows: answers, bridges, the probe, samples and faults.
//
// Questions, points and gates are pure functions, too: see [Question.Check],
// [Course.Standing] and [Progress].
//
// A course may be incomplete. Slugs in course.json without a lesson.json are planned:
// lessons may require them and link to them, and nothing is shown of them. What
// concerns a phase as a whole, the floor of points in its areas, is checked once
// all its lessons are there; each lesson is checked by itself always.
package lessons

import (
	"embed"
	"io/fs"
)

//go:embed content
var content embed.FS

// Files are the folders of the course that this program carries: for the images
// that its texts show.
func Files() fs.FS {
	files, err := fs.Sub(content, "content")
	if err != nil {
		panic(err) // the path is right
	}
	return files
}
