package resolver

// RunHit is Run with a function that is called before each step that leaves something behind.
var RunHit = run
