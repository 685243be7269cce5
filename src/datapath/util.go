package datapath

import (
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// Sorting goes through package sort: each instance of a sort of package slices
// costs 10 kB of program.

func sortedKeys[V any](m map[string]V) []string {
	keys := slices.Collect(maps.Keys(m))
	sort.Strings(keys)
	return keys
}

func sortPrefixes(ps []netip.Prefix) {
	sort.Slice(ps, func(i, j int) bool { return comparePrefixes(ps[i], ps[j]) < 0 })
}

func compareStrings(a, b string) int { return strings.Compare(a, b) }
