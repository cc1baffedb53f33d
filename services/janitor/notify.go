package janitor

// Who is notified of what: the settings, and the sinks made from them.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/notice"
	"bobosync/services/janitor/internal/state"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/observe"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// Notify says who is notified of the status. All addresses are secrets.
type Notify struct {
	// SMTPHost is the mail server; without it no mail is sent.
	SMTPHost string `env:"NOTIFY_SMTP_HOST"`
	SMTPPort int    `env:"NOTIFY_SMTP_PORT, default=587"`
	// SMTPTLS is starttls, tls (from the first byte, usually on port 465) or none.
	SMTPTLS string `env:"NOTIFY_SMTP_TLS, default=starttls"`
	// SMTPCA is a file with the certificates that the mail server's certificate must be signed by.
	SMTPCA       string        `env:"NOTIFY_SMTP_CA"`
	SMTPUser     config.Secret `env:"NOTIFY_SMTP_USER"`
	SMTPPassword config.Secret `env:"NOTIFY_SMTP_PASSWORD"`
	// From is the sender. To is a comma-separated list of the recipients' addresses.
	From config.Secret `env:"NOTIFY_FROM"`
	To   config.Secret `env:"NOTIFY_TO"`
	// WebhookURL is where the status is posted as JSON, signed with WebhookSecret.
	WebhookURL    config.Secret `env:"NOTIFY_WEBHOOK_URL"`
	WebhookSecret config.Secret `env:"NOTIFY_WEBHOOK_SECRET"`
	// TeamsURL is the address of a workflow that posts a card into a channel or a chat.
	TeamsURL config.Secret `env:"NOTIFY_TEAMS_URL"`
	// DigestHour is the hour of the daily digest, from 0 to 23 in AtHoc's zone; -1 for none.
	DigestHour int `env:"NOTIFY_DIGEST_HOUR, default=7"`
	// Heartbeat is the address that is called each minute while the verdict is no PROBLEM, and with /fail appended
	// while it is one.
	Heartbeat config.Secret `env:"HEARTBEAT_URL"`
}

// Validate reports settings that cannot be used, or that contradict each other.
func (n Notify) Validate() error {
	errs := []error{
		n.validateMail(), secretURL("NOTIFY_WEBHOOK_URL", n.WebhookURL), secretURL("NOTIFY_TEAMS_URL", n.TeamsURL), secretURL("HEARTBEAT_URL", n.Heartbeat),
	}
	if n.DigestHour < -1 || n.DigestHour > 23 {
		errs = append(errs, errors.New("NOTIFY_DIGEST_HOUR: must be from 0 to 23, or -1 for none"))
	}

	if (n.WebhookURL == "") != (n.WebhookSecret == "") {
		errs = append(errs, errors.New("NOTIFY_WEBHOOK_URL and NOTIFY_WEBHOOK_SECRET: set both or none"))
	} else if n.WebhookSecret != "" {
		if _, err := notice.WebhookKey(n.WebhookSecret.Reveal()); err != nil {
			errs = append(errs, fmt.Errorf("NOTIFY_WEBHOOK_SECRET: %w", err))
		}
	}

	return errors.Join(errs...)
}

