package redispresence

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	randv2 "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/presence"
)

const (
	channel      = "sluice:presence"
	roomPrefix   = "sluice:presence:"           // + room: a hash of <instance>/<member> to a record
	instancesKey = "sluice:presence-instances"  // a sorted set of instances by expiry, Unix milliseconds
	roomsPrefix  = "sluice:presence-instances:" // + instance: the set of its rooms

	beatEvery   = 2 * time.Second
	expireAfter = 5 * time.Second
	pongWithin  = 3 * time.Second // beyond beatEvery

	batch     = 100 // rooms in one exchange with Redis
	readAgain = 500 // rooms that are read at each beat without need
	// After reading comes a rest, restFor times as long, but no longer than
	// maxRest: what changes all the time is read together.
	restFor = 4
	maxRest = 200 * time.Millisecond
)

// record is a member as it is in Redis.
type record struct {
	Name   string `json:"name"`
	Since  int64  `json:"since"` // Unix milliseconds
	Typing bool   `json:"typing,omitempty"`
}

// session is an instance: a gateway from connecting to Redis until it loses it.
// Any error ends it, so that what was written is always known. It is the run
// goroutine's.
type session struct {
	*Directory
	instance string
	pubsub   *redis.PubSub
	settled  time.Time // from when on a gateway without members in a room has none
	written  map[string]*written
	again    []string // followed rooms that are yet to be read without need
}

// written is what of a room is in Redis.
type written struct {
	members map[string]presence.Member // by id; the zero Member is to be written again
	at      time.Time
}

var (
	errForgotten = errors.New("redispresence: Redis does not know this instance any more")
	errLost      = errors.New("redispresence: the subscription was lost")
)

// run keeps a session with Redis until ctx ends.
func (d *Directory) run(ctx context.Context) {
	defer d.lost()
	gateway := randomID()
	backoff, told, former := minBackoff, false, ""
	for n := 1; ctx.Err() == nil; n++ {
		s := &session{
			Directory: d,
			instance:  fmt.Sprintf("%s-%d", gateway, n),
			settled:   time.Now().Add(expireAfter),
			written:   make(map[string]*written),
		}
		begin := time.Now()
		dead, err := s.beat(ctx, true)
		if err == nil {
			err = s.serve(ctx, dead, former)
			former = s.instance
		}
		d.lost()
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > expireAfter {
			backoff, told = minBackoff, false
		}
		if !told { // once per outage
			told = true
			d.log.Warn("presence: no connection to Redis; trying again", "err", err)
		}
		select {
		case <-time.After(backoff/2 + randv2.N(backoff/2)):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}

// gatewayOf is the gateway that an instance belongs to.
func gatewayOf(instance string) string {
	gateway, _, _ := strings.Cut(instance, "-")
	return gateway
}

// lost notes that Redis is away and lets go of everyone who waits for it.
func (d *Directory) lost() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = true
	for _, f := range d.followed {
		f.current = false
		f.wasTried()
	}
}

// serve lives from the first beat to the first error.
func (s *session) serve(ctx context.Context, dead []string, former string) error {
	defer func() {
		if ctx.Err() != nil { // Close
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = s.bury(last, s.instance, true) // else it expires
		}
	}()
	s.pubsub = s.client.Subscribe(ctx, channel)
	var listener sync.WaitGroup
	defer listener.Wait()
	defer s.pubsub.Close()
	if _, err := s.pubsub.ReceiveTimeout(ctx, commandTimeout); err != nil {
		return err
	}
	lost := make(chan error, 1)
	listener.Go(func() { lost <- s.listen(ctx) })

	for rooms := range slices.Chunk(s.local.Rooms(), batch) {
		if err := s.write(ctx, rooms); err != nil {
			return err
		}
	}
	if former != "" {
		if err := s.bury(ctx, former, true); err != nil {
			return err
		}
	}
	if err := s.buryAll(ctx, dead); err != nil {
		return err
	}
	s.mu.Lock()
	s.away = false
	s.mu.Unlock()
	s.unread.addAll(s.rooms())
	s.log.Info("presence: connected to Redis", "instance", s.instance)
	return s.live(ctx, lost)
}

// live is what an instance does until the first error.
func (s *session) live(ctx context.Context, lost <-chan error) error {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	news, rested := s.unread.wake, (<-chan time.Time)(nil)
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err = <-lost:
		case <-beat.C:
			err = s.renew(ctx)
		case <-s.unwritten.wake:
			rooms, _ := s.unwritten.take(batch)
			err = s.write(ctx, rooms)
		case <-news:
			begin := time.Now()
			rooms, more := s.unread.take(batch)
			if len(rooms) > 0 {
				err = s.read(ctx, rooms)
			}
			if !more {
				news, rested = nil, time.After(min(restFor*time.Since(begin), maxRest))
			}
		case <-rested:
			news, rested = s.unread.wake, nil
		}
		if err != nil {
			return err
		}
	}
}

