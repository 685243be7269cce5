# A stand-in for OpenWrt's /lib/functions.sh: what init scripts and packages' scripts
# of ours call, with the same meaning.
# shellcheck shell=sh disable=SC3043,SC2034,SC1090,SC2013

config_load() { eval "$(owrt config-load "$1")"; }

# config_get VARIABLE SECTION OPTION [DEFAULT]
config_get() { eval "$1=\"\${CONFIG_$2_$3:-\$4}\""; }

config_get_bool() {
	config_get "$1" "$2" "$3" "$4"
	eval "case \$$1 in 1|on|true|yes|enabled) $1=1 ;; 0|off|false|no|disabled) $1=0 ;; *) $1=\$4 ;; esac"
}

# config_foreach FUNCTION TYPE [ARGUMENT…]
config_foreach() {
	local function=$1 type=$2 section is
	shift 2
	for section in $CONFIG_SECTIONS; do
		config_get is "$section" TYPE
		[ "$is" != "$type" ] || "$function" "$section" "$@"
	done
}

# What opkg's postinst and prerm of every package call.
default_postinst() {
	local name file rc=0
	name=$(basename "${1%.*}")
	for file in $(grep -s "^/etc/uci-defaults/" "/usr/lib/opkg/info/$name.list"); do
		# shellcheck disable=SC2015
		( [ -f "$file" ] && cd "$(dirname "$file")" && . "$file" ) && rm -f "$file"
	done
	uci commit
	if [ -f "/usr/lib/opkg/info/$name.postinst-pkg" ]; then
		( . "/usr/lib/opkg/info/$name.postinst-pkg" )
		rc=$?
	fi
	for file in $(grep -s "^/etc/init.d/" "/usr/lib/opkg/info/$name.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" enable
		"$file" start
	done
	return $rc
}

default_prerm() {
	local name file rc=0
	name=$(basename "${1%.*}")
	if [ -f "/usr/lib/opkg/info/$name.prerm-pkg" ]; then
		( . "/usr/lib/opkg/info/$name.prerm-pkg" )
		rc=$?
	fi
	for file in $(grep -s "^/etc/init.d/" "/usr/lib/opkg/info/$name.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" disable
		"$file" stop
	done
	return $rc
}
