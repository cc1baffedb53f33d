package control

import "time"

// DefaultFeed is what the feed of CSV_DIRECTORY is called.
const DefaultFeed = "default"

// InputDirectory is what the input directory of a feed is called in messages, and in IngestState.Directories: the variable that names it.
func InputDirectory(feed string) string {
	if feed == DefaultFeed {
		return "CSV_DIRECTORY"
	}
	return "FEEDS " + feed
}

// MuteFeed is an endpoint of ingest: it takes a FeedMuteRequest and answers with the FeedState.
const MuteFeed = "mute-feed"

// FeedMuteRequest has what is unusual about a feed be no finding for some time.
type FeedMuteRequest struct {
	Name string `json:"name"`
	// Seconds is how long; 0 ends it.
	Seconds int64  `json:"seconds"`
	By      string `json:"by"`
	Reason  string `json:"reason"`
}

// FeedMute is until when a feed is muted, by whom and why.
type FeedMute struct {
	Until  time.Time `json:"until"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// FeedState is what a feed brings, beside what it usually does. Copies of known files, and files that are read again, do not count.
type FeedState struct {
	Name string `json:"name"`
	// Since is when its first file came that is known of; zero if none ever did. Learnt reports whether that is long enough ago, and its
	// latest one not too long, for what is usual to be known; otherwise it is neither silent nor thin nor a flood.
	Since  time.Time `json:"since,omitzero"`
	Learnt bool      `json:"learnt"`
	// LastFile is when its latest file came, with the offset of BOBO's clock.
	LastFile time.Time `json:"last_file,omitzero"`
	// Rows and Files are those of the current hour, so far; Usual is what such hours have brought.
	Rows  int       `json:"rows"`
	Files int       `json:"files"`
	Usual UsualHour `json:"usual"`
	// Silent reports that nothing has come for three times the usual longest gap. Thin is a complete hour with less than a third of the
	// least, Flood one with more than five times the most that such hours have brought.
	Silent bool         `json:"silent"`
	Thin   *UnusualHour `json:"thin,omitempty"`
	Flood  *UnusualHour `json:"flood,omitempty"`
	// Mute is there while it is muted.
	Mute *FeedMute `json:"mute,omitempty"`
}

// UsualHour is what hours of one weekday and time have brought.
type UsualHour struct {
	// Begin is the hour that is compared with them, on BOBO's clock, and Hours how many there are.
	Begin time.Time `json:"begin"`
	Hours int       `json:"hours"`
	// Least and Most are rows. GapSeconds is the 99th percentile of the longest times without a file.
	Least      int   `json:"least"`
	Most       int   `json:"most"`
	GapSeconds int64 `json:"gap_seconds"`
}

// UnusualHour is an hour that brought unusually few or many rows.
type UnusualHour struct {
	UsualHour
	Rows int `json:"rows"`
}
