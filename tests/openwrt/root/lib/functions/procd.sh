# A stand-in for OpenWrt's procd.sh: it writes down what a script asks for, and
# service-set sends it to procd.
# shellcheck shell=sh disable=SC3043,SC2154

procd_say() { printf '%s\n' "$*" >>"$PROCD_FILE"; }
procd_values() {
	local letter=$1 value
	shift
	for value in "$@"; do procd_say "$letter $value"; done
}

procd_open_instance() { procd_say "I ${1:-instance1}"; }
procd_close_instance() { :; }
procd_set_param() {
	case $1 in
	command | env | respawn | term_timeout | stdout | stderr)
		procd_say "P $1"
		shift
		procd_values A "$@"
		;;
	reload_signal)
		procd_say "P reload_signal"
		procd_say "A $(kill -l "$2")"
		;;
	*) echo "procd_set_param: $1 is not known here" >&2 ;;
	esac
}
procd_append_param() { procd_set_param "$@"; }

procd_add_reload_trigger() {
	local package
	for package in "$@"; do
		procd_say "T config.change"
		procd_say "K $package"
		procd_say "D 1000"
		procd_values C "/etc/init.d/$service" reload
	done
}
procd_add_raw_trigger() {
	procd_say "T $1"
	procd_say "D $2"
	shift 2
	procd_values C "$@"
}

procd_send_signal() {
	ubus call service signal "{\"name\":\"$1\",\"signal\":$(kill -l "$3")}"
}

# uci_load_validate PACKAGE TYPE SECTION FUNCTION OPTION…: calls the function with
# the section's name and 0, or with something else when an option is wrong.
uci_load_validate() {
	local package=$1 type=$2 section=$3 function=$4 option text rc
	shift 4
	for option in "$@"; do eval "local ${option%%:*}"; done
	text=$(owrt validate_data "$package" "$type" "$section" "$@")
	rc=$?
	eval "$text"
	"$function" "$section" "$rc"
}
