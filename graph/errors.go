package graph

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Present returns the error presenter: what a client is told of an error. count
// is told the code of each.
//
// A *live.Error is told with its code, an error of the GraphQL document as it
// is. Anything else may hold what a client must not see: it is logged with an
// id, and the client is told the id.
func Present(logger *slog.Logger, count func(code string)) graphql.ErrorPresenterFunc {
	return func(ctx context.Context, err error) *gqlerror.Error {
		told := graphql.DefaultErrorPresenter(ctx, err)
		var known *live.Error
		var document *gqlerror.Error
		switch {
		case errors.As(err, &known):
			told.Message = fmt.Sprintf("%s (%s)", known.Message, known.Code)
			setCode(told, known.Code)
			if known.Cursor != "" {
				told.Extensions["cursor"] = known.Cursor
			}
			if known.Cause != nil {
				logger.WarnContext(ctx, "request failed", "code", known.Code, "cause", known.Cause)
			}
		case errors.Is(err, context.Canceled):
			told.Message = "The operation was cancelled. (CANCELLED)"
			setCode(told, "CANCELLED")
		case told.Message == "introspection disabled": // gqlgen's words; it has no error of its own for it
			told.Message = "The schema may not be read here: the gateway was started without --introspection. (INTROSPECTION_DISABLED)"
			setCode(told, "INTROSPECTION_DISABLED")
		case errors.As(err, &document) && document.Unwrap() == nil:
			// written by the parser, the validator or gqlgen for the client to read
		default:
			id := rand.Text()[:12]
			logger.ErrorContext(ctx, "internal error", "id", id, "error", err, "path", told.Path.String())
			told.Message = fmt.Sprintf("Something went wrong inside the gateway; its log says more under %s. (INTERNAL)", id)
			setCode(told, "INTERNAL")
		}
		if code, ok := told.Extensions["code"].(string); ok {
			count(code)
		}
		return told
	}
}

// Recover turns a panic in a resolver into an internal error.
func Recover(_ context.Context, p any) error {
	return fmt.Errorf("panic: %v\n%s", p, debug.Stack())
}

func setCode(err *gqlerror.Error, code string) {
	if err.Extensions == nil {
		err.Extensions = make(map[string]any, 1)
	}
	err.Extensions["code"] = code
}
