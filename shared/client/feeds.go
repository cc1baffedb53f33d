package client

import "bobosync/shared/control"

// FeedWords describes the state of a feed in a word or two.
func FeedWords(f control.FeedState) string {
	switch {
	case !f.Learnt:
		return "learning"
	case f.Silent:
		return "silent"
	case f.Thin != nil:
		return "thin"
	case f.Flood != nil:
		return "flood"
	default:
		return "usual"
	}
}
