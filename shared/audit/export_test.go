package audit

// HashOf is the hash function that links records.
var HashOf = hashOf