// listen takes the messages of other instances until the subscription is lost.
func (s *session) listen(ctx context.Context) error {
	for {
		reply, err := s.pubsub.ReceiveTimeout(ctx, beatEvery+pongWithin)
		if err != nil {
			return errors.Join(errLost, err)
		}
		if m, ok := reply.(*redis.Message); ok {
			if from, room, _ := strings.Cut(m.Payload, "/"); from != s.instance && s.follows(room) != nil {
				s.unread.add(room)
			}
		}
	}
}

// renew is the beat: it renews the instance, takes dead ones out, and has
// rooms written and read that may need it.
func (s *session) renew(ctx context.Context) error {
	dead, err := s.beat(ctx, false)
	if err != nil {
		return err
	}
	if err := s.pubsub.Ping(ctx); err != nil { // so that silence means that it is lost
		return err
	}
	for room, w := range s.written {
		if time.Since(w.at) > s.keep/2 {
			for id := range w.members {
				w.members[id] = presence.Member{}
			}
			s.unwritten.add(room)
		}
	}
	if len(s.again) == 0 {
		s.again = s.rooms()
	}
	n := min(len(s.again), readAgain)
	s.unread.addAll(s.again[:n])
	s.again = s.again[n:]
	return s.buryAll(ctx, dead)
}

// rooms lists the rooms that are followed.
func (d *Directory) rooms() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	rooms := make([]string, 0, len(d.followed))
	for room := range d.followed {
		rooms = append(rooms, room)
	}
	return rooms
}

func (d *Directory) follows(room string) *followed {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.followed[room]
}

