package redisbridge

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestSlice(t *testing.T) {
	srv := testenv.Redis(t)
	b, err := New(Config{URL: srv.URL(), Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	sub, err := b.Subscribe(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := b.Publish(t.Context(), bridges.Publication{Topic: "a", Payload: []byte("x")})
	fmt.Println(rc, err, b.Status())
	w := make(chan struct{}, 100)
	sub.Wake(func() { w <- struct{}{} })
	<-w
	var buf [10]live.Event[*bridges.Message]
	n, open := sub.Next(buf[:])
	fmt.Println(n, open, string(buf[0].Value.Payload), buf[0].Gap)
	srv.Stop(t)
	srv.Start(t)
	start := time.Now()
	for b.Status().State != bridges.Connected {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(time.Since(start))
	rc, err = b.Publish(t.Context(), bridges.Publication{Topic: "a", Payload: []byte("y")})
	fmt.Println(rc, err)
	if n, _ = sub.Next(buf[:]); n == 0 {
		<-w
		n, open = sub.Next(buf[:])
	}
	fmt.Println(n, open, string(buf[0].Value.Payload), buf[0].Gap)
}
