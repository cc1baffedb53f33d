package audit

// HashOf is the hash that links records.
var HashOf = hashOf
