package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"htip/src/ubus"
)

// instance is a program that procd keeps running.
type instance struct {
	command []string
	env     []string
	respawn []int // threshold, timeout, retry; nil for never
	reload  syscall.Signal
	term    time.Duration

	cmd      *exec.Cmd
	ended    chan struct{}
	started  time.Time
	crashes  int
	wanted   bool
	starting *time.Timer
}

func (i *instance) same(o *instance) bool {
	return slices.Equal(i.command, o.command) && slices.Equal(i.env, o.env)
}

func (i *instance) running() bool { return i.cmd != nil }

type trigger struct {
	event, pkg string
	delay      time.Duration
	command    []string
	timer      *time.Timer
}

type service struct {
	instances map[string]*instance
	triggers  []*trigger
}

// procd supervises services and runs their triggers, as far as OpenWrt's does.
type procd struct {
	mu       sync.Mutex
	services map[string]*service
}

// runProcd is the object "service" of ubus.
func runProcd(ctx context.Context, _ []string) error {
	p := &procd{services: map[string]*service{}}
	method := func(f func(ubus.Table) (ubus.Table, error)) ubus.Handler {
		return func(_ context.Context, r *ubus.Request) (ubus.Table, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return f(r.Args)
		}
	}
	s := func(names ...string) (args []ubus.Arg) {
		for _, n := range names {
			args = append(args, ubus.Arg{Name: n, Type: ubus.TypeString})
		}
		return args
	}
	_, err := serve(ctx, &ubus.Object{Name: "service", Methods: []ubus.Method{
		{Name: "set", Args: append(s("name", "script"), ubus.Arg{Name: "instances", Type: ubus.TypeTable}, ubus.Arg{Name: "triggers", Type: ubus.TypeArray}), Handler: method(p.set)},
		{Name: "delete", Args: s("name", "instance"), Handler: method(p.delete)},
		{Name: "list", Args: s("name"), Handler: method(p.list)},
		{Name: "signal", Args: append(s("name"), ubus.Arg{Name: "signal", Type: ubus.TypeInt32}), Handler: method(p.signal)},
		{Name: "event", Args: append(s("type"), ubus.Arg{Name: "data", Type: ubus.TypeTable}), Handler: method(p.event)},
	}})
	if err != nil {
		return err
	}
	<-ctx.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.services {
		p.delete(ubus.T("name", name))
	}
	return nil
}

// readInstance reads {command, env, respawn, reload_signal, term_timeout}.
func readInstance(t ubus.Table) *instance {
	i := &instance{term: 5 * time.Second, wanted: true}
	i.command, _ = t.GetStrings("command")
	i.env, _ = t.GetStrings("env")
	if words, ok := t.GetStrings("respawn"); ok {
		i.respawn = []int{3600, 5, 5}
		for k, w := range words {
			if n, err := strconv.Atoi(w); err == nil && k < 3 {
				i.respawn[k] = n
			}
		}
	}
	number := func(name string) int {
		w, _ := t.GetStrings(name)
		n, _ := strconv.Atoi(strings.Join(w, ""))
		return n
	}
	i.reload = syscall.Signal(number("reload_signal"))
	if n := number("term_timeout"); n > 0 {
		i.term = time.Duration(n) * time.Second
	}
	return i
}

