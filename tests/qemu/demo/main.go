// Command demo shows the main job: two homes with the same network, one
// request, and a page of the other home fetched by name. It runs real routers
// under QEMU; scripts/setup must have been run.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

const picture = `
   host A 10.0.0.4                                                  host B 10.0.0.5
   "pc"                                                             "nas"
      |                                                                |
   10.0.0.0/24    [router A]------ the Internet ------[router B]    10.0.0.0/24
                  alice.example.org                   bob.example.org

Both homes use 10.0.0.0/24. Neither renumbers, and there is no server between them.
`

func run(ctx context.Context) (err error) {
	fmt.Print(picture)
	title("Two routers boot (MIPS, each with its own Linux kernel)")
	l, err := lab.New(ctx, lab.Options{Logf: func(f string, a ...any) { fmt.Printf("   "+f+"\n", a...) }})
	if err != nil {
		return err
	}
	defer func() {
		title("Everything is taken down again")
		if e := l.Close(); err == nil {
			err = e
		}
	}()
	home := func(name, host, hostName string) homes.Spec {
		a := netip.MustParseAddr(host)
		return homes.Spec{
			Name: name, Main: "\toption candidates 'sequential'\n\tlist pool '10.0.0.0/8'\n",
			LAN: lab.LAN{Router: netip.MustParsePrefix("10.0.0.1/24"), Host: a, Names: map[string]netip.Addr{hostName: a}},
		}
	}
	begin := time.Now()
	hs, err := homes.Start(ctx, l, home("alice", "10.0.0.4", "pc"), home("bob", "10.0.0.5", "nas"))
	if err != nil {
		return err
	}
	a, b := hs[0], hs[1]
	fmt.Printf("   both are up after %.0f s; each runs htipd, and knows the other's key\n", time.Since(begin).Seconds())

	stop, err := b.Host.Serve("10.0.0.5:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello %s, this is the web server of bob's nas.\n", strings.Split(r.RemoteAddr, ":")[0])
	}))
	if err != nil {
		return err
	}
	defer stop()

	title("One request, on router A")
	if err := command(ctx, a, "htip connect bob.example.org --wait"); err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, a.Log(), b.Log())
	}
	if _, err := b.WaitState(ctx, "alice", "up"); err != nil {
		return err
	}
	title("The connection tables")
	for _, h := range hs {
		if err := command(ctx, h, "htip status"); err != nil {
			return err
		}
	}
	title("Host A asks its own router for a name of the other home")
	const name = "nas.bob.internal"
	addrs, err := a.Host.Lookup(ctx, name)
	if err != nil {
		return fmt.Errorf("looking up %s: %w", name, err)
	}
	fmt.Printf("   %s has address %v\n", name, addrs[0])

	title("Host A fetches a page from host B by that name")
	fmt.Printf("   host A$ curl http://%s/\n", name)
	resp, err := a.Host.HTTP().Get("http://" + name + "/")
	if err != nil {
		return fmt.Errorf("fetching the page: %w", err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("fetching the page: %w", err)
	}
	fmt.Printf("   %s", page)

	title("A packet of host A on its way, and the answer (the routers' own tcpdump)")
	request, reply, err := homes.Hops(ctx, a, b, addrs[0])
	if err != nil {
		return err
	}
	if len(request) != 4 || len(reply) != 4 {
		return fmt.Errorf("the packet was not seen at all four hops: %v %v", request, reply)
	}
	for _, h := range append(request, reply...) {
		fmt.Printf("   %v\n", h)
	}

	title("Disconnect")
	if err := command(ctx, a, "htip disconnect bob"); err != nil {
		return err
	}
	for _, h := range hs {
		if err := h.StopDaemon(ctx); err != nil {
			return err
		}
	}
	return command(ctx, a, "ip -br link | grep -c htip-; iptables-save | grep -c NETMAP")
}

var number int

func title(s string) {
	number++
	fmt.Printf("\n%d. %s\n", number, s)
}

// command runs a command on a home's router and shows both.
func command(ctx context.Context, h *homes.Home, cmd string) error {
	fmt.Printf("   router %s# %s\n", strings.ToUpper(h.Name[:1]), cmd)
	res, err := h.Router.Run(ctx, cmd)
	for _, line := range strings.Split(strings.TrimRight(res.Output, "\n"), "\n") {
		fmt.Printf("   %s\n", line)
	}
	if err == nil && res.Code != 0 && !strings.Contains(cmd, "grep -c") {
		err = fmt.Errorf("%s ended with exit code %d", cmd, res.Code)
	}
	return err
}
