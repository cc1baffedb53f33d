package bus

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// NewRouter returns a Watermill Router in which a panic in a handler fails only the handler's message. Give Close more
// time than the subscribers' CloseTimeout. Watermill's notices are logged at DEBUG.
//
// Middlewares are put around what recovers from the handlers' panics: to them a panic is an error.
//
// The Router closes the publisher of a handler together with the handler's subscription: give AddHandler a publisher of
// its own, or use AddConsumerHandler and publish from within.
func NewRouter(logger *slog.Logger, closeTimeout time.Duration, middlewares ...message.HandlerMiddleware) (*message.Router, error) {
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: closeTimeout}, watermillLogger(logger))
	if err != nil {
		return nil, fmt.Errorf("create router: %w", err)
	}

	r.AddMiddleware(append(middlewares, middleware.Recoverer)...)

	return r, nil
}

func watermillLogger(logger *slog.Logger) watermill.LoggerAdapter {
	return watermill.NewSlogLoggerWithLevelMapping(logger, map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})
}
