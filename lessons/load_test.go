package lessons

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// courseFiles copies the course, with the model for its only lesson, into a file
// system that a test may change.
func courseFiles(t testing.TB) fstest.MapFS {
	t.Helper()
	files := make(fstest.MapFS)
	err := fs.WalkDir(content, "content", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "content" && path.Base(name) != model {
				return fs.SkipDir
			}
			return nil
		}
		text, err := fs.ReadFile(content, name)
		files[strings.TrimPrefix(name, "content/")] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const model = "what-is-websocket"

// TestLoadRefuses: what is wrong with a lesson is said with file, line and reason.
func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, file, old, text string // old is replaced by text; empty: the file's end
		want                  string // within the error
	}{
		{"unknown key", "lesson.json", `"minutes": 20,`, `"minuets": 20,`, `lesson.json:7:3: the key "minuets" is not known here`},
		{"missing key", "lesson.json", `"minutes": 20,`, ``, `lesson.json:1:1: the key "minutes" is missing`},
		{"key twice", "lesson.json", `"minutes": 20,`, `"minutes": 20, "minutes": 20,`, `lesson.json:7:18: the key "minutes" is there twice`},
		{"wrong type", "lesson.json", `"minutes": 20,`, `"minutes": "20",`, `lesson.json:7:14: here stands a text, wanted is a whole number`},
		{"no JSON", "lesson.json", `"minutes": 20,`, `"minutes": 20;`, `lesson.json:7:16: this is not JSON`},
		{"something behind", "lesson.json", "", `{}`, `there is something behind the JSON value`},
		{"missing translation", "lesson.json", `"title": {"en": "Open a connection", "ja": "接続を開く"}`, `"title": {"en": "Open a connection"}`, `the key "ja" is missing`},
		{"empty translation", "lesson.json", `"ja": "接続を開く"}`, `"ja": " "}`, `the title has no text in "ja"`},
		{"other slug", "lesson.json", `"slug": "what-is-websocket"`, `"slug": "websocket"`, `the slug is "websocket", but the folder is "what-is-websocket"`},
		{"other order", "lesson.json", `"order": 1,`, `"order": 2,`, `course.json has this lesson in phase 1 as number 1`},
		{"unknown area", "lesson.json", `"area": "api",`, `"area": "security",`, `phase 1 has no area "security"`},
		{"unknown required lesson", "lesson.json", `"requires": []`, `"requires": ["nothing"]`, `it requires "nothing", which is no lesson`},
		{"circle", "lesson.json", `"requires": []`, `"requires": ["what-is-websocket"]`, `it requires itself`},
		{"wrong port", "lesson.json", `"port": 8080`, `"port": 8081`, `the demo is one of the servers`},
		{"source without address", "lesson.json", `"https://websockets.spec`, `"http://websockets.spec`, `a source has a title and an https: address`},
		{"unknown event", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "opened"}`, `lesson.json:21:23: the event "opened" is not known`},
		{"unknown word", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "before": "x"}`, `lesson.json:21:31: the key "before" is not known here`},
		{"unknown field", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "where": {"code": 1000}}`, `lesson.json:21:41: the event open has no field "code"`},
		{"unknown condition", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "where": {"open": {"above": 1}}}`, `the word "above" is not known in a condition`},
		{"condition of another sort", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "where": {"open": {"matches": "x"}}}`, `"matches" does not fit the field "open", which is a number`},
		{"value of another sort", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "where": {"open": "2"}}`, `here stands a text, but the field "open" is a number`},
		{"value that cannot be", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "message", "where": {"dir": "up"}}`, `"up" is nothing that the field "dir" can be`},
		{"no regular expression", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "where": {"path": {"matches": "("}}}`, `this is not a regular expression`},
		{"no hexadecimal", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "frame", "where": {"payload": {"hex": "GG"}}}`, `this is not hexadecimal`},
		{"unknown name", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "after": "x"}`, `"x" names no pattern that stands before this one`},
		{"reference to a later pattern", "lesson.json", `"match": {"on": "open"}`, `"match": {"want": [{"on": "frame", "where": {"payload": {"same": "b.payload"}}}, {"as": "b", "on": "frame"}]}`, `"b.payload" names no pattern that stands before this one`},
		{"unknown fact", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "answer", "where": {"value": {"fact": "x"}}}`, `the lesson lists no fact "x"`},
		{"narrow window", "lesson.json", `"within": {"from": "1s"}`, `"within": {"from": "1s", "to": "1300ms"}`, `a window is at least 400ms wide`},
		{"narrow side", "lesson.json", `"within": {"from": "1s"}`, `"within": "100ms"`, `each side of a window is at least 200ms wide`},
		{"no time", "lesson.json", `"within": {"from": "1s"}`, `"within": {"from": "soon"}`, `"soon" is not a time`},
		{"within of nothing", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "within": "5s"}`, `"within" needs one event in "after"`},
		{"row without its number", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "inOrder": "open"}`, `need "atLeast"`},
		{"never without an end", "lesson.json", `"match": {"on": "open"}`, `"match": {"want": [{"as": "o", "on": "open"}], "never": [{"on": "tcp", "after": "o"}]}`, `ends either with "for" or with "until"`},
		{"for outside never", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "open", "for": "5s"}`, `"for" and "until" are words of "never"`},
		{"steps that wait for each other", "lesson.json", `"match": {"on": "open"}`, `"match": {"on": "tcp", "after": "S1"}`, `"S1" names no pattern`},
		{"unknown placeholder", "lesson.json", `answered {status}`, `answered {stats}`, `{stats}: the event http.request has no such field`},
		{"unknown choice", "lesson.json", `"answer": "get",`, `"answer": "got",`, `the answer names the choice "got", which is not offered`},
		{"wrong choice without why", "lesson.json", `, "why": {"en": "Ping is a frame`, `, "wy": {"en": "Ping is a frame`, `the key "wy" is not known here`},
		{"raw HTML", "en.md", "## See it", "<b>bold</b>\n\n## See it", "en.md:5:1: raw HTML is not accepted"},
		{"level 1", "en.md", "## See it", "# Title\n\n## See it", "headings begin at level 2"},
		{"fence without language", "en.md", "```http", "```", "a fence names its language"},
		{"unknown language", "en.md", "```http", "```klingon", `the language "klingon" of a fence is not known`},
		{"link to nothing", "en.md", "(frame-anatomy)", "(frames)", `the link "frames" goes to no lesson`},
		{"link to no heading", "en.md", "(frame-anatomy)", "(#nowhere)", `the link "#nowhere" goes to no heading`},
		{"link over http", "en.md", "(frame-anatomy)", "(http://example.com/)", `goes neither to https: nor to a lesson`},
		{"link that runs", "en.md", "(frame-anatomy)", "(javascript:alert(1))", `goes neither to https: nor to a lesson`},
		{"image from elsewhere", "en.md", "## See it", "![x](https://example.com/x.png)\n\n## See it", `is not a file of the lesson's folder`},
		{"image that is missing", "en.md", "## See it", "![x](x.png)\n\n## See it", `the image "x.png" is not there`},
		{"a fence more", "ja.md", "", "\n```text\nx\n```\n", "it has 7 fences, but en.md has 6"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := courseFiles(t)
			file := files[path.Join(model, test.file)]
			before := string(file.Data)
			after := before + test.text
			if test.old != "" {
				after = strings.Replace(before, test.old, test.text, 1)
			}
			if after == before {
				t.Fatal("the test changes nothing")
			}
			file.Data = []byte(after)
			_, err := Load(files)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
			var located *Error
			if !errors.As(err, &located) || !strings.HasPrefix(located.File, model+"/") {
				t.Errorf("%v names no file of the lesson", err)
			}
		})
	}
}