func (n Notify) validateMail() error {
	var errs []error
	if n.SMTPHost == "" {
		if n.From != "" || n.To != "" || n.SMTPUser != "" || n.SMTPPassword != "" {
			errs = append(errs, errors.New("NOTIFY_SMTP_HOST: not set, though NOTIFY_FROM, NOTIFY_TO, NOTIFY_SMTP_USER or NOTIFY_SMTP_PASSWORD is"))
		}
		return errors.Join(errs...)
	}

	if _, err := mail.ParseAddress(n.From.Reveal()); err != nil {
		errs = append(errs, errors.New("NOTIFY_FROM: must be an address such as bobosync@example.org")) // its error quotes the address
	}

	if list, err := mail.ParseAddressList(n.To.Reveal()); err != nil || len(list) == 0 {
		errs = append(errs, errors.New("NOTIFY_TO: must be addresses with commas between"))
	}

	if n.SMTPPort < 1 || n.SMTPPort > 65535 {
		errs = append(errs, errors.New("NOTIFY_SMTP_PORT: must be from 1 to 65535"))
	}

	if (n.SMTPUser == "") != (n.SMTPPassword == "") {
		errs = append(errs, errors.New("NOTIFY_SMTP_USER and NOTIFY_SMTP_PASSWORD: set both or none"))
	}

	switch n.SMTPTLS {
	case notice.TLSStart, notice.TLSFull:
	case notice.TLSNone:
		if n.SMTPPassword != "" && !isLoopback(n.SMTPHost) {
			errs = append(errs, errors.New("NOTIFY_SMTP_TLS: none would send NOTIFY_SMTP_PASSWORD in the clear"))
		}
	default:
		errs = append(errs, errors.New("NOTIFY_SMTP_TLS: must be starttls, tls or none"))
	}

	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// secretURL returns an error for an address that cannot be used, without quoting the address.
func secretURL(name string, address config.Secret) error {
	if address == "" {
		return nil
	}

	u, err := url.Parse(address.Reveal())
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return errors.New(name + ": must be an address that begins with https:// (http:// on this machine)")
	}

	return nil
}

// sinks returns the sinks that are configured.
func (n Notify) sinks(web *http.Client, now func() time.Time) ([]notice.Sink, error) {
	var all []notice.Sink
	if n.SMTPHost != "" {
		m := &notice.Mail{
			Host: n.SMTPHost, Port: n.SMTPPort, TLS: n.SMTPTLS, User: n.SMTPUser.Reveal(), Password: n.SMTPPassword.Reveal(), From: n.From.Reveal(),
		}
		list, _ := mail.ParseAddressList(n.To.Reveal()) // validated
		for _, to := range list {
			m.To = append(m.To, to.Address)
		}

		if n.SMTPCA != "" {
			pem, err := os.ReadFile(n.SMTPCA)
			roots := x509.NewCertPool()
			if err != nil || !roots.AppendCertsFromPEM(pem) {
				return nil, errors.Join(errors.New("NOTIFY_SMTP_CA: no certificates can be read from it"), err)
			}

			m.Roots = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: n.SMTPHost}
		}

		all = append(all, m)
	}

	if n.WebhookURL != "" {
		key, err := notice.WebhookKey(n.WebhookSecret.Reveal())
		if err != nil {
			return nil, fmt.Errorf("NOTIFY_WEBHOOK_SECRET: %w", err)
		}

		all = append(all, &notice.Webhook{Web: web, Address: n.WebhookURL.Reveal(), Key: key, Now: now})
	}

	if n.TeamsURL != "" {
		all = append(all, &notice.Teams{Web: web, Address: n.TeamsURL.Reveal()})
	}

	return all, nil
}

// newNotifier returns the notifier that notifies people of the status while this instance leads.
func (j *janitor) newNotifier(kept jetstream.KeyValue, log *journal.Journal, checkLeader func() error) *notice.Notifier {
	return &notice.Notifier{
		Sinks: j.sinks, Web: j.web, Heartbeat: strings.TrimSpace(j.cfg.Notify.Heartbeat.Reveal()), Entry: state.KVEntry{KV: kept, Key: notice.Key},
		CheckLeader: checkLeader, Zone: j.cfg.AtHoc.Zone.Location(), DigestHour: j.cfg.Notify.DigestHour, Every: j.pollInterval, Now: j.now, Log: j.log,
		Record: func(e control.JournalEntry) error {
			_, err := log.Begin(e)
			return err
		},
		Collect: func(ctx context.Context) verdict.Facts { return observe.Facts(ctx, j.conn) },
		Lines: func(ctx context.Context, file string) ([]int, error) {
			answer, err := control.Ask[control.RowsAnswer](ctx, j.conn.NC, topology.Ingest, control.FileRows, control.RowsRequest{ID: file})
			var lines []int
			for _, row := range answer.Rows {
				lines = append(lines, row.Line)
			}

			return lines, err
		},
	}
}