// set makes a service what it shall be. A running instance whose command has not
// changed is left alone, a changed one is restarted, or signalled if it has a
// reload_signal, a missing one ended.
func (p *procd) set(t ubus.Table) (ubus.Table, error) {
	name, _ := t.GetString("name")
	sv := p.services[name]
	if sv == nil {
		sv = &service{instances: map[string]*instance{}}
		p.services[name] = sv
	}
	wanted, _ := t.GetTable("instances")
	names := map[string]bool{}
	for _, f := range wanted {
		table, _ := f.Value.(ubus.Table)
		next := readInstance(table)
		names[f.Name] = true
		was := sv.instances[f.Name]
		switch {
		case was == nil || !was.running():
			if was != nil && was.starting != nil {
				was.starting.Stop()
			}
			sv.instances[f.Name] = next
			p.start(name, next)
		case was.same(next) && was.wanted:
			was.respawn, was.reload, was.term = next.respawn, next.reload, next.term
		case was.reload != 0 && was.wanted: // procd keeps the old process for ever, too
			was.command, was.env = next.command, next.env
			was.cmd.Process.Signal(was.reload)
		default: // started again when it has ended
			sv.instances[f.Name] = next
			p.end(was)
			go func(ended chan struct{}) {
				<-ended
				p.mu.Lock()
				defer p.mu.Unlock()
				if next.wanted && !next.running() {
					p.start(name, next)
				}
			}(was.ended)
		}
	}
	for n, i := range sv.instances {
		if !names[n] {
			p.end(i)
			delete(sv.instances, n)
		}
	}
	for _, old := range sv.triggers {
		if old.timer != nil {
			old.timer.Stop()
		}
	}
	sv.triggers = nil
	list, _ := t.GetArray("triggers")
	for _, v := range list {
		row, _ := v.(ubus.Table)
		tr := &trigger{}
		tr.event, _ = row.GetString("event")
		tr.pkg, _ = row.GetString("package")
		tr.command, _ = row.GetStrings("command")
		text, _ := row.GetString("delay")
		ms, _ := strconv.Atoi(text)
		tr.delay = time.Duration(ms) * time.Millisecond
		sv.triggers = append(sv.triggers, tr)
	}
	return nil, nil
}

func (p *procd) start(name string, i *instance) {
	if len(i.command) == 0 {
		return
	}
	cmd := exec.Command(i.command[0], i.command[1:]...)
	cmd.Env = append(os.Environ(), i.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r, w, err := os.Pipe()
	if err == nil {
		cmd.Stdout, cmd.Stderr = w, w
		defer w.Close()
		go logLines(filepath.Join("/var/log", name+".log"), r)
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "procd: %s: %v\n", name, err)
		return
	}
	i.cmd, i.ended, i.started = cmd, make(chan struct{}), time.Now()
	go func() {
		cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		i.cmd = nil
		close(i.ended)
		if !i.wanted || i.respawn == nil {
			return
		}
		if time.Since(i.started) < time.Duration(i.respawn[0])*time.Second {
			i.crashes++
		} else {
			i.crashes = 0
		}
		if i.respawn[2] > 0 && i.crashes > i.respawn[2] {
			fmt.Fprintf(os.Stderr, "procd: %s is in a crash loop\n", name)
			return
		}
		i.starting = time.AfterFunc(time.Duration(i.respawn[1])*time.Second, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if i.wanted && !i.running() {
				p.start(name, i)
			}
		})
	}()
}

// logLines writes what a program says to a file, each line with the seconds since
// the router's start.
func logLines(file string, r *os.File) {
	defer r.Close()
	log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer log.Close()
	for sc := bufio.NewScanner(r); sc.Scan(); {
		up, _ := os.ReadFile("/proc/uptime")
		first, _, _ := strings.Cut(string(up), " ")
		fmt.Fprintf(log, "%8s %s\n", first, sc.Text())
	}
}

// end tells an instance to end, and kills it when it does not.
func (p *procd) end(i *instance) {
	i.wanted = false
	if i.starting != nil {
		i.starting.Stop()
	}
	if !i.running() {
		return
	}
	process, ended := i.cmd.Process, i.ended
	process.Signal(syscall.SIGTERM)
	go func() {
		select {
		case <-ended:
		case <-time.After(i.term):
			process.Kill()
		}
	}()
}

