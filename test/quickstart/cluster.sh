# What the quickstart's scripts share: its places, and how its server is started and stopped.
# Sourced with $top set to the checkout.

env_file=$top/.quickstart/env

die() {
	echo >&2
	echo "$(basename "$0"): $*" >&2
	exit 1
}

as_postgres() {
	(cd / && setpriv --reuid=postgres --regid=postgres --clear-groups --reset-env "$@")
}

need_root() {
	[ "$(id -u)" -eq 0 ] || die "run it as root: the server belongs to the user \"postgres\""
}

# Sets PGDATA and the rest for a quickstart that has been made.
load_env() {
	[ -f "$env_file" ] || die "there is no quickstart here yet: run \"make quickstart\""
	. "$env_file"
	bindir=$KAFKA_PG_BINDIR
	log=$(dirname "$PGDATA")/server.log
}

server_runs() {
	as_postgres "$bindir/pg_ctl" -D "$PGDATA" status >/dev/null 2>&1
}

start_server() {
	as_postgres "$bindir/pg_ctl" -D "$PGDATA" -l "$log" -w -t 300 start >/dev/null 2>&1 || {
		tail -20 "$log" >&2
		die "the server did not start; the end of its log, $log, is above"
	}
}

stop_server() {
	as_postgres "$bindir/pg_ctl" -D "$PGDATA" -m fast -w -t 120 stop >/dev/null
}

# Nobody may listen there: true if we could.
port_free() {
	perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
		LocalAddr => "127.0.0.1", LocalPort => shift, Listen => 1, ReuseAddr => 1)' "$1"
}

# Waits until the broker answers.
wait_for_broker() {
	for i in $(seq 100); do
		if kcat -b "$KAFKA_BOOTSTRAP" -L -m 5 >/dev/null 2>&1; then
			return
		fi
		sleep 0.1
	done
	tail -20 "$log" >&2
	die "nobody answers at $KAFKA_BOOTSTRAP; the end of the server's log, $log, is above"
}
