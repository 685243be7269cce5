package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// savedTable is one table as iptables-save printed it.
type savedTable struct {
	policies map[string]string   // built-in chains
	chains   map[string][]string // rules of all chains, canonical
	raw      map[string][]string // the same as printed, without "-A <chain> "
}

// savedRules is the output of iptables-save.
type savedRules struct {
	nft    bool // iptables-nft: its tables are nftables tables
	tables map[string]*savedTable
}

// ourTables are the tables that have chains of ours.
var ourTables = []string{"raw", "mangle", "nat"}

// parseSaved reads the output of iptables-save, legacy or nft.
func parseSaved(text string) (savedRules, error) {
	s := savedRules{tables: map[string]*savedTable{}}
	var table *savedTable
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		bad := func(what string) error {
			return fmt.Errorf("iptables-save, line %d: %s: %q", n+1, what, line)
		}
		switch {
		case line == "" || line == "COMMIT":
		case line[0] == '#':
			s.nft = s.nft || strings.Contains(line, "(nf_tables)")
			// A table with native nft rules in it can't be printed, and
			// changing it would be done blindly.
			if words := strings.Fields(line); strings.Contains(line, "is incompatible") && len(words) > 2 &&
				slices.Contains(ourTables, strings.Trim(words[2], "`'")) {
				return s, bad("somebody uses this table with nft")
			}
		case line[0] == '*':
			table = &savedTable{policies: map[string]string{}, chains: map[string][]string{}, raw: map[string][]string{}}
			s.tables[line[1:]] = table
		case table == nil:
			return s, bad("before any table")
		case line[0] == ':':
			f := strings.Fields(line[1:])
			if len(f) < 2 {
				return s, bad("chain without policy")
			}
			table.chains[f[0]] = nil
			if f[1] != "-" {
				table.policies[f[0]] = f[1]
			}
		default:
			if strings.HasPrefix(line, "[") { // counters
				_, after, ok := strings.Cut(line, "] ")
				if !ok {
					return s, bad("counters without rule")
				}
				line = after
			}
			rest, ok := strings.CutPrefix(line, "-A ")
			if !ok {
				return s, bad("not a rule")
			}
			name, rule, _ := strings.Cut(rest, " ")
			if name == "" {
				return s, bad("rule without chain")
			}
			table.chains[name] = append(table.chains[name], canonicalRule(rule))
			table.raw[name] = append(table.raw[name], rule)
		}
	}
	return s, nil
}