func (p *procd) delete(t ubus.Table) (ubus.Table, error) {
	name, _ := t.GetString("name")
	sv := p.services[name]
	if sv == nil {
		return nil, ubus.ErrNotFound
	}
	for _, i := range sv.instances {
		p.end(i)
	}
	delete(p.services, name)
	return nil, nil
}

func (p *procd) list(t ubus.Table) (ubus.Table, error) {
	only, _ := t.GetString("name")
	out := ubus.Table{}
	for name, sv := range p.services {
		if only != "" && only != name {
			continue
		}
		instances := ubus.Table{}
		for n, i := range sv.instances {
			row := ubus.T("running", i.running(), "command", i.command)
			if i.running() {
				row = append(row, ubus.F("pid", int64(i.cmd.Process.Pid)))
			}
			instances = append(instances, ubus.F(n, row))
		}
		out = append(out, ubus.F(name, ubus.T("instances", instances)))
	}
	return out, nil
}

func (p *procd) signal(t ubus.Table) (ubus.Table, error) {
	name, _ := t.GetString("name")
	n, ok := t.GetInt("signal")
	if !ok {
		n = int64(syscall.SIGHUP)
	}
	sv := p.services[name]
	if sv == nil {
		return nil, ubus.ErrNotFound
	}
	for _, i := range sv.instances {
		if i.running() {
			i.cmd.Process.Signal(syscall.Signal(n))
		}
	}
	return nil, nil
}

// event runs the triggers of an event, each once after its delay.
func (p *procd) event(t ubus.Table) (ubus.Table, error) {
	event, _ := t.GetString("type")
	data, _ := t.GetTable("data")
	pkg, _ := data.GetString("package")
	for _, sv := range p.services {
		for _, tr := range sv.triggers {
			if ok, _ := filepath.Match(tr.event, event); !ok || tr.pkg != "" && tr.pkg != pkg {
				continue
			}
			if tr.timer != nil {
				tr.timer.Stop()
			}
			tr.timer = time.AfterFunc(tr.delay, func() {
				cmd := exec.Command(tr.command[0], tr.command[1:]...)
				if out, err := cmd.CombinedOutput(); err != nil {
					fmt.Fprintf(os.Stderr, "procd: trigger %q: %v: %s\n", tr.command, err, out)
				}
			})
		}
	}
	return nil, nil
}

// serviceSet is what rc.common ends with: "service-set NAME SCRIPT" with lines on
// standard input that the functions of procd.sh have written: a letter and a text.
// I instance, P parameter, A one of its values, T trigger (its event), K the
// package that it is about, D its delay, C a word of its command.
func serviceSet(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want a name and a script")
	}
	var instances, one ubus.Table
	var triggers ubus.Array
	var trig ubus.Table
	var name, param string
	var values []string
	params := map[string][]string{} // of the instance; append_param goes on with one
	flushParam := func() {
		if param != "" {
			params[param] = values
			one.Set(param, values)
		}
		param, values = "", nil
	}
	flush := func() {
		if trig != nil {
			triggers = append(triggers, append(trig, ubus.F("command", values)))
			trig, values = nil, nil
		}
		flushParam()
		if name != "" {
			instances = append(instances, ubus.F(name, one))
		}
		name, one = "", nil
	}
	sc := bufio.NewScanner(os.Stdin)
	for sc.Scan() {
		letter, text, _ := strings.Cut(sc.Text(), " ")
		switch letter {
		case "I":
			flush()
			name, one = text, ubus.Table{}
			clear(params)
		case "P":
			flushParam()
			param = text
			values = params[text]
		case "A", "C":
			values = append(values, text)
		case "T":
			flush()
			trig = ubus.T("event", text)
		case "K":
			trig.Set("package", text)
		case "D":
			trig.Set("delay", text)
		default:
			return fmt.Errorf("line %q is not understood", sc.Text())
		}
	}
	flush()
	_, err := call(ctx, "service", "set", ubus.T("name", args[0], "script", args[1], "instances", instances, "triggers", triggers))
	return err
}
