package embedded

// MatchGlob is compared with its namesake of package bridges, which Redis
// itself is asked about. This package imports none of ours.
var MatchGlob = matchGlob
