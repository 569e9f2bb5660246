//go:build linux

package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// plot draws a bar for every server of the rows whose figures are CPU time,
// scaled to the longest of its row.
func plot(results []result) string {
	const width, left, bars, step = 860, 200, 480, 20
	var body strings.Builder
	y := 8
	for _, r := range results {
		if len(r.cells) < 2 || r.median(0).text != "" {
			continue
		}
		longest := 0.0
		for i := range r.cells {
			longest = max(longest, r.median(i).value)
		}
		y += step
		fmt.Fprintf(&body, "<text class=\"row\" x=\"8\" y=\"%d\">%s</text>\n", y, escape(strings.ReplaceAll(upperFirst(r.title), "`", "")))
		for i, c := range r.cells {
			y += step
			v := r.median(i).value
			fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", left-8, y, escape(strings.ReplaceAll(c.title, "`", "")))
			fmt.Fprintf(&body, "<rect class=%q x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", barClass(i), left, y-step*3/4+1, max(v/longest*bars, 1), step-5)
			fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", left+v/longest*bars+6, y, escape(r.format(v)))
		}
		y += step / 2
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="CPU time or memory of each server, by row; less is better">
<style>
text { font: 12px system-ui, sans-serif; fill: #333 }
.row { font-weight: 600 }
.ours { fill: #0b7285 }
.theirs { fill: #adb5bd }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .ours { fill: #3bc9db } .theirs { fill: #6c757d } }
</style>
%s</svg>
`, width, y+8, width, y+8, body.String())
}

func barClass(i int) string {
	if i == 0 {
		return "ours"
	}
	return "theirs"
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
