package janitor

// The settings.

import (
	"errors"
	"strings"
	"time"

	"bobosync/shared/check"
	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// Config holds the janitor's settings.
type Config struct {
	Broker    config.Broker
	AtHoc     config.AtHoc
	Calls     config.Calls
	Lifetime  config.Lifetime
	Log       config.Log
	Sync      Sync
	Cleanup   Cleanup
	Reconcile Reconcile
	Retention Retention
	Notify    Notify
}

// Sync says what the mapping is made of, and when it is refreshed.
type Sync struct {
	// Mappings switches the refresh on.
	Mappings bool `env:"SYNC_MAPPINGS, default=true"`
	// Hour is the hour of the day, from 0 to 23 in AtHoc's zone, after which the daily refresh is due.
	Hour int `env:"SYNC_HOUR, default=20"`
	// RetryDays is the age in days at which the mapping is refreshed at once, without waiting for that hour.
	RetryDays int `env:"SYNC_RETRY_DAYS, default=2"`
	// CollarField is the AtHoc attribute that holds the employee id.
	CollarField string `env:"COLLAR_ID_FIELD, default=Collar-Number"`
	// UserAttributes are the attributes that are fetched with the users. Only the one with the employee id is needed,
	// and it is always fetched.
	UserAttributes []string `env:"USER_ATTRIBUTES"`
	// MaxRemovalPercent is the percentage of the mapped employee ids that a refresh may remove, or give to another
	// user, without an approval.
	MaxRemovalPercent int `env:"MAPPING_MAX_REMOVAL_PERCENT, default=10"`
}

// Validate reports settings that cannot be used.
func (s Sync) Validate() error {
	errs := []error{hour("SYNC_HOUR", s.Hour), percent("MAPPING_MAX_REMOVAL_PERCENT", s.MaxRemovalPercent)}
	if s.RetryDays < 1 || s.RetryDays > 3650 {
		errs = append(errs, errors.New("SYNC_RETRY_DAYS: must be 1 or more, and 3650 at most"))
	}

	field := strings.TrimSpace(s.CollarField)
	if field == "" || strings.Contains(field, ",") || strings.EqualFold(field, "LOGIN_ID") {
		errs = append(errs, errors.New("COLLAR_ID_FIELD: must be the name of the one attribute that holds the employee id"))
	}

	return errors.Join(errs...)
}

// Cleanup says how often stale duty is searched for.
type Cleanup struct {
	Interval time.Duration `env:"CLEANUP_INTERVAL, default=5m"`
}

// Validate reports an interval that is too short for calls to AtHoc.
func (c Cleanup) Validate() error {
	if c.Interval < time.Second {
		return errors.New("CLEANUP_INTERVAL: must be at least 1s; AUTO_CLEANUP_HOURS=0 turns cleaning off")
	}
	return nil
}

// The values of RECONCILE.
const (
	reconcileOff    = "off"
	reconcileReport = "report"
	reconcileApply  = "apply"
)

// Reconcile says when AtHoc is compared with what it should hold, and what is done about the differences.
type Reconcile struct {
	// Mode is off, report or apply.
	Mode string `env:"RECONCILE, default=report"`
	// Hour is the hour of the day, from 0 to 23 in AtHoc's zone, after which the daily comparison is due.
	Hour int `env:"RECONCILE_HOUR, default=4"`
	// MaxChangePercent is the percentage of the compared users that may differ. If more do, their statuses are sent
	// only if an operator orders it.
	MaxChangePercent int `env:"RECONCILE_MAX_CHANGE_PERCENT, default=10"`
}

// Validate reports settings that cannot be used.
func (r Reconcile) Validate() error {
	errs := []error{hour("RECONCILE_HOUR", r.Hour), percent("RECONCILE_MAX_CHANGE_PERCENT", r.MaxChangePercent)}
	switch r.Mode {
	case reconcileOff, reconcileReport, reconcileApply:
	default:
		errs = append(errs, errors.New("RECONCILE: must be off, report or apply"))
	}

	return errors.Join(errs...)
}

// Retention says for how many days things are kept; 0 means for ever.
type Retention struct {
	// Files applies to processed files.
	Files int `env:"PROCESSED_FILES_PURGE_DAYS, default=30"`
	// Journal applies to the records of files and to the journal.
	Journal int `env:"JOURNAL_DAYS, default=90"`
}

// Validate reports retention periods that cannot be used.
func (r Retention) Validate() error {
	return errors.Join(config.Count("PROCESSED_FILES_PURGE_DAYS", r.Files), config.Count("JOURNAL_DAYS", r.Journal))
}

func hour(name string, h int) error {
	if h < 0 || h > 23 {
		return errors.New(name + ": must be from 0 to 23")
	}
	return nil
}

func percent(name string, p int) error {
	if p < 0 || p > 100 {
		return errors.New(name + ": must be from 0 to 100")
	}
	return nil
}

// Checked returns the settings that a check of the service tries out.
func (c *Config) Checked() check.Settings {
	return check.Settings{
		Service: topology.Janitor, Broker: c.Broker, Calls: c.Calls, Log: c.Log, AtHoc: &c.AtHoc,
		CollarField: c.Sync.CollarField, UserAttributes: c.Sync.UserAttributes,
	}
}

// Validate reports everything that is wrong with the settings.
func (c *Config) Validate() error {
	return errors.Join(c.Broker.Validate(), c.AtHoc.Validate(), c.Calls.Validate(), c.Lifetime.Validate(), c.Log.Validate(),
		c.Sync.Validate(), c.Cleanup.Validate(), c.Reconcile.Validate(), c.Retention.Validate(), c.Notify.Validate())
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }
