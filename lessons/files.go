package lessons

import "io/fs"

// Content is the course that is built in.
func Content() fs.FS {
	files, err := fs.Sub(content, "content")
	if err != nil {
		panic(err) // the name is right
	}
	return files
}
