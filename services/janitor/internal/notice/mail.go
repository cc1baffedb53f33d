package notice

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/wneessen/go-mail"
)

// Mail is a sink that sends notices by SMTP.
type Mail struct {
	Host string
	Port int
	// TLS is TLSStart, TLSFull or TLSNone.
	TLS            string
	Roots          *tls.Config
	User, Password string
	From           string
	To             []string
}

// The ways in which the connection to the mail server is secured.
const (
	TLSStart = "starttls"
	TLSFull  = "tls"
	TLSNone  = "none"
)

// Name implements Sink.
func (*Mail) Name() string { return "mail" }

// Send implements Sink.
func (m *Mail) Send(ctx context.Context, n Message) error {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(m.From), msg.To(m.To...)); err != nil {
		return errors.New("NOTIFY_FROM or NOTIFY_TO is no address")
	}

	msg.Subject("[BOBO Sync] " + n.Title)
	msg.SetMessageIDWithValue(n.ID + "@bobosync")
	msg.SetDateWithValue(n.At)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // keeps out-of-office replies away
	msg.SetBodyString(mail.TypeTextPlain, n.Title+"\n\n"+n.Text+"\n")

	c, err := mail.NewClient(m.Host, m.options(ctx)...)
	if err != nil {
		return errors.New("the settings of the mail server cannot be used")
	}

	return mailError(c.DialAndSendWithContext(ctx, msg))
}

func (m *Mail) options(ctx context.Context) []mail.Option {
	options := []mail.Option{mail.WithPort(m.Port), mail.WithoutNoop()}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, mail.WithTimeout(time.Until(deadline)))
	}

	switch m.TLS {
	case TLSFull:
		options = append(options, mail.WithSSL())
	case TLSNone:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}

	if m.Roots != nil {
		options = append(options, mail.WithTLSConfig(m.Roots.Clone()))
	}

	if m.User != "" {
		auth := mail.SMTPAuthAutoDiscover
		if m.TLS == TLSNone {
			auth = mail.SMTPAuthPlainNoEnc
		}

		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(m.User), mail.WithPassword(m.Password))
	}

	return options
}

// mailError describes what went wrong without quoting the server, whose words may hold addresses.
func mailError(err error) error {
	var refused *mail.SendError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.ErrorCode() > 0:
		return fmt.Errorf("the mail server refuses it with %d", refused.ErrorCode())
	default:
		return harmless(err)
	}
}