// clock makes `now` the server's time in Unix milliseconds.
const clock = `local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

// beatScript renews an instance. It answers whether the instance had not
// expired, and which instances have. The set of instances must live longer than
// the rooms: whom it does not know, nobody takes out.
const beatScript = clock + `
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local answer = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
table.insert(answer, 1, (expiry and tonumber(expiry) > now) and 'alive' or 'forgotten')
return answer
`

func (s *session) beat(ctx context.Context, first bool) (dead []string, err error) {
	answer, err := s.client.Eval(ctx, beatScript, []string{instancesKey},
		s.instance, expireAfter.Milliseconds(), 2*s.keep.Milliseconds()).StringSlice()
	if err != nil {
		return nil, err
	}
	if answer[0] != "alive" && !first {
		return nil, errForgotten
	}
	return answer[1:], nil
}

// writeScript writes members of a room for an instance that has not expired,
// and tells. It answers 0 for one that has: nobody would take them out again.
// ARGV: instance, room, milliseconds to keep, number of members in all, length
// of what is to be set; what is to be set, what is to be deleted.
const writeScript = clock + `
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expiry or tonumber(expiry) <= now then return 0 end
local set = 5 + ARGV[5]
if set > 5 then redis.call('HSET', KEYS[2], unpack(ARGV, 6, set)) end
if #ARGV > set then redis.call('HDEL', KEYS[2], unpack(ARGV, set + 1)) end
redis.call(ARGV[4] == '0' and 'SREM' or 'SADD', KEYS[3], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('PUBLISH', '` + channel + `', ARGV[1] .. '/' .. ARGV[2])
return 1
`

// write makes rooms in Redis what they are here.
func (s *session) write(ctx context.Context, rooms []string) error {
	pipe := s.client.Pipeline()
	var answers []*redis.Cmd
	for _, room := range rooms {
		if args := s.difference(room); args != nil {
			keys := []string{instancesKey, roomPrefix + room, roomsPrefix + s.instance}
			answers = append(answers, pipe.Eval(ctx, writeScript, keys, args...))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for _, answer := range answers {
		if n, err := answer.Int(); err != nil || n == 0 {
			return errors.Join(errForgotten, err)
		}
	}
	return nil
}

// difference makes the arguments of writeScript for a room; nil: Redis has it as
// it is. They count as written: if not, the session ends.
func (s *session) difference(room string) []any {
	w := s.written[room]
	if w == nil {
		w = &written{}
	}
	own := s.local.Own(room)
	members := make(map[string]presence.Member, len(own))
	var set, del []any
	for _, m := range own {
		members[m.ID] = m
		if w.members[m.ID] != m {
			text, _ := json.Marshal(record{m.Name, m.Since.UnixMilli(), m.Typing}) // never fails for these types
			set = append(set, s.instance+"/"+m.ID, text)
		}
	}
	for id := range w.members {
		if _, is := members[id]; !is {
			del = append(del, s.instance+"/"+id)
		}
	}
	if len(set) == 0 && len(del) == 0 {
		return nil
	}
	if len(members) == 0 {
		delete(s.written, room)
	} else {
		s.written[room] = &written{members: members, at: time.Now()}
	}
	args := []any{s.instance, room, s.keep.Milliseconds(), len(members), len(set)}
	return append(append(args, set...), del...)
}

// buryScript takes the members of an instance out of 16 rooms, tells so, and
// answers in how many rooms it may have been; 0: in none, and it is forgotten.
// One that has not expired stays, unless it is the caller's own.
const buryScript = clock + `
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[2] == '0' and expiry and tonumber(expiry) > now then return 0 end
local rooms = redis.call('SPOP', KEYS[2], 16)
local prefix = ARGV[1] .. '/'
for _, room in ipairs(rooms) do
	local key, gone = '` + roomPrefix + `' .. room, {}
	for _, field in ipairs(redis.call('HKEYS', key)) do
		if string.sub(field, 1, #prefix) == prefix then gone[#gone + 1] = field end
	end
	if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
	redis.call('PUBLISH', '` + channel + `', prefix .. room)
end
if #rooms == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return #rooms
`

// bury takes an instance out of all rooms.
func (s *session) bury(ctx context.Context, instance string, own bool) error {
	force := 0
	if own {
		force = 1
	}
	for rooms := math.MaxInt; rooms > 0; {
		var err error
		rooms, err = s.client.Eval(ctx, buryScript, []string{instancesKey, roomsPrefix + instance}, instance, force).Int()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) buryAll(ctx context.Context, dead []string) error {
	for _, instance := range dead {
		s.log.Info("presence: a gateway is gone", "instance", instance)
		if err := s.bury(ctx, instance, false); err != nil {
			return err
		}
	}
	return nil
}

// read reads rooms and tells the Local who else is there.
func (s *session) read(ctx context.Context, rooms []string) error {
	pipe := s.client.Pipeline()
	instances := pipe.ZRange(ctx, instancesKey, 0, -1)
	hashes := make([]*redis.MapStringStringCmd, len(rooms))
	for i, room := range rooms {
		hashes[i] = pipe.HGetAll(ctx, roomPrefix+room)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	if !slices.Contains(instances.Val(), s.instance) { // nor, it may be, others who will be back
		return errForgotten
	}
	for i, room := range rooms {
		f := s.follows(room)
		if f == nil {
			continue
		}
		s.local.SetOthers(room, s.others(f, hashes[i].Val(), instances.Val()))
		s.mu.Lock()
		f.current = true
		f.wasTried()
		s.mu.Unlock()
	}
	return nil
}

// others lists who is in a room at other gateways. Members of instances that
// are not known are what a Redis that drops keys has left over.
func (s *session) others(f *followed, hash map[string]string, instances []string) []presence.Member {
	found := make(map[string]elsewhere)
	for field, text := range hash {
		instance, id, _ := strings.Cut(field, "/")
		gateway := gatewayOf(instance)
		var r record
		if gateway == gatewayOf(s.instance) || !slices.Contains(instances, instance) || json.Unmarshal([]byte(text), &r) != nil {
			continue
		}
		m := presence.Member{ID: id, Name: r.Name, Since: time.UnixMilli(r.Since).UTC(), Typing: r.Typing}
		found[gateway] = elsewhere{append(found[gateway].members, m), s.instance}
	}
	if time.Now().Before(s.settled) {
		for gateway, before := range f.others {
			if _, is := found[gateway]; !is && before.reader != s.instance {
				found[gateway] = before // may be about to write them again
			}
		}
	}
	f.others = found
	var others []presence.Member
	for _, e := range found {
		others = append(others, e.members...)
	}
	slices.SortFunc(others, presence.Member.Compare)
	// For a moment, a gateway may be there as two instances.
	others = slices.CompactFunc(others, func(a, b presence.Member) bool { return a.Compare(b) == 0 })
	return others[:min(len(others), presence.MaxMembers)]
}
