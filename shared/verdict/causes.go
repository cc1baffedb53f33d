package verdict

// The causes of findings, as scripts know them; beside these no_ingest, no_resolver, no_publisher and no_janitor.
const (
	CauseBroker       = "broker_unreachable"
	CauseNotAllowed   = "broker_refuses"
	CauseJetStream    = "no_jetstream"
	CauseMissing      = "stream_missing"
	CauseUnread       = "not_readable"
	CauseStandby      = "no_janitor_at_work"
	CauseDirectory    = "directory"
	CauseDisk         = "disk_space"
	CauseAtHocRefuses = "athoc_refuses"
	CauseAtHocDown    = "athoc_down"
	CauseThrottled    = "athoc_throttles"
	CauseNoMapping    = "no_mapping"
	CauseMappingOld   = "mapping_old"
	CauseMappingHeld  = "mapping_held"
	CauseDuty         = "duty_failed"
	CauseRecovering   = "recovering"
	CauseLate         = "late"
	CauseFull         = "entries_full"
	CauseGrowing      = "file_growing"
	CauseUnreadable   = "file_unreadable"
	CauseFailedFiles  = "failed_files"
	CauseSilent       = "feed_silent"
	CauseDead         = "dead_letters"
	CauseVersions     = "versions_mixed"
)