// splitRule cuts a rule into words; a quoted string is one word.
func splitRule(rule string) []string {
	var words []string
	var b strings.Builder
	in, quoted := false, false
	for i := 0; i < len(rule); i++ {
		c := rule[i]
		switch {
		case quoted && c == '\\' && i+1 < len(rule):
			i++
			b.WriteByte(rule[i])
		case c == '"':
			quoted, in = !quoted, true
		case c == ' ' && !quoted:
			if in {
				words = append(words, b.String())
				b.Reset()
			}
			in = false
		default:
			in = true
			b.WriteByte(c)
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words
}

// canonicalRule is one spelling for the ways in which releases and variants of
// iptables print the same rule: "-s" before "-d" before "-i" before "-o", a
// length with every address, no match module that the protocol implies.
func canonicalRule(rule string) string {
	words := splitRule(rule)
	var groups [][]string
	for i := 0; i < len(words); i++ {
		w := words[i]
		option := strings.HasPrefix(w, "-") || w == "!"
		follows := i > 0 && words[i-1] == "!"
		if len(groups) == 0 || option && !follows {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], w)
	}

	proto := ""
	var head, tail [][]string
	for _, g := range groups {
		switch option := g[0]; {
		case (option == "-s" || option == "-d" || option == "--to") && len(g) == 2:
			g[1] = canonicalPrefix(g[1])
			if g[1] == "0.0.0.0/0" && option != "--to" {
				continue
			}
		case option == "-p" && len(g) == 2:
			proto = g[1]
		case option == "--tcp-flags" && len(g) == 3:
			g[1], g[2] = sortedFlags(g[1]), sortedFlags(g[2])
		}
		if rank(g) < len(headOptions) {
			head = append(head, g)
		} else {
			tail = append(tail, g)
		}
	}
	sort.SliceStable(head, func(i, j int) bool { return rank(head[i]) < rank(head[j]) })

	var out []string
	for _, g := range append(head, tail...) {
		if len(g) == 2 && g[0] == "-m" && g[1] == proto {
			continue
		}
		out = append(out, g...)
	}
	return strings.Join(out, " ")
}

var headOptions = []string{"-s", "-d", "-i", "-o", "-p"}

func rank(group []string) int {
	option := group[0]
	if option == "!" && len(group) > 1 {
		option = group[1]
	}
	if i := slices.Index(headOptions, option); i >= 0 {
		return i
	}
	return len(headOptions)
}

func sortedFlags(list string) string {
	f := strings.Split(list, ",")
	sort.Strings(f)
	return strings.Join(f, ",")
}

// canonicalPrefix gives an address its length and a mask its number of bits.
func canonicalPrefix(s string) string {
	addr, mask, ok := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is4() {
		return s
	}
	if !ok {
		return s + "/32"
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || !m.Is4() {
		return s
	}
	bits, b := 0, m.As4()
	for bits < 32 && b[bits/8]&(0x80>>(bits%8)) != 0 {
		bits++
	}
	return fmt.Sprintf("%s/%d", addr, bits)
}

// jumpsTo tells whether a canonical rule jumps to a chain of ours.
func jumpsTo(rule string) bool {
	return strings.Contains(" "+rule, " -j "+chainPrefix) || strings.Contains(" "+rule, " -g "+chainPrefix)
}

// plan is what iptables-restore --noflush must be given to get from s to want,
// and the tables (in order) that it touches. An empty text: nothing to do.
//
// Every chain of ours that differs is written anew as a whole: naming a chain
// of one's own empties it, and a table is committed at once, so there is no
// moment without rules. A jump that is missing, is there twice or stands behind
// somebody else's rule is put first, because MASQUERADE of a careless rule
// would otherwise win over NETMAP.
func (s savedRules) plan(want []chain) (text string, tables []string) {
	names := slices.Clone(ourTables)
	for _, t := range sortedKeys(s.tables) {
		if !slices.Contains(names, t) {
			names = append(names, t)
		}
	}
	var b strings.Builder
	for _, name := range names {
		var ours []chain
		for _, c := range want {
			if c.table == name {
				ours = append(ours, c)
			}
		}
		body := s.tables[name].plan(ours)
		if body == "" {
			continue
		}
		tables = append(tables, name)
		b.WriteString("*" + name + "\n" + body + "COMMIT\n")
	}
	return b.String(), tables
}

// plan is the part of one table; t may be nil: no such table yet.
func (t *savedTable) plan(want []chain) string {
	if t == nil {
		t = &savedTable{}
	}
	wanted := map[string]bool{}
	jumps := map[string][]string{} // by built-in chain
	var declare, fill []string
	for _, c := range want {
		wanted[c.name()] = true
		jumps[c.hook] = append(jumps[c.hook], c.jump())
		_, exists := t.chains[c.name()]
		if exists && slices.Equal(t.chains[c.name()], canonicalRules(c.rules)) {
			continue
		}
		declare = append(declare, ":"+c.name()+" - [0:0]")
		for _, r := range c.rules {
			fill = append(fill, "-A "+c.name()+" "+r)
		}
	}

	var hook, flush, remove []string
	for _, name := range sortedKeys(t.chains) {
		if strings.HasPrefix(name, chainPrefix) {
			if !wanted[name] {
				flush = append(flush, "-F "+name)
				remove = append(remove, "-X "+name)
			}
			continue
		}
		var unhook []string
		for i, rule := range t.chains[name] {
			if jumpsTo(rule) {
				unhook = append(unhook, "-D "+name+" "+t.raw[name][i])
			}
		}
		n := len(jumps[name])
		if len(unhook) == n && slices.Equal(t.chains[name][:n], canonicalRules(jumps[name])) {
			delete(jumps, name)
			continue
		}
		hook = append(hook, unhook...)
	}
	for _, name := range sortedKeys(jumps) {
		for _, j := range slices.Backward(jumps[name]) {
			hook = append(hook, "-I "+name+" 1 "+j)
		}
	}

	lines := slices.Concat(declare, hook, fill, flush, remove)
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func canonicalRules(rules []string) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = canonicalRule(r)
	}
	return out
}

// bare tells whether a table holds nothing: no rule, no chain but the built-in
// ones, no policy but ACCEPT.
func (t *savedTable) bare() bool {
	for name, rules := range t.chains {
		if len(rules) > 0 || t.policies[name] != "ACCEPT" {
			return false
		}
	}
	return true
}

// devicePrefixes are the peers' substitutes that the guard chain knows by
// device: the kernel's own memory of which tunnels there were.
func (s savedRules) devicePrefixes() map[string][]netip.Prefix {
	out := map[string][]netip.Prefix{}
	t := s.tables["raw"]
	if t == nil {
		return out
	}
	for _, rule := range t.chains[chainPrefix+"PREROUTING"] {
		device, source := "", ""
		words := strings.Fields(rule)
		for i := 0; i+1 < len(words); i++ {
			switch words[i] {
			case "-i":
				device = words[i+1]
			case "-s":
				source = words[i+1]
			}
		}
		p, err := netip.ParsePrefix(source)
		if err == nil && device != "" && !slices.Contains(out[device], p) {
			out[device] = append(out[device], p)
		}
	}
	return out
}

// perDevice are the rules of ours that name a device, canonical: what must be
// equal for a tunnel's flows to stay as they are. Those of mangle, about access,
// and of the users look at each packet, and a flow must not be forgotten because
// of them: see ofOurs.
func (s savedRules) perDevice() map[string][]string {
	out := map[string][]string{}
	for _, table := range sortedKeys(s.tables) {
		t := s.tables[table]
		for _, name := range sortedKeys(t.chains) {
			if strings.HasPrefix(name, chainPrefix) && table != "mangle" {
				collectByDevice(out, table, t.chains[name])
			}
		}
	}
	return out
}

func chainsPerDevice(chains []chain) map[string][]string {
	out := map[string][]string{}
	sorted := slices.Clone(chains)
	sort.SliceStable(sorted, func(i, j int) bool {
		return sorted[i].table+" "+sorted[i].name() < sorted[j].table+" "+sorted[j].name()
	})
	for _, c := range sorted {
		if c.table == "mangle" {
			continue
		}
		collectByDevice(out, c.table, canonicalRules(c.rules))
	}
	return out
}

func collectByDevice(out map[string][]string, table string, rules []string) {
	for _, r := range rules {
		if strings.Contains(r, " -j SNAT ") { // of the users: only their flows have its addresses
			continue
		}
		words := strings.Fields(r)
		for i := 0; i+1 < len(words); i++ {
			if (words[i] == "-i" || words[i] == "-o") && words[i+1] != anyDevice && words[i+1] != UsersDevice {
				out[words[i+1]] = append(out[words[i+1]], table+" "+r)
			}
		}
	}
}

// restoreAdvice turns what iptables-restore said into an error a person can act
// on.
func restoreAdvice(out string, err error) error {
	last := lastLine(out)
	switch {
	case strings.Contains(out, "NETMAP"):
		return permanent("this kernel or iptables has no NETMAP (install kmod-ipt-nat-extra and iptables-mod-nat-extra): %s", last)
	case strings.Contains(out, "TCPMSS"):
		return permanent("this kernel or iptables has no TCPMSS (install iptables-mod-ipopt or kmod-ipt-core): %s", last)
	case strings.Contains(out, "can't initialize") || strings.Contains(out, "Table does not exist"):
		return permanent("this kernel lacks an iptables table (install kmod-ipt-nat and kmod-ipt-raw, or iptables-nft): %s", last)
	}
	return errors.Join(fmt.Errorf("change the firewall rules: %s", last), err)
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
