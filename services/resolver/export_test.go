package resolver

// RunHit is Run with what is called before each step that leaves something behind.
var RunHit = run