// replaceAll changes the model's lesson.json.
func replaceAll(pattern, text string) func(fstest.MapFS) {
	return func(f fstest.MapFS) {
		file := f[model+"/lesson.json"]
		file.Data = regexp.MustCompile(pattern).ReplaceAll(file.Data, []byte(text))
	}
}

// TestLoadRefusesAFolder: a missing text, an unknown folder, an alias that is taken.
func TestLoadRefusesAFolder(t *testing.T) {
	tests := []struct {
		name   string
		change func(fstest.MapFS)
		want   string
	}{
		{"no Japanese", func(f fstest.MapFS) { delete(f, model+"/ja.md") }, "what-is-websocket/ja.md: it cannot be read"},
		{"no hint", replaceAll(`"hints": \[[^\]]*\]`, `"hints": []`), "lesson.json:17:5: step S1 has no hint"},
		{"no near miss", replaceAll(`"nearMisses": \[[^\]]*\]`, `"nearMisses": []`), "lesson.json:17:5: step S1 has no near miss"},
		{"no reference", replaceAll(`"reference": "[^"]*"`, `"reference": ""`), `"" is no name of a vector`},
		{"unknown folder", func(f fstest.MapFS) { f["odd/lesson.json"] = &fstest.MapFile{} }, "odd: course.json lists no such lesson"},
		{"taken alias", func(f fstest.MapFS) {
			file := f[model+"/lesson.json"]
			file.Data = []byte(strings.Replace(string(file.Data), `"phase": 1,`, `"aliases": ["browser-api"], "phase": 1,`, 1))
		}, `the alias "browser-api" is taken`},
		{"floor", func(f fstest.MapFS) {
			maps.DeleteFunc(f, func(name string, _ *fstest.MapFile) bool {
				return strings.Contains(name, "/") && !strings.HasPrefix(name, model+"/")
			})
			f["course.json"] = &fstest.MapFile{Data: []byte(`{"phases": [{"number": 1, "title": {"en": "a", "ja": "あ"}, "lessons": ["what-is-websocket"],
				"areas": [{"id": "api", "title": {"en": "a", "ja": "あ"}, "percent": 90}, {"id": "protocol", "title": {"en": "a", "ja": "あ"}, "percent": 10}]}]}`)}
			for _, name := range []string{"en.md", "ja.md"} {
				file := f[model+"/"+name]
				file.Data = []byte(strings.NewReplacer("(frame-anatomy)", "(what-is-websocket)", "(opening-handshake)", "(what-is-websocket)", "(ready-states-and-close)", "(what-is-websocket)").Replace(string(file.Data)))
			}
		}, `course.json:2:15: area "api" has 7 points: with a threshold of 90 % it needs 20`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := courseFiles(t)
			test.change(files)
			if _, err := Load(files); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

// TestAFolderWithoutALessonIsPlanned: the script of its servers may come first.
func TestAFolderWithoutALessonIsPlanned(t *testing.T) {
	files := courseFiles(t)
	files["frame-anatomy/server.yaml"] = &fstest.MapFile{}
	course, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if course.Lesson("frame-anatomy") != nil || strings.Contains(course.Lesson(model).Body.EN.HTML(), `href="frame-anatomy"`) {
		t.Error("a planned lesson is there, or is linked")
	}
}

// TestBodies: texts come out as pages expect them.
func TestBodies(t *testing.T) {
	l := embedded(t).Lesson(model)
	for _, body := range []Body{l.Body.EN, l.Body.JA} {
		for _, want := range []string{`<pre class="diagram" data-lang="diagram">`, `<table>`, `class="chroma"`} {
			if !strings.Contains(body.HTML(), want) {
				t.Errorf("the text lacks %s", want)
			}
		}
		for _, h := range body.Headings {
			if !strings.Contains(body.HTML(), `id="`+h.ID+`"`) {
				t.Errorf("the text has no %q for %q", h.ID, h.Text)
			}
		}
	}
	for _, l := range embedded(t).Lessons {
		for _, body := range []Body{l.Body.EN, l.Body.JA} {
			for _, bad := range []string{"<script", " style=", "javascript:"} {
				if strings.Contains(body.HTML(), bad) {
					t.Errorf("the text of %s has %s", l.Slug, bad)
				}
			}
		}
	}
	if strings.Contains(l.Body.EN.HTML(), `href="frame-anatomy"`) != (embedded(t).Lesson("frame-anatomy") != nil) {
		t.Error("a link goes to a lesson that is not written, or to one that is there is none")
	}
}

// TestREADME: the page for writers names every event, field and word.
func TestREADME(t *testing.T) {
	page, err := os.ReadFile("content/README.md")
	if err != nil {
		t.Fatal(err)
	}
	has := func(what string) {
		if !strings.Contains(string(page), what) {
			t.Errorf("content/README.md lacks %s", what)
		}
	}
	for on, kind := range kinds {
		has("`" + on + "`")
		for name := range kind.fields {
			has("`" + name + "`")
		}
		for prefix := range kind.families {
			has("`" + prefix + "<")
		}
	}
	for _, word := range strings.Split(conditionWords, ", ") {
		has(`"` + word + `"`)
	}
	for _, word := range []string{"on", "where", "as", "after", "within", "sameConn", "newConn", "atLeast", "span", "every", "inOrder", "smallest", "largest", "total", "for", "until", "want", "never", "any"} {
		has("`" + word + "`")
	}
	for _, kind := range factTypes {
		has("`" + kind + "`")
	}
	for name := range newHistory().totals {
		if strings.HasSuffix(name, "c2s") || name == "seen.opens" {
			has("`" + name + "`")
		}
	}
}

// FuzzLoad: no lesson.json makes Load panic.
func FuzzLoad(f *testing.F) {
	text := courseFiles(f)[model+"/lesson.json"].Data
	f.Add(text)
	for _, match := range []string{`{"any": [{"on": "open"}, {"on": "tcp"}]}`, `{"want": [], "never": [{"on": "tcp", "for": "5s"}]}`, `{"on": "frame", "where": {"payload": {"same": "."}}, "atLeast": 3, "largest": {"length": {}}}`} {
		f.Add([]byte(strings.Replace(string(text), `{"on": "open"}`, match, 1)))
	}
	files := courseFiles(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		changed := make(fstest.MapFS, len(files))
		for name, file := range files {
			changed[name] = file
		}
		changed[model+"/lesson.json"] = &fstest.MapFile{Data: b}
		if course, err := Load(changed); (course == nil) == (err == nil) {
			t.Fatal("neither a course nor an error, or both")
		}
	})
}
