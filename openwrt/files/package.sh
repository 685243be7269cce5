#!/bin/sh
# What a package manager's scripts do on the router itself. opkg runs "remove" before the
# old version is stopped, and "installed", in packages made by the SDK, before the new one is
# started; apk runs only "installed" for an upgrade, and "remove" after the daemon has been
# stopped.
# shellcheck disable=SC3043

upgrade() {
	[ "$PKG_UPGRADE" = 1 ] && return 0
	case " $* " in *" upgrade "*) return 0 ;; esac
	return 1
}

# ended waits for the daemon: it tells the other homes, ends its programs and removes what
# is its own, and needs its files for that.
ended() {
	local n=0
	while pidof htipd >/dev/null && [ $n -lt 45 ]; do
		n=$((n + 1))
		sleep 1
	done
}

action=$1
shift
case $action in
installed)
	# uci-defaults have made our zone: it counts from now on.
	/usr/share/htip/firewall.sh reload
	if upgrade "$@" && pidof htipd >/dev/null; then
		# by apk: the old program is still running
		/etc/init.d/htip handover
		/etc/init.d/htip start
	fi
	;;
remove)
	if upgrade "$@"; then
		/etc/init.d/htip handover
	else
		/etc/init.d/htip stop
		ended
		/usr/share/htip/firewall.sh remove
		rm -rf /var/run/htip /var/run/htip.uci
	fi
	;;
*)
	echo "want: $0 installed or remove" >&2
	exit 2
	;;
esac
exit 0
