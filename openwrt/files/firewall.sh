#!/bin/sh
# The firewall's side of HTIP: a zone for our devices, and what the WAN lets in.
#
#   firewall.sh add               makes the sections, unless there are some
#   firewall.sh ports TCP UDP     makes the rules follow the options port and l2tp_port
#   firewall.sh remove            removes all sections whose names are ours
#
# The rules of each home, and what it may reach, are the daemon's: see docs/security.md.
# shellcheck disable=SC3043,SC1091

. /lib/functions.sh

# Where uci keeps our changes until they are committed: a place that is root's alone.
changes=/var/run/htip.uci

fw_uci() { uci -q -t "$changes" "$@"; }

# reload makes a running firewall take the changes over; before it has started there is
# nothing to do.
reload() {
	[ ! -e /var/run/fw4.state ] || /etc/init.d/firewall reload >/dev/null 2>&1
}

# zone_of sets zone to the name of the zone of an interface, or to the interface's name.
zone_of() {
	zone=$1
	config_foreach zone_with zone "$1"
}

zone_with() {
	local name networks one
	config_get name "$1" name
	config_get networks "$1" network
	for one in $networks; do
		[ "$one" != "$2" ] || zone=$name
	done
}

add() {
	local zone lan wan
	[ -e /etc/config/firewall ] || return 0
	rm -rf "$changes" # what one that was interrupted has left
	fw_uci get firewall.htip >/dev/null && return 0 # somebody may have changed them: they stay
	config_load firewall
	zone_of lan && lan=$zone
	zone_of wan && wan=$zone
	fw_uci batch <<END_OF_BATCH && fw_uci commit firewall && return 0
set firewall.htip=zone
set firewall.htip.name='htip'
add_list firewall.htip.device='htip-+'
set firewall.htip.family='ipv4'
set firewall.htip.input='REJECT'
set firewall.htip.output='ACCEPT'
set firewall.htip.forward='REJECT'
set firewall.htip.mtu_fix='1'
set firewall.htip_out=forwarding
set firewall.htip_out.src='$lan'
set firewall.htip_out.dest='htip'
set firewall.htip_in=forwarding
set firewall.htip_in.src='htip'
set firewall.htip_in.dest='$lan'
set firewall.htip_names=rule
set firewall.htip_names.name='HTIP names'
set firewall.htip_names.src='htip'
set firewall.htip_names.proto='tcp udp'
set firewall.htip_names.dest_port='53 4853'
set firewall.htip_names.target='ACCEPT'
set firewall.htip_ping=rule
set firewall.htip_ping.name='HTIP ping'
set firewall.htip_ping.src='htip'
set firewall.htip_ping.family='ipv4'
set firewall.htip_ping.proto='icmp'
set firewall.htip_ping.icmp_type='echo-request'
set firewall.htip_ping.target='ACCEPT'
set firewall.htip_users=rule
set firewall.htip_users.name='HTIP users to other homes'
set firewall.htip_users.src='htip'
set firewall.htip_users.dest='htip'
set firewall.htip_users.device='htip-_users'
set firewall.htip_users.direction='in'
set firewall.htip_users.proto='all'
set firewall.htip_users.target='ACCEPT'
set firewall.htip_control=rule
set firewall.htip_control.name='HTIP control'
set firewall.htip_control.src='$wan'
set firewall.htip_control.family='ipv4'
set firewall.htip_control.proto='tcp'
set firewall.htip_control.dest_port='4847'
set firewall.htip_control.target='ACCEPT'
set firewall.htip_vpn=rule
set firewall.htip_vpn.name='HTIP tunnels'
set firewall.htip_vpn.src='$wan'
set firewall.htip_vpn.family='ipv4'
set firewall.htip_vpn.proto='udp'
set firewall.htip_vpn.dest_port='17009-17073'
set firewall.htip_vpn.target='ACCEPT'
set firewall.htip_esp=rule
set firewall.htip_esp.name='HTIP ESP'
set firewall.htip_esp.src='$wan'
set firewall.htip_esp.family='ipv4'
set firewall.htip_esp.proto='esp'
set firewall.htip_esp.target='ACCEPT'
set firewall.htip_include=include
set firewall.htip_include.type='script'
set firewall.htip_include.path='/usr/share/htip/firewall.include'
set firewall.htip_include.fw4_compatible='1'
END_OF_BATCH
	rm -rf "$changes"
	echo "htip: the firewall's zone could not be made; again by: $0 add" >&2
	return 1
}

# put gives a rule another port; a rule that somebody has removed stays away.
put() {
	local old
	old=$(fw_uci get "firewall.$1.dest_port") || return 0
	[ "$old" != "$2" ] || return 0
	fw_uci set "firewall.$1.dest_port=$2"
	changed=1
}

ports() {
	local changed=
	rm -rf "$changes"
	# uci would commit these along with ours, whatever directory ours are in
	if [ -s /tmp/.uci/firewall ]; then
		logger -t htip "somebody is changing the firewall's configuration: its ports are not looked at before that is committed"
		return 0
	fi
	put htip_control "$1"
	put htip_vpn "$(($2 - 1))-$(($2 + 63))" # 64 for tunnels, one below for users
	[ -n "$changed" ] || return 0
	fw_uci commit firewall
	reload
}

# remove takes also what users have made under our names, such as a rule for
# "router:tcp:22": without the zone it is an error of the firewall.
remove() {
	local section found=
	rm -rf "$changes"
	for section in $(fw_uci show firewall | sed -n 's/^firewall\.\(htip\(_[A-Za-z0-9_]*\)\{0,1\}\)=.*/\1/p'); do
		fw_uci delete "firewall.$section" && found=1
	done
	[ -n "$found" ] || return 0
	fw_uci commit firewall
	reload
}

case $1 in
add) add ;;
ports) ports "$2" "$3" ;;
remove) remove ;;
reload) reload ;;
*)
	echo "want: $0 add, ports TCP UDP, remove or reload" >&2
	exit 2
	;;
esac
