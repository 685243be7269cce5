package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
)

// TestSavesAreBounded: a peer that has other networks at every tunnel doesn't
// wear the flash out. Nothing is lost by that.
func TestSavesAreBounded(t *testing.T) {
	dir := t.TempDir()
	d := lonely(t, dir, config.Key{1})
	path := filepath.Join(dir, stateFile)
	writes := 0
	var last os.FileInfo
	look := func() {
		if st, err := os.Stat(path); err == nil && (last == nil || !os.SameFile(st, last) || st.ModTime() != last.ModTime()) {
			writes, last = writes+1, st
		}
	}
	record := func(i int) htip.Record {
		p := px(fmt.Sprintf("10.%d.0.0/24", i))
		return htip.Record{Theirs: []htip.Mapping{{Network: p, Substitute: p}}}
	}
	onFlash := func() htip.Record {
		tab, err := readTable(path)
		if err != nil {
			t.Fatal(err)
		}
		st, err := decodeState(tab)
		if err != nil {
			t.Fatal(err)
		}
		return st["bob"].Record
	}
	for i := range 200 {
		d.act([]htip.Action{htip.Save{Peer: "bob", Record: record(i)}})
		look()
		if got := d.known("bob").Record; !got.Equal(record(i)) {
			t.Fatalf("in memory: %v", got)
		}
	}
	if writes != saveBurst {
		t.Errorf("%d writes for 200 changes", writes)
	}
	if d.unsaved == nil || onFlash().Equal(record(199)) {
		t.Error("nothing waits to be written")
	}
	// What a person says is written at once, and the rest with it.
	d.remember("bob", func(st *homeState) { st.Wanted = true })
	if !onFlash().Equal(record(199)) || d.unsaved != nil {
		t.Error("not written with what a person said")
	}
	// When the daemon is stopped, or its time has come, it is written, too.
	d.act([]htip.Action{htip.Save{Peer: "bob", Record: record(7)}})
	if onFlash().Equal(record(7)) {
		t.Error("written at once")
	}
	if d.writeUnsaved(); !onFlash().Equal(record(7)) {
		t.Error("lost at the stop")
	}
	look()
	before := writes
	if d.writeUnsaved(); d.unsaved != nil {
		t.Error("still waiting")
	}
	if look(); writes != before {
		t.Error("written twice")
	}
}

// TestFriends: who is expected from where.
func TestFriends(t *testing.T) {
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	var f friends
	f.keep(nil)
	if f.expected(addr(1)) {
		t.Error("nobody is known")
	}
	f.add(addr(1), "alice")
	f.add(addr(1), "mallory") // says that it lives there, too
	for i := range 100 {
		f.add(addr(2+i), "mallory")
	}
	if !f.expected(addr(1)) || !f.expected(addr(101)) || f.expected(addr(50)) || len(f.list) != 1+addrsPerPeer {
		t.Errorf("%d kept", len(f.list))
	}
	for range 10 {
		f.add(addr(101), "mallory") // no other one goes for what is there
	}
	if !f.expected(addr(98)) {
		t.Error("forgotten")
	}
	f.keep(func(name string) *config.Peer {
		if name == "alice" {
			return &config.Peer{}
		}
		return nil
	})
	if !f.expected(addr(1)) || f.expected(addr(101)) {
		t.Error("the addresses of a home that is no peer any more")
	}
}

// TestCrowdedLooksNamesUp: a peer whose address has changed is found by its
// name, and names are not asked for at every stranger's knock; the firewall
// keeps most strangers out until they are gone.
func TestCrowdedLooksNamesUp(t *testing.T) {
	d := lonely(t, t.TempDir(), config.Key{1})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d.ctx = ctx
	names := &FakeNames{}
	d.names = names
	d.cfg.Peers[0].Domain, d.cfg.Main.Port = "bob.example.org", 4847
	go func() {
		for {
			select {
			case f := <-d.events:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	names.SetA("bob.example.org", first)
	if d.friends.expected(first) {
		t.Error("looked up although nothing was the matter")
	}
	d.crowded()
	d.tasks.Wait()
	names.SetA("bob.example.org", second)
	for range 1000 {
		d.crowded()
	}
	d.tasks.Wait()
	if !d.friends.expected(first) || d.friends.expected(second) {
		t.Error("not looked up once and once only")
	}
	door := func() (w datapath.Door) {
		d.call(ctx, func() { w = d.wish().wanted.Door })
		return w
	}
	if w := door(); w.Port != d.cfg.Main.Port || !slices.Equal(w.Friends, []netip.Addr{first}) {
		t.Errorf("the firewall is asked for %+v", w)
	}
	d.call(ctx, func() { d.crowd.Reset(0) }) // they are gone for long enough
	for i := 0; door().Port != 0; i++ {
		if i > 1000 {
			t.Fatal("the door stays closed")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestTurns: everybody is in a round once, wherever it begins. The routers have
// 32 bits: GOARCH=386 go test.
func TestTurns(t *testing.T) {
	for _, x := range []struct {
		begin uint64
		want  string
	}{{0, "abc"}, {1, "bca"}, {1<<64 - 1, "abc"}, {1<<63 - 1, "bca"}, {1<<31 - 1, "bca"}} {
		got := ""
		for i := range 3 {
			got += string("abc"[turn(x.begin, i, 3)])
		}
		if got != x.want {
			t.Errorf("from %d: %s", x.begin, got)
		}
	}
}

// TestDoorStaysClosed: strangers who come when the time is up, but the loop was
// busy, find the door closed.
func TestDoorStaysClosed(t *testing.T) {
	d := lonely(t, t.TempDir(), config.Key{1})
	d.ctx, d.events = t.Context(), make(chan func(), 2)
	d.closeDoor()
	d.crowd.Reset(0)
	up := <-d.events // what the loop would do now
	d.closeDoor()
	if up(); d.crowd == nil {
		t.Fatal("open in the middle of a crowd")
	}
	d.crowd.Reset(0)
	if (<-d.events)(); d.crowd != nil {
		t.Error("closed for ever")
	}
}

// TestPaceIsThePeers: more connections bring no more messages through.
func TestPaceIsThePeers(t *testing.T) {
	d := lonely(t, t.TempDir(), config.Key{1})
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*paceEvery)
	defer cancel()
	p := &d.rate("bob").pace
	if p != &d.rate("bob").pace || p == &d.rate("carol").pace {
		t.Fatal("not each peer's own")
	}
	var n atomic.Int32
	done := make(chan bool)
	for range 5 {
		go func() {
			for p.wait(ctx); ctx.Err() == nil; p.wait(ctx) {
				n.Add(1)
			}
			done <- true
		}()
	}
	for range 5 {
		<-done
	}
	took := time.Since(began) // which a busy machine makes longer
	if got := int(n.Load()); got < paceBurst || got > paceBurst+int(took/paceEvery) {
		t.Errorf("%d messages in %v", got, took)
	}
}
