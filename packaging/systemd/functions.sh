# Of the scripts of both packages, .deb and .rpm. POSIX sh.

is_booted() {
  [ -d /run/systemd/system ]
}

reload_units() {
  ! is_booted || systemctl daemon-reload || true
}

# system_user NAME HOME
system_user() {
  getent group "$1" > /dev/null || groupadd --system "$1"
  getent passwd "$1" > /dev/null ||
    useradd --system --gid "$1" --home-dir "$2" --no-create-home --shell /usr/sbin/nologin --comment "Istio" "$1"
}

# empty_out DIRECTORY... : and away with it, unless it is a link or another file system, which the administrator made.
empty_out() {
  for directory in "$@"; do
    [ -d "$directory" ] || continue
    find "$directory/" -mindepth 1 -delete || true
    [ -L "$directory" ] || rmdir "$directory" 2> /dev/null || true
  done
}

# What serves lets a new process take over, and loses no connection; what can't is restarted. A new process that does not come up leaves the
# old one where it is.
hand_over_running() {
  is_booted || return 0
  for unit in $(systemctl list-units --plain --no-legend --state=active,reloading "$@" | cut -d ' ' -f 1); do
    before=$(systemctl show --property=MainPID --value "$unit")
    if ! systemctl reload "$unit"; then
      echo "$unit goes on with the program that it was started with; why: journalctl -u $unit" >&2
    elif [ "$(systemctl show --property=MainPID --value "$unit")" = "$before" ]; then
      restart_running "$unit"
    fi
  done
  for unit in $(systemctl list-units --plain --no-legend --state=activating "$@" | cut -d ' ' -f 1); do restart_running "$unit"; done
}

# What runs goes on with the new program. Does not wait: a control plane that is away must not hold up an upgrade.
restart_running() {
  ! is_booted || systemctl try-restart --no-block "$@" || true
}

# Restarts that come ever later, where systemd knows the words (254); an older one would complain about them.
write_backoff() {
  version=$(systemctl --version 2> /dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 254 ] || return 0
  for unit in "$@"; do
    mkdir -p "@UNITS@/$unit.d"
    printf '[Service]\nRestartSteps=5\nRestartMaxDelaySec=15s\n' > "@UNITS@/$unit.d/backoff.conf"
  done
}

remove_backoff() {
  for unit in "$@"; do
    rm -f "@UNITS@/$unit.d/backoff.conf"
    [ ! -d "@UNITS@/$unit.d" ] || rmdir --ignore-fail-on-non-empty "@UNITS@/$unit.d"
  done
}
